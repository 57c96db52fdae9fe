//! Keeps tenants apart.

use async_trait::async_trait;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Environment, Resource, Scope, Tenant, TenantId};

/// Makes whatever isolates a tenant in a backend: directories, namespaces, indices. Many backends implement it; one that
/// keeps no environments apart makes room for the tenant alone.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Tenancy: Backend {
    /// Makes room for a tenant and for all of its environments so far. `Ok` means that workloads in any of them may
    /// follow. What is not named any more stays as it is. Idempotent.
    ///
    /// # Errors
    /// `Invalid` where an environment is another tenant's; nothing is made then.
    async fn apply(&self, scope: &Scope, tenant: &Tenant, environments: &[Environment]) -> Result<()>;

    /// The tenants that have room here. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>>;

    /// Tells of room that is not as it was applied last, because somebody else has changed it: by its environment, or by its
    /// tenant where that is not known or environments are not kept apart. What is so at the moment of the call comes first.
    /// It may be told twice, or for nothing; what was removed by [`Tenancy::remove`] is not told. [`Tenancy::apply`] puts it
    /// back.
    ///
    /// Without one of its own, a backend says that nobody else changes its room: the stream tells nothing.
    ///
    /// # Errors
    /// `Unavailable` where nothing can be watched now.
    async fn watch(&self, scope: &Scope) -> Result<BoxStream<'static, Resource>> {
        let _ = scope;
        Ok(stream::pending().boxed())
    }

    /// Removes what isolates a tenant. Idempotent: a missing tenant is `Ok`.
    ///
    /// # Errors
    /// `Conflict` while the tenant still has something there; nothing is removed then. `Unavailable` while what is
    /// removed is not gone yet: calling again waits further.
    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Tenancy + ?Sized> Tenancy for Guarded<T> {
    async fn apply(&self, scope: &Scope, tenant: &Tenant, environments: &[Environment]) -> Result<()> {
        let resource = Resource::Tenant(tenant.id.clone());
        let call = call!(self, scope, "tenancy", "apply", Administer, resource, idempotent);
        self.guard.run(call, || self.inner.apply(scope, tenant, environments)).await
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>> {
        let call = call!(self, scope, "tenancy", "list", Administer, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.list(scope)).await
    }

    async fn watch(&self, scope: &Scope) -> Result<BoxStream<'static, Resource>> {
        let call = call!(self, scope, "tenancy", "watch", Read, scope.resource().clone(), idempotent);
        self.guard.run(call, || self.inner.watch(scope)).await
    }

    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()> {
        let resource = Resource::Tenant(tenant.clone());
        let call = call!(self, scope, "tenancy", "remove", Administer, resource, idempotent);
        self.guard.run(call, || self.inner.remove(scope, tenant)).await
    }
}
