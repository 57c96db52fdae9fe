//! What a company holds: a platform composed of backends, and the handles its callers use.

mod access;
mod alert;
mod app;
mod builder;
mod claim;
mod deploy;
mod environment;
mod exec;
mod log;
mod node;
mod operation;
mod status;
#[cfg(test)]
mod tests;
mod volume;

use std::sync::Arc;

use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

pub use app::AppHandle;
pub use builder::PlatformBuilder;
pub use environment::EnvironmentHandle;
pub use operation::OperationHandle;
pub use status::{AppStatus, RevisionSummary, ServiceStatus, SlotStatus};

use crate::engine::store::{
    ENVIRONMENT, Store, ensure_environment, ensure_tenant, environment_name_key, tenant_key, tenant_name_key,
};
use crate::engine::{Engine, EngineEvent};
use crate::model::{
    Action, App, AppId, Clock, Environment, EnvironmentId, EnvironmentName, IdSource, Principal, Resource,
    Scope, Secret, SecretName, SecretVersion, Tenant, TenantId, TenantName,
};
use crate::port::{
    AuditLog, Authorizer, Cluster, Exec, LogPipeline, LogPorts, Router, Scheduler, SecretStore, StateStore,
    Tenancy, VolumeStore,
};
use crate::{Error, Result};

/// A platform: backends behind one guard, and an engine that keeps what was asked for true.
///
/// Cloning it is cheap and gives the same platform. Once the last clone and every handle are dropped, its engine
/// stops as after a crash; [`Platform::shutdown`] stops it in good order. Neither touches what runs.
#[derive(Clone, Debug)]
pub struct Platform(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) scheduler: Arc<dyn Scheduler>,
    pub(crate) router: Arc<dyn Router>,
    pub(crate) volumes: Arc<dyn VolumeStore>,
    pub(crate) secrets: Arc<dyn SecretStore>,
    pub(crate) audit: Arc<dyn AuditLog>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) tenancies: Vec<Arc<dyn Tenancy>>,
    pub(crate) cluster: Option<Arc<dyn Cluster>>,
    pub(crate) exec: Option<Arc<dyn Exec>>,
    pub(crate) logs: Option<LogPorts>,
    log_directory: Arc<log::Directory>,
    pub(crate) alerts: Arc<alert::Alerts>,
    pub(crate) log_pipeline: Option<Arc<dyn LogPipeline>>,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) ids: IdSource,
    engine: Arc<Engine>,
    stop: watch::Sender<bool>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let tasks = self.tasks.get_mut().map(std::mem::take).unwrap_or_default();
        tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Inner {
    /// Why the engine cannot go on with an app, if it cannot, and it is this replica's that leads.
    fn trouble(&self, app: &AppId) -> Option<String> {
        self.engine.trouble(app)
    }

    pub(crate) fn state(&self) -> &Arc<dyn StateStore> {
        &self.store.state
    }

    /// The platform's own scope for reading on behalf of a caller that was authorised.
    pub(crate) fn own(&self, resource: Resource) -> Scope {
        Scope::granted(Principal::Engine, resource, &Action::ALL)
    }
}

/// Whether an environment is missing, and of which part, or is merely not theirs, is nobody's business.
fn no_environment(tenant: &TenantName, name: &EnvironmentName) -> Error {
    Error::not_found("no such environment").with("tenant", tenant).with("environment", name)
}

impl Platform {
    /// Starts to compose a platform.
    #[must_use]
    pub fn builder() -> PlatformBuilder {
        PlatformBuilder::default()
    }

    /// A tenant by its name; made, with room in every backend and an environment `production`, when there is none.
    /// Idempotent.
    ///
    /// # Errors
    /// `Denied` unless the principal may administer the platform.
    pub async fn ensure_tenant(&self, principal: &Principal, name: TenantName) -> Result<Tenant> {
        let permit = self
            .0
            .permit(principal, Action::Administer, Resource::Platform, format!("make tenant {name}"))
            .await?;
        permit.finish(self.make_tenant(name).await).await
    }

    async fn make_tenant(&self, name: TenantName) -> Result<Tenant> {
        let inner = &self.0;
        let wanted = Tenant::new(TenantId::generate(&inner.ids), name, inner.clock.now());
        let tenant = ensure_tenant(&inner.store, wanted).await?;
        self.make_environment(&tenant, EnvironmentName::production()).await?;
        Ok(tenant)
    }

    /// The record first, then room for it: whoever comes back after a crash in between makes the room.
    async fn make_environment(&self, tenant: &Tenant, name: EnvironmentName) -> Result<Environment> {
        let inner = &self.0;
        let wanted = Environment::new(EnvironmentId::generate(&inner.ids), tenant.id.clone(), name);
        let made = ensure_environment(&inner.store, wanted).await?;
        let environments: Vec<Environment> = inner.store.list(ENVIRONMENT, Some(tenant.id.clone())).await?;
        let scope = inner.own(Resource::Tenant(tenant.id.clone()));
        for tenancy in &inner.tenancies {
            tenancy.apply(&scope, tenant, &environments).await?;
        }
        Ok(made)
    }

    /// An environment of a tenant by its name; made, with room in every backend, when there is none. Idempotent: room
    /// that an earlier call could not make is made now.
    ///
    /// # Errors
    /// `Denied` unless the principal may administer the tenant; `NotFound` where there is no such tenant.
    pub async fn ensure_environment(
        &self,
        principal: &Principal,
        tenant: &TenantName,
        name: EnvironmentName,
    ) -> Result<Environment> {
        let missing = || Error::not_found("no such tenant").with("tenant", tenant);
        let tenant = self.tenant(tenant).await?.ok_or_else(missing)?;
        let resource = Resource::Tenant(tenant.id.clone());
        let permit = self
            .0
            .permit(principal, Action::Administer, resource, format!("make environment {name}"))
            .await?;
        permit.finish(self.make_environment(&tenant, name).await).await
    }

    async fn tenant(&self, name: &TenantName) -> Result<Option<Tenant>> {
        let store = &self.0.store;
        let Some(id) = store.get::<TenantId>(&tenant_name_key(name)?).await? else { return Ok(None) };
        Ok(store.get::<Tenant>(&tenant_key(&id.value)?).await?.map(|tenant| tenant.value))
    }

    /// A handle on one environment, through which apps are released and seen.
    ///
    /// # Errors
    /// `NotFound` where there is no such tenant or environment, or the principal may not see it.
    pub async fn environment(
        &self,
        principal: &Principal,
        tenant: &TenantName,
        name: &EnvironmentName,
    ) -> Result<EnvironmentHandle> {
        match self.tenant(tenant).await? {
            Some(tenant) => self.environment_of(principal, tenant, name).await,
            None => Err(no_environment(tenant, name)),
        }
    }

    async fn environment_of(
        &self,
        principal: &Principal,
        tenant: Tenant,
        name: &EnvironmentName,
    ) -> Result<EnvironmentHandle> {
        let missing = no_environment(&tenant.name, name);
        let key = environment_name_key(&tenant.id, name)?;
        let Some(id) = self.0.store.get::<EnvironmentId>(&key).await? else { return Err(missing) };
        let environment = Environment::new(id.value, tenant.id.clone(), name.clone());
        let handle = EnvironmentHandle::new(self.clone(), principal.clone(), tenant, environment);
        if self.0.sees(principal, handle.resource()).await? { Ok(handle) } else { Err(missing) }
    }

    /// The environment `production` of the tenant that the principal works in.
    ///
    /// # Errors
    /// `Invalid` where the principal works in no tenant; else those of [`Platform::environment`].
    pub async fn production(&self, principal: &Principal) -> Result<EnvironmentHandle> {
        let none = || Error::invalid("this principal works in no tenant; use `environment`");
        let id = principal.tenant().ok_or_else(none)?;
        let tenant = self.0.store.get::<Tenant>(&tenant_key(id)?).await?;
        let tenant = tenant.ok_or_else(|| Error::not_found("no such tenant").with("tenant", id))?;
        self.environment_of(principal, tenant.value, &EnvironmentName::production()).await
    }

    /// Releases an app in the environment `production` of the principal's tenant: [`EnvironmentHandle::deploy`].
    ///
    /// # Errors
    /// Those of [`Platform::production`] and [`EnvironmentHandle::deploy`].
    pub async fn deploy(&self, principal: &Principal, app: &dyn App) -> Result<OperationHandle> {
        self.production(principal).await?.deploy(app).await
    }

    /// Stores a secret of a tenant as its next version. Running services keep the version they were released with.
    ///
    /// # Errors
    /// `Denied` unless the principal may write the tenant's secrets.
    pub async fn put_secret(
        &self,
        principal: &Principal,
        tenant: &TenantId,
        name: &SecretName,
        value: Secret,
    ) -> Result<SecretVersion> {
        let resource = Resource::Tenant(tenant.clone());
        let summary = format!("set secret {name}");
        let permit = self.0.permit(principal, Action::WriteSecrets, resource, summary).await?;
        let outcome = self.0.secrets.put(permit.scope(), tenant, name, value).await;
        permit.finish(outcome).await
    }

    /// What happens in operations, and what somebody else has changed, as long as this replica leads. A slow listener misses
    /// events.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<EngineEvent> {
        self.0.engine.events()
    }

    /// Asks every backend whether it can do its work.
    ///
    /// # Errors
    /// The first that cannot.
    pub async fn check(&self) -> Result<()> {
        let inner = &self.0;
        inner.scheduler.check().await?;
        inner.router.check().await?;
        inner.volumes.check().await?;
        inner.state().check().await?;
        inner.secrets.check().await?;
        inner.audit.check().await?;
        if let Some(pipeline) = &inner.log_pipeline {
            pipeline.check().await?;
        }
        inner.authorizer.check().await
    }

    /// Stops the engine in good order, so that the next leader need not wait. What runs goes on running. Idempotent.
    pub async fn shutdown(&self) {
        // The receiver lives in the engine's task; where that has ended there is nothing to stop.
        let _ = self.0.stop.send(true);
        let tasks = self.0.tasks.lock().map(|mut tasks| std::mem::take(&mut *tasks)).unwrap_or_default();
        let ended = futures_util::future::join_all(tasks);
        if tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.is_err() {
            tracing::warn!("the engine did not stop in time");
        }
    }
}
