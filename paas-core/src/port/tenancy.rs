//! Keeps tenants apart.

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Resource, Scope, Tenant, TenantId};

/// Makes whatever isolates a tenant in a backend: directories, namespaces, indices. Many backends implement it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Tenancy: Backend {
    /// Makes room for a tenant. `Ok` means that workloads of the tenant may follow. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn apply(&self, scope: &Scope, tenant: &Tenant) -> Result<()>;

    /// The tenants that have room here. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>>;

    /// Removes what isolates a tenant. Idempotent: a missing tenant is `Ok`.
    ///
    /// # Errors
    /// `Conflict` while the tenant still has something there; nothing is removed then.
    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Tenancy + ?Sized> Tenancy for Guarded<T> {
    async fn apply(&self, scope: &Scope, tenant: &Tenant) -> Result<()> {
        let resource = Resource::Tenant(tenant.id.clone());
        let call = call!(self, scope, "tenancy", "apply", Administer, resource, idempotent);
        self.guard.run(call, || self.inner.apply(scope, tenant)).await
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>> {
        let call = call!(self, scope, "tenancy", "list", Administer, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.list(scope)).await
    }

    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()> {
        let resource = Resource::Tenant(tenant.clone());
        let call = call!(self, scope, "tenancy", "remove", Administer, resource, idempotent);
        self.guard.run(call, || self.inner.remove(scope, tenant)).await
    }
}
