//! A leader's view of the apps: which want a look, who looks, and what was heard.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use tokio::time::Instant;

use super::gc::Collector;
use super::known::{Era, Known};
use super::queue::{Item, Queue};
use super::reconcile::{Acted, Next, Reconciler, is_race};
use super::record::AppRecord;
use super::room::Rooms;
use super::run::Engine;
use super::store::{APP, Store, Versioned, decode};
use super::trouble::Troubles;
use crate::Result;
use crate::model::{AppId, Epoch, Record, RecordChange, Resource, Scope, TenantId, Timestamp};
use crate::port::Hint;

/// How many looks at everything are at what is known, before it is read again: a store that loses a change against its
/// contract costs no more than that.
const KNOWN: u32 = 10;

/// How often in a row looks at an app may come to nothing before it is told that somebody else was faster: a backend may go on
/// to find in its way what nobody takes out of it.
const RACES: u32 = 4;

/// What wakes the loop.
pub(super) enum Wake {
    Hint(Hint),
    Changed(RecordChange),
    /// A stream of hints ended.
    Deaf,
}

/// Every app there is, and since when what was read is told of.
pub(super) type Listed = (Era, Vec<Versioned<AppRecord>>);

/// The loop's state in one term.
pub(super) struct Leader {
    pub(super) scope: Scope,
    reconciler: Arc<Reconciler>,
    pub(super) queue: Queue,
    apps: BTreeMap<AppId, TenantId>,
    /// Which were told of since the look at everything began that goes on, if one does: it may have missed them.
    told: BTreeSet<AppId>,
    pub(super) passes: FuturesUnordered<BoxFuture<'static, (Item, Result<Next>)>>,
    pub(super) wakes: SelectAll<BoxStream<'static, Wake>>,
    /// Looks at everything that go on: at most one.
    pub(super) listings: FuturesUnordered<BoxFuture<'static, Result<Listed>>>,
    /// Looks for garbage that go on: at most one.
    pub(super) collections: FuturesUnordered<BoxFuture<'static, Collector>>,
    collector: Option<Collector>,
    deaf: bool,
    /// Looks at everything since it was read.
    since: u32,
    /// The calls that the last look at an app has made.
    acted: BTreeMap<AppId, Acted>,
    troubles: Troubles,
    pub(super) rooms: Rooms,
}

impl Leader {
    pub(super) fn new(engine: &Engine, epoch: Epoch) -> Self {
        let scope = Scope::engine(Resource::Platform, epoch);
        let store = Store { scope: scope.clone(), ..engine.store.clone() };
        let tenancies = engine.ports.tenancies.clone();
        let rooms = Rooms::new(tenancies, store.clone(), scope.clone(), epoch);
        let reconciler = Reconciler {
            ports: engine.ports.clone(),
            store,
            clock: engine.clock.clone(),
            epoch,
            revisions: engine.revisions.clone(),
            known: Known::default(),
            rests: Arc::default(),
            events: engine.events.clone(),
        };
        Self {
            scope,
            reconciler: Arc::new(reconciler),
            queue: Queue::default(),
            apps: BTreeMap::new(),
            told: BTreeSet::new(),
            passes: FuturesUnordered::new(),
            wakes: SelectAll::new(),
            listings: FuturesUnordered::new(),
            collections: FuturesUnordered::new(),
            collector: Some(Collector::default()),
            deaf: false,
            since: KNOWN,
            acted: BTreeMap::new(),
            troubles: engine.troubles.clone(),
            rooms,
        }
    }

    /// Opens every stream of hints; what cannot be opened is tried again at the next resync.
    pub(super) async fn listen(&mut self) {
        self.wakes = SelectAll::new();
        self.deaf = false;
        let ports = &self.reconciler.ports;
        let streams = [
            ports.scheduler.watch(&self.scope).await.map(|hints| hints.map(Wake::Hint).boxed()),
            ports.router.watch(&self.scope).await.map(|hints| hints.map(Wake::Hint).boxed()),
            ports.state.watch(&self.scope, APP, None).await.map(|changes| changes.map(Wake::Changed).boxed()),
        ];
        for stream in streams {
            match stream {
                Ok(stream) => {
                    let ended = futures_util::stream::once(std::future::ready(Wake::Deaf));
                    self.wakes.push(stream.chain(ended).boxed());
                }
                Err(error) => {
                    tracing::warn!(?error, "cannot watch");
                    self.deaf = true;
                }
            }
        }
        self.reconciler.known.begin(!self.deaf);
        self.since = KNOWN;
    }

    /// Looks at everything, beside whatever else goes on: a slow store must not keep the leader from leading.
    pub(super) async fn resync(&mut self) {
        if self.deaf {
            self.listen().await;
        }
        self.rooms.listen();
        self.since += 1;
        if self.reconciler.known.is_told() && (1..KNOWN).contains(&self.since) {
            self.apps.iter().for_each(|(app, tenant)| self.queue.put((tenant.clone(), app.clone())));
        } else {
            self.list();
        }
        if let Some(collector) = self.collector.take_if(|collector| collector.is_due()) {
            self.collections.push(Box::pin(collector.collect(self.reconciler.store.clone())));
        }
    }

    fn list(&mut self) {
        if self.listings.is_empty() {
            self.told.clear();
            let (store, era) = (self.reconciler.store.clone(), self.reconciler.known.era());
            self.listings.push(Box::pin(async move { Ok((era, store.list_readable(APP).await?.0)) }));
        }
    }

    /// Every app there is wants a look.
    pub(super) fn listed(&mut self, listed: Result<Listed>) -> Result<()> {
        let (era, apps) = listed?;
        let listed: BTreeMap<_, _> =
            apps.iter().map(|app| (app.value.id.clone(), app.value.tenant.clone())).collect();
        self.apps.retain(|app, _| listed.contains_key(app) || self.told.contains(app));
        self.apps.extend(listed);
        if era == self.reconciler.known.era() {
            self.since = 0;
            self.reconciler.known.listed(era, &apps);
        } else {
            // Changes were missed meanwhile, and it may have been too early to see them.
            self.list();
        }
        self.acted.retain(|app, _| self.apps.contains_key(app));
        apps.into_iter().for_each(|app| self.queue.put((app.value.tenant, app.value.id)));
        Ok(())
    }

    pub(super) fn collected(&mut self, collector: Collector) {
        self.collector = Some(collector);
    }

    pub(super) async fn hear(&mut self, wake: Wake) {
        match wake {
            Wake::Hint(Hint::App(app)) => {
                if let Some(tenant) = self.apps.get(&app) {
                    self.queue.put((tenant.clone(), app));
                }
            }
            Wake::Changed(RecordChange::Put(record)) => self.changed(&record),
            Wake::Changed(RecordChange::Deleted(key)) => {
                if let Ok(app) = AppId::new(&key.id) {
                    self.reconciler.known.bury(&app);
                    self.apps.remove(&app);
                }
            }
            Wake::Hint(Hint::Reset) => self.resync().await,
            Wake::Changed(RecordChange::Reset) => {
                self.reconciler.known.begin(true);
                self.list();
            }
            Wake::Deaf => {
                self.deaf = true;
                self.reconciler.known.begin(false);
            }
        }
    }

    /// An app's record was written.
    fn changed(&mut self, record: &Record) {
        let (Some(tenant), Ok(app)) = (&record.key.tenant, AppId::new(&record.key.id)) else { return };
        let known = &self.reconciler.known;
        let is_news = known.is_news(&app, record.version);
        if known.lacks(&app, record.version) {
            match decode(record) {
                Ok(value) => known.put(known.era(), Versioned { value, version: record.version }),
                // Whoever reads it tells.
                Err(_) => known.forget(&app),
            }
        }
        self.apps.insert(app.clone(), tenant.clone());
        self.told.insert(app.clone());
        let item = (tenant.clone(), app);
        if is_news { self.queue.put_anew(item) } else { self.queue.put(item) }
    }

    pub(super) fn fill(&mut self, concurrency: usize) {
        while self.passes.len() < concurrency {
            let Some(item) = self.queue.take(Instant::now()) else { break };
            let reconciler = Arc::clone(&self.reconciler);
            self.passes.push(Box::pin(async move {
                let outcome = reconciler.pass(&item.0, &item.1).await;
                (item, outcome)
            }));
        }
    }

    /// Takes in how a pass has ended: of a later term that was met, it tells.
    pub(super) fn finish(&mut self, item: &Item, outcome: Result<Next>) -> Option<Epoch> {
        // Whoever is slower again and again has more than bad luck.
        let is_race = outcome.as_ref().err().is_some_and(is_race) && self.queue.failures(item) < RACES;
        match &outcome {
            Ok(_) => self.troubles.end(&item.1),
            Err(_) if is_race => {}
            Err(error) => self.troubles.put(&item.1, error),
        }
        match outcome {
            Ok(Next::Deposed(later)) => return Some(later),
            Ok(Next::Acted(acted))
                if self.acted.get(&item.1).is_some_and(|last| last.calls == acted.calls) =>
            {
                tracing::warn!(tenant = %item.0, app = %item.1, "the same calls again");
                if self.acted.insert(item.1.clone(), acted) == Some(acted) {
                    // The backend took them and does not show it: asking on and on would only keep both busy.
                    self.queue.failed(item, None, Instant::now());
                } else {
                    self.queue.undone(item, Instant::now());
                }
            }
            Ok(next) => {
                self.acted.remove(&item.1);
                self.queue.done(item);
                match next {
                    Next::Again => self.queue.put(item.clone()),
                    Next::Acted(acted) => {
                        self.acted.insert(item.1.clone(), acted);
                        self.queue.put(item.clone());
                    }
                    Next::At(Some(at)) => self.queue.put_at(item.clone(), self.instant(at)),
                    Next::At(None) | Next::Deposed(_) => {}
                }
            }
            Err(error) => {
                let (tenant, app) = (&item.0, &item.1);
                if is_race {
                    tracing::debug!(%tenant, %app, ?error, "somebody else was faster");
                } else {
                    tracing::warn!(%tenant, %app, ?error, "a pass failed");
                }
                self.queue.failed(item, error.retry_after(), Instant::now());
            }
        }
        None
    }

    fn instant(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.reconciler.clock.now())
    }
}
