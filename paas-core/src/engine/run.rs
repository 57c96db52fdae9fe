//! The engine's loop: lead, listen, look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::gc::Collector;
use super::lease::{Lease, Term};
use super::queue::{Item, Queue};
use super::reconcile::{Next, Reconciler, RevisionCache, is_race};
use super::record::AppRecord;
use super::store::{APP, Store};
use crate::Result;
use crate::model::{
    Action, AppId, AppName, Clock, Epoch, OperationEvent, OperationId, Principal, RecordChange, Resource,
    Scope, TenantId, Timestamp,
};
use crate::port::{Hint, Router, Scheduler, Selector, StateStore, VolumeStore};

/// The backends that the engine works with.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Runs instances.
    pub scheduler: Arc<dyn Scheduler>,
    /// Brings requests to them.
    pub router: Arc<dyn Router>,
    /// Holds their data.
    pub volumes: Arc<dyn VolumeStore>,
    /// Keeps the records.
    pub state: Arc<dyn StateStore>,
}

/// How an engine works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// The name of this replica of the platform: stable over its restarts, and different from every other replica's.
    pub replica: String,
    /// How long a leader may be silent before another takes over.
    pub lease: Duration,
    /// How often every app is looked at, whatever events say.
    pub resync: Duration,
    /// How many apps are looked at at once.
    pub concurrency: usize,
    /// Whether this replica may lead. One that may not still accepts calls: it stores what is asked for, and the
    /// leader acts on it.
    pub lead: bool,
}

impl Default for EngineConfig {
    /// One replica, 15 s of lease, a look at least every 30 s, 16 at once.
    fn default() -> Self {
        Self {
            replica: "single".to_owned(),
            lease: Duration::from_secs(15),
            resync: Duration::from_secs(30),
            concurrency: 16,
            lead: true,
        }
    }
}

/// Something that happened in an operation, as the leader tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineEvent {
    /// Whose app.
    pub tenant: TenantId,
    /// The app.
    pub app: AppId,
    /// Its name.
    pub name: AppName,
    /// The operation.
    pub operation: OperationId,
    /// What happened.
    pub event: OperationEvent,
}

/// Makes every app what its record says, as long as it leads.
#[derive(Debug)]
pub struct Engine {
    ports: Ports,
    store: Store,
    clock: Clock,
    config: EngineConfig,
    revisions: RevisionCache,
    events: broadcast::Sender<EngineEvent>,
}

/// What wakes the loop.
enum Wake {
    Hint(Hint),
    Changed(RecordChange),
    /// A stream of hints ended.
    Deaf,
}

impl Engine {
    /// An engine that does nothing until it runs.
    #[must_use]
    pub fn new(ports: Ports, config: EngineConfig, clock: Clock) -> Self {
        // The lease is written before there is a term.
        let scope = Scope::granted(Principal::Engine, Resource::Platform, &Action::ALL);
        let store = Store { state: Arc::clone(&ports.state), scope };
        let (events, _) = broadcast::channel(1_024);
        Self { ports, store, clock, config, revisions: RevisionCache::default(), events }
    }

    /// What happens in operations, while this replica leads. A slow listener misses events; the operation has them.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<EngineEvent> {
        self.events.subscribe()
    }

    /// Runs until `stop` turns true; then it lets the lease go. Dropping the future is like a crash: safe, and the
    /// next leader waits for the lease to run out.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        if !self.config.lead {
            return stopped(&mut stop).await;
        }
        let mut lease = Lease::new(self.store.clone(), self.config.replica.clone(), self.config.lease);
        while !*stop.borrow() {
            match lease.hold().await {
                Ok(Some(term)) => {
                    tracing::info!(epoch = term.epoch.0, "leads");
                    if let Err(error) = self.lead(term, &mut lease, &mut stop).await {
                        tracing::warn!(?error, "stopped leading");
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(?error, "cannot reach the lease"),
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = tokio::time::sleep(lease.beat()) => {}
            }
        }
        if let Err(error) = lease.release().await {
            tracing::warn!(?error, "cannot release the lease");
        }
    }

    async fn lead(&self, term: Term, lease: &mut Lease, stop: &mut watch::Receiver<bool>) -> Result<()> {
        let mut leader = Leader::new(self, term.epoch);
        // A call that reads raises the bar for every leader before this one.
        self.ports.scheduler.list(&leader.scope, &Selector::All).await?;
        self.ports.router.observe(&leader.scope, &Selector::All).await?;
        leader.listen().await;
        leader.resync().await?;
        let mut until = term.until;
        let mut beat = Instant::now() + lease.beat();
        let mut resync = Instant::now() + self.config.resync;
        loop {
            leader.fill(self.config.concurrency);
            let due = leader.queue.next_due().unwrap_or(resync).min(resync);
            tokio::select! {
                biased;
                () = stopped(stop) => return Ok(()),
                () = tokio::time::sleep_until(until) => return Err(super::lease::not_leading()),
                renewed = renew(lease, beat) => {
                    beat = Instant::now() + lease.beat();
                    match renewed {
                        Ok(Some(renewed)) if renewed.epoch == term.epoch => until = renewed.until,
                        Ok(_) => return Err(super::lease::not_leading()),
                        Err(error) => return Err(error),
                    }
                }
                Some((item, outcome)) = leader.passes.next() => leader.finish(&item, outcome),
                Some(wake) = leader.wakes.next() => leader.hear(wake).await?,
                () = tokio::time::sleep_until(due) => {
                    if Instant::now() >= resync {
                        leader.resync().await?;
                        resync = Instant::now() + self.config.resync;
                    }
                }
            }
        }
    }
}

/// Returns once `stop` is true, or nobody is left who could make it so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard it gives must not live on: it cannot cross threads.
    drop(stop.wait_for(|stop| *stop).await);
}

/// Renews at the time of the next beat. Cancelled at other events, it starts over, since nothing was sent before then.
async fn renew(lease: &mut Lease, beat: Instant) -> Result<Option<Term>> {
    tokio::time::sleep_until(beat).await;
    lease.hold().await
}

/// The loop's state in one term.
struct Leader {
    scope: Scope,
    reconciler: Arc<Reconciler>,
    queue: Queue,
    apps: BTreeMap<AppId, TenantId>,
    passes: FuturesUnordered<BoxFuture<'static, (Item, Result<Next>)>>,
    wakes: SelectAll<BoxStream<'static, Wake>>,
    deaf: bool,
    collector: Collector,
    /// The calls that the last look at an app has made.
    acted: BTreeMap<AppId, u64>,
}

impl Leader {
    fn new(engine: &Engine, epoch: Epoch) -> Self {
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
            deaf: false,
            collector: Collector::default(),
            acted: BTreeMap::new(),
        }
    }

    /// Opens every stream of hints; what cannot be opened is tried again at the next resync.
    async fn listen(&mut self) {
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

    /// Looks at everything.
    async fn resync(&mut self) -> Result<()> {
        if self.deaf {
            self.listen().await;
        }
        let apps: Vec<AppRecord> = self.reconciler.store.list(APP, None).await?;
        self.apps = apps.iter().map(|app| (app.id.clone(), app.tenant.clone())).collect();
        for app in &apps {
            self.queue.put((app.tenant.clone(), app.id.clone()));
        }
        self.collector.collect(&self.reconciler.store, &apps).await
    }

    async fn hear(&mut self, wake: Wake) -> Result<()> {
        match wake {
            Wake::Hint(Hint::App(app)) => {
                if let Some(tenant) = self.apps.get(&app) {
                    self.queue.put((tenant.clone(), app));
                }
                Ok(())
            }
            Wake::Changed(RecordChange::Put(record)) => {
                if let (Some(tenant), Ok(app)) = (record.key.tenant, AppId::new(&record.key.id)) {
                    self.apps.insert(app.clone(), tenant.clone());
                    self.queue.put((tenant, app));
                }
                Ok(())
            }
            Wake::Changed(RecordChange::Deleted(_)) => Ok(()),
            Wake::Hint(Hint::Reset) | Wake::Changed(RecordChange::Reset) => self.resync().await,
            Wake::Deaf => {
                self.deaf = true;
                Ok(())
            }
        }
    }

    fn fill(&mut self, concurrency: usize) {
        while self.passes.len() < concurrency {
            let Some(item) = self.queue.take(Instant::now()) else { break };
            let reconciler = Arc::clone(&self.reconciler);
            self.passes.push(Box::pin(async move {
                let outcome = reconciler.pass(&item.0, &item.1).await;
                (item, outcome)
            }));
        }
    }

    fn finish(&mut self, item: &Item, outcome: Result<Next>) {
        match outcome {
            Ok(Next::Acted(calls)) if self.acted.get(&item.1) == Some(&calls) => {
                // The backend took them and does not show it: asking on and on would only keep both busy.
                tracing::warn!(tenant = %item.0, app = %item.1, "the same calls again");
                self.queue.failed(item, Instant::now());
            }
            Ok(next) => {
                self.acted.remove(&item.1);
                self.queue.done(item);
                match next {
                    Next::Again => self.queue.put(item.clone()),
                    Next::Acted(calls) => {
                        self.acted.insert(item.1.clone(), calls);
                        self.queue.put(item.clone());
                    }
                    Next::At(Some(at)) => self.queue.put_at(item.clone(), self.instant(at)),
                    Next::At(None) => {}
                }
            }
            Err(error) => {
                let (tenant, app) = (&item.0, &item.1);
                if is_race(&error) {
                    tracing::debug!(%tenant, %app, ?error, "somebody else was faster");
                } else {
                    tracing::warn!(%tenant, %app, ?error, "a pass failed");
                }
                self.queue.failed(item, Instant::now());
            }
        }
    }

    fn instant(&self, at: Timestamp) -> Instant {
        Instant::now() + at.since(self.reconciler.clock.now())
    }
}
