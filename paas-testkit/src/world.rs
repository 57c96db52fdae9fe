//! Names that no other case uses.

use paas_core::Result;
use paas_core::model::{
    AppId, AppName, Clock, Endpoint, EnvironmentId, EnvironmentName, Epoch, IdSource, InstanceId,
    OperationId, Protocol, Resource, RevisionNumber, Role, Route, RouteSlot, Scope, ServiceId, ServiceName,
    Slot, Template, TenantId, TenantName, Workload, WorkloadKey, WorkloadLabels,
};
use paas_core::port::Selector;

/// A tenant with an app, and another tenant. A case touches nothing outside it.
#[derive(Clone, Debug)]
pub struct World {
    /// Whose the app is.
    pub tenant: TenantId,
    /// Somebody else.
    pub other: TenantId,
    /// The app's environment.
    pub environment: EnvironmentId,
    /// The app.
    pub app: AppId,
    /// Makes further ids.
    pub ids: IdSource,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Names that nobody else uses.
    #[must_use]
    pub fn new() -> Self {
        let ids = IdSource::random(Clock::system());
        Self {
            tenant: TenantId::generate(&ids),
            other: TenantId::generate(&ids),
            environment: EnvironmentId::generate(&ids),
            app: AppId::generate(&ids),
            ids,
        }
    }

    /// The same with another app.
    #[must_use]
    pub fn another_app(&self) -> Self {
        Self { app: AppId::generate(&self.ids), ..self.clone() }
    }

    /// The same seen by the other tenant, with an app of its own.
    #[must_use]
    pub fn of_other(&self) -> Self {
        let (tenant, other) = (self.other.clone(), self.tenant.clone());
        Self { tenant, other, ..self.another_app() }
    }

    /// Everything on the platform.
    #[must_use]
    pub fn platform(&self) -> Scope {
        Scope::testing(Resource::Platform)
    }

    /// Everything of the tenant.
    #[must_use]
    pub fn scope(&self) -> Scope {
        Scope::testing(Resource::Tenant(self.tenant.clone()))
    }

    /// Everything of the tenant, in the term of a leader. Later calls of any case have later terms for larger
    /// numbers.
    #[must_use]
    pub fn in_term(&self, term: u64) -> Scope {
        self.scope().in_epoch(Epoch(1_000 + term))
    }

    /// The app, as a resource.
    #[must_use]
    pub fn app_resource(&self) -> Resource {
        Resource::App(self.tenant.clone(), self.environment.clone(), self.app.clone())
    }

    /// The app, to list.
    #[must_use]
    pub fn selector(&self) -> Selector {
        Selector::App(self.tenant.clone(), self.environment.clone(), self.app.clone())
    }

    /// A new service of the app.
    #[must_use]
    pub fn service(&self) -> ServiceId {
        ServiceId::generate(&self.ids)
    }

    /// A new service of the app, as a resource.
    #[must_use]
    pub fn service_resource(&self) -> Resource {
        let (tenant, environment) = (self.tenant.clone(), self.environment.clone());
        Resource::Service(tenant, environment, self.app.clone(), self.service())
    }

    /// A new instance's id.
    #[must_use]
    pub fn instance(&self) -> InstanceId {
        InstanceId::generate(&self.ids)
    }

    /// The key of a new service's workload.
    #[must_use]
    pub fn key(&self, role: Role) -> WorkloadKey {
        let (tenant, environment) = (self.tenant.clone(), self.environment.clone());
        WorkloadKey::new(tenant, environment, self.app.clone(), self.service(), role)
    }

    /// A workload of a new service in the blue slot.
    ///
    /// # Errors
    /// None.
    pub fn workload(&self, template: Template, replicas: u32) -> Result<Workload> {
        self.workload_of(self.key(Role::Slot(Slot::Blue)), template, replicas)
    }

    /// A task of a new service.
    ///
    /// # Errors
    /// None.
    pub fn task(&self, template: Template) -> Result<Workload> {
        self.workload_of(self.key(Role::Task(OperationId::generate(&self.ids))), template, 1)
    }

    /// A workload with this key.
    ///
    /// # Errors
    /// None.
    pub fn workload_of(&self, key: WorkloadKey, template: Template, replicas: u32) -> Result<Workload> {
        let labels = WorkloadLabels::new(
            TenantName::new("acme")?,
            EnvironmentName::new("production")?,
            AppName::new("shop")?,
            ServiceName::new("web")?,
        );
        Ok(Workload::new(key, labels, RevisionNumber(1), template, replicas))
    }

    /// A route of a new service without endpoints.
    #[must_use]
    pub fn route(&self) -> Route {
        let (tenant, environment) = (self.tenant.clone(), self.environment.clone());
        Route::new(tenant, environment, self.app.clone(), self.service(), Protocol::Http)
    }

    /// A slot of a route. Revision 1 is blue, 2 is green.
    #[must_use]
    pub fn slot(&self, slot: Slot, weight: u32, endpoints: Vec<Endpoint>) -> RouteSlot {
        let revision = RevisionNumber(if slot == Slot::Blue { 1 } else { 2 });
        RouteSlot { slot, revision, weight, endpoints }
    }

    /// A domain of this case alone.
    #[must_use]
    pub fn host(&self) -> String {
        format!("{}.example.com", self.app)
    }
}
