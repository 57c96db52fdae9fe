//! A handle on one environment.

use std::collections::BTreeMap;

use super::app::AppHandle;
use super::status::{AppStatus, status};
use super::{Inner, OperationHandle, Platform};
use crate::engine::observed::Observed;
use crate::engine::record::AppRecord;
use crate::engine::store::{APP, app_name_key};
use crate::engine::{Plan, plan};
use crate::model::{
    Action, App, AppId, AppName, Environment, Principal, Resource, RouteStatus, Tenant, WorkloadStatus,
};
use crate::port::Selector;
use crate::{Error, Result};

/// One environment, as one principal sees it.
#[derive(Clone, Debug)]
pub struct EnvironmentHandle {
    pub(super) platform: Platform,
    pub(super) principal: Principal,
    pub(super) tenant: Tenant,
    pub(super) environment: Environment,
}

impl EnvironmentHandle {
    pub(super) fn new(
        platform: Platform,
        principal: Principal,
        tenant: Tenant,
        environment: Environment,
    ) -> Self {
        Self { platform, principal, tenant, environment }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.platform.0
    }

    /// The environment, as a resource.
    #[must_use]
    pub fn resource(&self) -> Resource {
        Resource::Environment(self.tenant.id.clone(), self.environment.id.clone())
    }

    fn app_resource(&self, app: &AppId) -> Resource {
        Resource::App(self.tenant.id.clone(), self.environment.id.clone(), app.clone())
    }

    /// The id behind a name.
    async fn app_id(&self, name: &AppName) -> Result<Option<AppId>> {
        let key = app_name_key(&self.tenant.id, &self.environment.id, name)?;
        Ok(self.inner().store.get::<AppId>(&key).await?.map(|id| id.value))
    }

    /// A handle on an app.
    ///
    /// # Errors
    /// `NotFound` where there is no such app, or the principal may not see it.
    pub async fn app(&self, name: &AppName) -> Result<AppHandle> {
        let missing =
            || Error::not_found("no such app").with("app", name).with("environment", &self.environment.name);
        let id = self.app_id(name).await?.ok_or_else(missing)?;
        let is_theirs = self.inner().sees(&self.principal, self.app_resource(&id)).await?;
        if !is_theirs || self.inner().store.app(&self.tenant.id, &id).await?.is_none() {
            return Err(missing());
        }
        Ok(AppHandle::new(self.clone(), id))
    }

    /// All apps with the state of their services, by name, in one call of the scheduler and one of the router,
    /// however many they are.
    ///
    /// # Errors
    /// Those of the backends.
    pub async fn apps(&self) -> Result<Vec<AppStatus>> {
        let inner = self.inner();
        let records: Vec<AppRecord> = inner.store.list(APP, Some(self.tenant.id.clone())).await?;
        let own = inner.own(Resource::Platform);
        let mut workloads: BTreeMap<AppId, Vec<WorkloadStatus>> = BTreeMap::new();
        for workload in inner.scheduler.list(&own, &Selector::All).await? {
            workloads.entry(workload.key.app.clone()).or_default().push(workload);
        }
        let mut routes: BTreeMap<AppId, Vec<RouteStatus>> = BTreeMap::new();
        for route in inner.router.observe(&own, &Selector::All).await? {
            routes.entry(route.app.clone()).or_default().push(route);
        }
        let native = inner.scheduler.capabilities().native_rolling;
        let mut apps = Vec::new();
        for record in records.into_iter().filter(|record| record.environment == self.environment.id) {
            if !inner.sees(&self.principal, record.resource()).await? {
                continue;
            }
            let workloads = workloads.remove(&record.id).unwrap_or_default();
            let observed = Observed::new(workloads, routes.remove(&record.id).unwrap_or_default(), native);
            apps.push(status(&record, &observed));
        }
        apps.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(apps)
    }

    /// What [`EnvironmentHandle::deploy`] would do, without doing it.
    ///
    /// # Errors
    /// `Invalid` where the app is wrong as it stands; `Denied`.
    pub async fn plan(&self, app: &dyn App) -> Result<Plan> {
        let inner = self.inner();
        let spec = app.describe()?.for_environment(&self.environment.name)?;
        inner.allow(&self.principal, Action::Read, self.resource()).await?;
        let record = match self.app_id(&spec.app).await? {
            Some(id) => inner.store.app(&self.tenant.id, &id).await?.map(|stored| stored.value),
            None => None,
        };
        let revision = inner.revision(&self.tenant.id, spec).await?;
        let (revisions, observed) = match &record {
            Some(record) => (inner.revisions(record).await?, inner.observe(record).await?),
            None => Default::default(),
        };
        let can = plan::Capabilities {
            scheduler: inner.scheduler.capabilities(),
            router: inner.router.capabilities(),
            log_store: inner.logs.as_ref().is_some_and(|logs| logs.store.is_some()),
        };
        plan::plan(record.as_ref(), &revisions, &revision, &observed, &can)
    }

    /// Releases an app: all of it or nothing. The answer comes once the intent is stored, which survives a crash; the
    /// handle tells how it goes on. An operation that is going on is superseded; one that stops the app is not.
    ///
    /// Releasing what is promoted already changes nothing and succeeds.
    ///
    /// # Errors
    /// `Invalid` where the app is wrong as it stands, or a secret is not set; `Unsupported` where a backend cannot do
    /// what it asks for; `Conflict` where a domain belongs to another app, or the app is stopped or being removed;
    /// `Denied`.
    pub async fn deploy(&self, app: &dyn App) -> Result<OperationHandle> {
        let spec = app.describe()?.for_environment(&self.environment.name)?;
        let name = spec.app.clone();
        let resource = match self.app_id(&name).await? {
            Some(id) => self.app_resource(&id),
            None => self.resource(),
        };
        let summary = format!("deploy {name}");
        let permit = self.inner().permit(&self.principal, Action::Deploy, resource, summary).await?;
        permit.finish(self.deploy_spec(spec).await).await
    }
}
