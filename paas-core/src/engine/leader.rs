//! A leader's view of the apps: which want a look, who looks, and what was heard.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered, SelectAll, StreamExt};
use tokio::time::Instant;

use super::gc::Collector;
use super::queue::{Item, Queue};
use super::reconcile::{Next, Reconciler, is_race};
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
    deaf: bool,
    collector: Collector,
    /// The calls that the last look at an app has made.
    acted: BTreeMap<AppId, u64>,
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
            deaf: false,
            collector: Collector::default(),
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

    /// Looks at everything.
    pub(super) async fn resync(&mut self) -> Result<()> {
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

    pub(super) async fn hear(&mut self, wake: Wake) -> Result<()> {
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

    pub(super) fn finish(&mut self, item: &Item, outcome: Result<Next>) {
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
