//! Composes a platform.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::{Inner, Platform};
use crate::engine::store::Store;
use crate::engine::{Engine, EngineConfig, Ports};
use crate::guard::{Guard, Guarded};
use crate::model::{Action, Clock, IdSource, Principal, Resource, Scope};
use crate::port::{
    AuditLog, Authorizer, Backend, Cluster, Exec, LogSource, Router, Scheduler, SecretStore, StateStore,
    Tenancy, VolumeStore,
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
        let volumes: Arc<dyn VolumeStore> = Arc::new(Self::guarded(guard, "volumes", self.volumes)?);
        let state: Arc<dyn StateStore> = Arc::new(Self::guarded(guard, "state", self.state)?);
        let secrets: Arc<dyn SecretStore> = Arc::new(Self::guarded(guard, "secrets", self.secrets)?);
        let audit: Arc<dyn AuditLog> = Arc::new(Self::guarded(guard, "audit", self.audit)?);
        let authorizer: Arc<dyn Authorizer> = Arc::new(Self::guarded(guard, "authorizer", self.authorizer)?);
        let cluster =
            self.cluster.map(|cluster| Arc::new(Guarded::new(guard.clone(), cluster)) as Arc<dyn Cluster>);
        let exec = self.exec.map(|exec| Arc::new(Guarded::new(guard.clone(), exec)) as Arc<dyn Exec>);
        let logs = self.logs.map(|logs| Arc::new(Guarded::new(guard.clone(), logs)) as Arc<dyn LogSource>);
        let behind = |tenancy| Arc::new(Guarded::new(guard.clone(), tenancy)) as Arc<dyn Tenancy>;
        let tenancies: Vec<_> = self.tenancies.into_iter().map(behind).collect();
        let clock = self.clock.unwrap_or_else(Clock::system);
        let ports = Ports {
            scheduler: Arc::clone(&scheduler),
            router: Arc::clone(&router),
            volumes: Arc::clone(&volumes),
            state: Arc::clone(&state),
            tenancies: tenancies.clone(),
        };
        let engine = Arc::new(Engine::new(ports, self.engine, clock.clone()));
        let (stop, stopped) = watch::channel(false);
        let scope = Scope::granted(Principal::Engine, Resource::Platform, &Action::ALL);
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
            store: Store { state, scope },
            ids: self.ids.unwrap_or_else(|| IdSource::random(clock.clone())),
            clock,
            engine: Arc::clone(&engine),
            stop,
            task: Mutex::new(None),
        };
        let platform = Platform(Arc::new(inner));
        platform.check().await?;
        let task = tokio::spawn(async move { engine.run(stopped).await });
        if let Ok(mut slot) = platform.0.task.lock() {
            *slot = Some(task);
        }
        Ok(platform)
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
