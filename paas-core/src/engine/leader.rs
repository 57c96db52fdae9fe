//! A leader's view of the apps: which want a look, who looks, and what was heard.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use tokio::time::Instant;

use super::gc::Collector;
use super::lease::not_leading;
use super::queue::{Item, Queue};
use super::reconcile::{Acted, Next, Reconciler, is_race};
use super::record::AppRecord;
use super::run::Engine;
use super::store::{APP, Store};
use crate::Result;
use crate::model::{AppId, Epoch, RecordChange, Resource, Scope, TenantId, Timestamp};
use crate::port::Hint;

/// What wakes the loop.
pub(super) enum Wake {
    Hint(Hint),
    Changed(RecordChange),
    /// A stream of hints ended.
    Deaf,
}

/// The loop's state in one term.
pub(super) struct Leader {
    pub(super) scope: Scope,
    reconciler: Arc<Reconciler>,
    pub(super) queue: Queue,
    apps: BTreeMap<AppId, TenantId>,
    pub(super) passes: FuturesUnordered<BoxFuture<'static, (Item, Result<Next>)>>,
    pub(super) wakes: SelectAll<BoxStream<'static, Wake>>,
    /// Looks at everything that go on: at most one.
    pub(super) listings: FuturesUnordered<BoxFuture<'static, Result<Vec<AppRecord>>>>,
    /// Looks for garbage that go on: at most one.
    pub(super) collections: FuturesUnordered<BoxFuture<'static, Collector>>,
    collector: Option<Collector>,
    deaf: bool,
    /// The calls that the last look at an app has made.
    acted: BTreeMap<AppId, Acted>,
}

impl Leader {
    pub(super) fn new(engine: &Engine, epoch: Epoch) -> Self {
        let scope = Scope::engine(Resource::Platform, epoch);
        let store = Store { scope: scope.clone(), ..engine.store.clone() };
        let reconciler = Reconciler {
            ports: engine.ports.clone(),
            store,
            clock: engine.clock.clone(),
            epoch,
            revisions: engine.revisions.clone(),
            events: engine.events.clone(),
        };
        Self {
            scope,
            reconciler: Arc::new(reconciler),
            queue: Queue::default(),
            apps: BTreeMap::new(),
            passes: FuturesUnordered::new(),
            wakes: SelectAll::new(),
            listings: FuturesUnordered::new(),
            collections: FuturesUnordered::new(),
            collector: Some(Collector::default()),
            deaf: false,
            acted: BTreeMap::new(),
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
    }

    /// Looks at everything, beside whatever else goes on: a slow store must not keep the leader from leading.
    pub(super) async fn resync(&mut self) {
        if self.deaf {
            self.listen().await;
        }
        if self.listings.is_empty() {
            let store = self.reconciler.store.clone();
            self.listings.push(Box::pin(async move { Ok(store.list_readable(APP).await?.0) }));
        }
        if let Some(collector) = self.collector.take_if(|collector| collector.is_due()) {
            self.collections.push(Box::pin(collector.collect(self.reconciler.store.clone())));
        }
    }

    /// Every app there is wants a look.
    pub(super) fn listed(&mut self, apps: Result<Vec<AppRecord>>) -> Result<()> {
        let apps = apps?;
        self.apps = apps.iter().map(|app| (app.id.clone(), app.tenant.clone())).collect();
        self.acted.retain(|app, _| self.apps.contains_key(app));
        apps.into_iter().for_each(|app| self.queue.put((app.tenant, app.id)));
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
            Wake::Changed(RecordChange::Put(record)) => {
                if let (Some(tenant), Ok(app)) = (record.key.tenant, AppId::new(&record.key.id)) {
                    self.apps.insert(app.clone(), tenant.clone());
                    self.queue.put_anew((tenant, app));
                }
            }
            Wake::Changed(RecordChange::Deleted(_)) => {}
            Wake::Hint(Hint::Reset) | Wake::Changed(RecordChange::Reset) => self.resync().await,
            Wake::Deaf => self.deaf = true,
        }
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

    /// Takes in how a pass has ended.
    ///
    /// # Errors
    /// That somebody else leads.
    pub(super) fn finish(&mut self, item: &Item, outcome: Result<Next>) -> Result<()> {
        match outcome {
            Ok(Next::Deposed) => return Err(not_leading()),
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
                    Next::At(None) | Next::Deposed => {}
                }
            }
            Err(error) => {
                let (tenant, app) = (&item.0, &item.1);
                if is_race(&error) {
                    tracing::debug!(%tenant, %app, ?error, "somebody else was faster");
                } else {
                    tracing::warn!(%tenant, %app, ?error, "a pass failed");
                }
                self.queue.failed(item, error.retry_after(), Instant::now());
            }
        }
        Ok(())
    }

    fn instant(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.reconciler.clock.now())
    }
}
