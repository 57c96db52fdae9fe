//! Composes a platform.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::alert::Alerts;
use super::log::Directory;
use super::{Inner, Platform};
use crate::engine::store::Store;
use crate::engine::{Engine, EngineConfig, Ports};
use crate::guard::{Guard, Guarded};
use crate::model::{Action, Clock, IdSource, Principal, Resource, Scope};
use crate::port::{
    AuditLog, Authorizer, Backend, Cluster, Exec, LogPipeline, LogPorts, LogQueue, LogSink, LogSource,
    LogStore, Notifier, Router, Scheduler, SecretStore, StateStore, Tenancy, VolumeStore,
};
use crate::{Error, Result};

/// Takes one backend per port. See [`Platform::builder`].
#[derive(Debug, Default)]
pub struct PlatformBuilder {
    scheduler: Option<Arc<dyn Scheduler>>,
    router: Option<Arc<dyn Router>>,
    volumes: Option<Arc<dyn VolumeStore>>,
    state: Option<Arc<dyn StateStore>>,
    secrets: Option<Arc<dyn SecretStore>>,
    audit: Option<Arc<dyn AuditLog>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    tenancies: Vec<Arc<dyn Tenancy>>,
    cluster: Option<Arc<dyn Cluster>>,
    exec: Option<Arc<dyn Exec>>,
    logs: Option<Arc<dyn LogSource>>,
    log_store: Option<Arc<dyn LogStore>>,
    log_queue: Option<Arc<dyn LogQueue>>,
    log_sinks: BTreeMap<String, LogSink>,
    log_pipeline: Option<Arc<dyn LogPipeline>>,
    notifiers: BTreeMap<String, Arc<dyn Notifier>>,
    guard: Guard,
    engine: EngineConfig,
    clock: Option<Clock>,
    ids: Option<IdSource>,
}

macro_rules! ports {
    ($($(#[$doc:meta])* $method:ident: $port:ident;)*) => {$(
        $(#[$doc])*
        #[must_use]
        pub fn $method(mut self, backend: Arc<dyn $port>) -> Self {
            self.$method = Some(backend);
            self
        }
    )*};
}

impl PlatformBuilder {
    ports! {
        /// What runs instances.
        scheduler: Scheduler;
        /// What brings requests to them.
        router: Router;
        /// What holds their data.
        volumes: VolumeStore;
        /// What keeps the platform's records.
        state: StateStore;
        /// What keeps secrets.
        secrets: SecretStore;
        /// What remembers who did what.
        audit: AuditLog;
        /// What decides who may do what.
        authorizer: Authorizer;
        /// What knows the nodes that instances run on. Without one, nodes are unsupported.
        cluster: Cluster;
        /// What runs commands in instances. Without one, that is unsupported.
        exec: Exec;
        /// Where log lines come from. Without one, logs are unsupported.
        logs: LogSource;
        /// What keeps log lines to be searched. A log pipeline fills it.
        log_store: LogStore;
        /// What holds log lines between the log pipeline and the log store, for others who work on them, too. Without one, the
        /// pipeline brings them to the store itself.
        log_queue: LogQueue;
        /// What is done to log lines on their way, and who gets them. It needs a log source.
        log_pipeline: LogPipeline;
    }

    /// Adds a backend that isolates tenants; each tenant is applied to all of them.
    #[must_use]
    pub fn tenancy(mut self, backend: Arc<dyn Tenancy>) -> Self {
        self.tenancies.push(backend);
        self
    }

    /// The pipeline that every call of a backend passes through.
    #[must_use]
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guard = guard;
        self
    }

    /// Somebody who can be told of alerts, under the name that app files give in `notify`.
    #[must_use]
    pub fn notifier(mut self, name: impl Into<String>, backend: Arc<dyn Notifier>) -> Self {
        self.notifiers.insert(name.into(), backend);
        self
    }

    /// Where log lines are kept that rules send there, under the name that app files give in `to`. It needs a log pipeline.
    #[must_use]
    pub fn log_sink(mut self, name: impl Into<String>, sink: LogSink) -> Self {
        self.log_sinks.insert(name.into(), sink);
        self
    }

    /// How the engine works: this replica's name, lease, resync.
    #[must_use]
    pub fn engine(mut self, config: EngineConfig) -> Self {
        self.engine = config;
        self
    }

    /// The clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Where ids come from, for tests.
    #[must_use]
    pub fn ids(mut self, ids: IdSource) -> Self {
        self.ids = Some(ids);
        self
    }

    fn guarded<B: Backend + ?Sized>(
        guard: &Guard,
        port: &'static str,
        backend: Option<Arc<B>>,
    ) -> Result<Guarded<B>> {
        let missing = || Error::invalid("a platform needs a backend for every port").with("missing", port);
        Ok(Guarded::new(guard.clone(), backend.ok_or_else(missing)?))
    }

    /// Checks the backends and starts the engine.
    ///
    /// # Errors
    /// `Invalid` naming a port without a backend, or for a router and a scheduler of which neither knows when an
    /// instance may be stopped; what a backend that cannot do its work says.
    pub async fn build(self) -> Result<Platform> {
        let guard = &self.guard;
        let scheduler: Arc<dyn Scheduler> = Arc::new(Self::guarded(guard, "scheduler", self.scheduler)?);
        let router: Arc<dyn Router> = Arc::new(Self::guarded(guard, "router", self.router)?);
        drained(&*scheduler, &*router)?;
        if self.log_pipeline.is_some() && self.logs.is_none() {
            return Err(Error::invalid("a log pipeline needs a log source").with("missing", "logs"));
        }
        if (self.log_queue.is_some() || !self.log_sinks.is_empty()) && self.log_pipeline.is_none() {
            let text = "a log queue, or a place for log lines, needs a log pipeline";
            return Err(Error::invalid(text).with("missing", "log_pipeline"));
        }
        let volumes: Arc<dyn VolumeStore> = Arc::new(Self::guarded(guard, "volumes", self.volumes)?);
        let state: Arc<dyn StateStore> = Arc::new(Self::guarded(guard, "state", self.state)?);
        let secrets: Arc<dyn SecretStore> = Arc::new(Self::guarded(guard, "secrets", self.secrets)?);
        let audit: Arc<dyn AuditLog> = Arc::new(Self::guarded(guard, "audit", self.audit)?);
        let authorizer: Arc<dyn Authorizer> = Arc::new(Self::guarded(guard, "authorizer", self.authorizer)?);
        let cluster =
            self.cluster.map(|cluster| Arc::new(Guarded::new(guard.clone(), cluster)) as Arc<dyn Cluster>);
        let exec = self.exec.map(|exec| Arc::new(Guarded::new(guard.clone(), exec)) as Arc<dyn Exec>);
        let behind = |tenancy| Arc::new(Guarded::new(guard.clone(), tenancy)) as Arc<dyn Tenancy>;
        let tenancies: Vec<_> = self.tenancies.into_iter().map(behind).collect();
        let clock = self.clock.unwrap_or_else(Clock::system);
        let log_store =
            self.log_store.map(|store| Arc::new(Guarded::new(guard.clone(), store)) as Arc<dyn LogStore>);
        let log_queue =
            self.log_queue.map(|queue| Arc::new(Guarded::new(guard.clone(), queue)) as Arc<dyn LogQueue>);
        let ports = Ports {
            scheduler: Arc::clone(&scheduler),
            router: Arc::clone(&router),
            volumes: Arc::clone(&volumes),
            state: Arc::clone(&state),
            log_store: log_store.clone(),
            tenancies: tenancies.clone(),
        };
        let engine = Arc::new(Engine::new(ports, self.engine, clock.clone()));
        let (stop, stopped) = watch::channel(false);
        let scope = Scope::granted(Principal::Engine, Resource::Platform, &Action::ALL);
        let store = Store { state, scope };
        let log_pipeline = self
            .log_pipeline
            .map(|pipeline| Arc::new(Guarded::new(guard.clone(), pipeline)) as Arc<dyn LogPipeline>);
        let behind = |(name, notifier)| {
            let notifier: Arc<dyn Notifier> = Arc::new(Guarded::new(guard.clone(), notifier));
            (name, notifier)
        };
        let notifiers = self.notifiers.into_iter().map(behind).collect();
        let alerts = Arc::new(Alerts::new(store.clone(), notifiers, clock.clone()));
        let directory = Arc::new(Directory::new(
            store.clone(),
            Arc::clone(&secrets),
            Arc::clone(&alerts),
            Arc::clone(&scheduler),
        ));
        let logs = self.logs.map(|source| LogPorts {
            source: Arc::new(Guarded::new(guard.clone(), source)),
            store: log_store,
            queue: log_queue,
            sinks: self.log_sinks.into_iter().map(|(name, sink)| (name, behind_guard(guard, sink))).collect(),
            directory: directory.clone(),
            scope: store.scope.clone(),
            clock: clock.clone(),
        });
        let inner = Inner {
            scheduler,
            router,
            volumes,
            secrets,
            audit,
            authorizer,
            tenancies,
            cluster,
            exec,
            logs,
            log_directory: directory,
            alerts,
            log_pipeline,
            store,
            ids: self.ids.unwrap_or_else(|| IdSource::random(clock.clone())),
            clock,
            engine: Arc::clone(&engine),
            stop,
            tasks: Mutex::default(),
        };
        let platform = Platform(Arc::new(inner));
        platform.check().await?;
        let mut tasks = Vec::new();
        if let (Some(pipeline), Some(ports)) = (&platform.0.log_pipeline, &platform.0.logs) {
            tasks.push(tokio::spawn(serve(pipeline.clone(), ports.clone(), stopped.clone())));
            let (pipeline, ports) = (pipeline.clone(), ports.clone());
            let (alerts, directory) = (platform.0.alerts.clone(), platform.0.log_directory.clone());
            let work = move || -> BoxFuture<'static, ()> {
                let (pipeline, ports) = (pipeline.clone(), ports.clone());
                let (alerts, directory) = (alerts.clone(), directory.clone());
                Box::pin(async move {
                    tokio::join!(pipeline.run(ports), alerts.deliver(), directory.sweep());
                })
            };
            tasks.push(tokio::spawn(while_leading(engine.leads(), stopped.clone(), work)));
        }
        tasks.push(tokio::spawn(async move { engine.run(stopped).await }));
        if let Ok(mut own) = platform.0.tasks.lock() {
            *own = tasks;
        }
        Ok(platform)
    }
}

fn behind_guard(guard: &Guard, sink: LogSink) -> LogSink {
    match sink {
        LogSink::Store(store) => LogSink::Store(Arc::new(Guarded::new(guard.clone(), store))),
        LogSink::Queue(queue) => LogSink::Queue(Arc::new(Guarded::new(guard.clone(), queue))),
    }
}

/// Takes in what others send, until the platform is stopped.
async fn serve(pipeline: Arc<dyn LogPipeline>, ports: LogPorts, mut stopped: watch::Receiver<bool>) {
    tokio::select! {
        biased;
        _ = stopped.wait_for(|stopped| *stopped) => {}
        () = pipeline.serve(ports) => {}
    }
}

/// Does what only one replica does, as long as this one leads.
async fn while_leading(
    mut leads: watch::Receiver<bool>,
    mut stopped: watch::Receiver<bool>,
    work: impl Fn() -> BoxFuture<'static, ()>,
) {
    let all = async {
        while leads.wait_for(|leads| *leads).await.is_ok() {
            let ended = async { drop(leads.wait_for(|leads| !leads).await) };
            tokio::select! {
                biased;
                () = ended => {}
                () = work() => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {}
        () = all => {}
    }
}

/// Refuses a router that may call an instance drained too early, with a scheduler that stops it then and there.
fn drained(scheduler: &dyn Scheduler, router: &dyn Router) -> Result<()> {
    let can = router.capabilities();
    if scheduler.capabilities().native_rolling || (can.immediate && can.drains) {
        return Ok(());
    }
    let text =
        "this router does not know when endpoints have drained: it needs a scheduler that drains by itself";
    Err(Error::invalid(text).with("router", router.name()).with("scheduler", scheduler.name()))
}
