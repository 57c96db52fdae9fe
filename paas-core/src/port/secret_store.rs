//! Keeps secret values.

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Resource, Scope, Secret, SecretName, SecretVersion, TenantId};

/// Keeps the secrets of tenants, in versions.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SecretStore: Backend {
    /// Stores a value as the next version. `Ok` means that it survives a crash. Not idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn put(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        value: Secret,
    ) -> Result<SecretVersion>;

    /// The value of a version. Idempotent.
    ///
    /// # Errors
    /// `NotFound` where there is no such secret or version.
    async fn get(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        version: SecretVersion,
    ) -> Result<Secret>;

    /// Every secret of a tenant with its newest version, by name, without values. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<(SecretName, SecretVersion)>>;

    /// Deletes all versions of a secret. A later `put` of the name never repeats a version. Idempotent: a missing
    /// secret is `Ok`.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn delete(&self, scope: &Scope, tenant: &TenantId, name: &SecretName) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SecretStore + ?Sized> SecretStore for Guarded<S> {
    async fn put(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        value: Secret,
    ) -> Result<SecretVersion> {
        let call = call!(self, scope, "secret_store", "put", WriteSecrets, Resource::Tenant(tenant.clone()));
        self.guard.run(call, || self.inner.put(scope, tenant, name, value.clone())).await
    }

    async fn get(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        version: SecretVersion,
    ) -> Result<Secret> {
        let resource = Resource::Tenant(tenant.clone());
        let call = call!(self, scope, "secret_store", "get", ReadSecrets, resource, idempotent);
        self.guard.run(call, || self.inner.get(scope, tenant, name, version)).await
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<(SecretName, SecretVersion)>> {
        let call =
            call!(self, scope, "secret_store", "list", Read, Resource::Tenant(tenant.clone()), idempotent);
        self.guard.run(call, || self.inner.list(scope, tenant)).await
    }

    async fn delete(&self, scope: &Scope, tenant: &TenantId, name: &SecretName) -> Result<()> {
        let resource = Resource::Tenant(tenant.clone());
        let call = call!(self, scope, "secret_store", "delete", WriteSecrets, resource, idempotent);
        self.guard.run(call, || self.inner.delete(scope, tenant, name)).await
    }
}
