//! Holds data that outlives instances.

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Confirmation, Resource, Scope, TenantId, Volume, VolumeId, VolumeStatus};

/// What a volume store can do, beyond what all can.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeStoreCapabilities {
    /// Whether a volume can hold no more than its size.
    pub sized: bool,
    /// Whether programs of this host find a volume under a path.
    pub paths: bool,
}

impl VolumeStoreCapabilities {
    /// Those of a store that can do nothing more.
    #[must_use]
    pub fn none() -> Self {
        Self { sized: false, paths: false }
    }
}

/// Makes and keeps volumes. Nothing but [`VolumeStore::remove`] ever deletes data.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait VolumeStore: Backend {
    /// What it can do. Always the same answer.
    fn capabilities(&self) -> VolumeStoreCapabilities;

    /// Makes a volume, or grows it to a larger size; a smaller size changes nothing. Data stays. Idempotent.
    ///
    /// # Errors
    /// Those of the store where it cannot grow a volume; else only those of the transport.
    async fn apply(&self, scope: &Scope, volume: &Volume) -> Result<VolumeStatus>;

    /// All volumes of a tenant. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<VolumeStatus>>;

    /// Deletes a volume and its data, for good. Idempotent: a missing volume is `Ok`.
    ///
    /// # Errors
    /// `Invalid` where the confirmation does not name the volume, `Conflict` where the store sees that an instance uses
    /// it; nothing is removed then.
    async fn remove(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<V: VolumeStore + ?Sized> VolumeStore for Guarded<V> {
    fn capabilities(&self) -> VolumeStoreCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, volume: &Volume) -> Result<VolumeStatus> {
        let resource = Resource::Tenant(volume.tenant.clone());
        let call = call!(self, scope, "volume_store", "apply", Deploy, resource, idempotent);
        self.guard.run(call, || self.inner.apply(scope, volume)).await
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        let resource = Resource::Tenant(tenant.clone());
        let call = call!(self, scope, "volume_store", "list", Read, resource, idempotent);
        self.guard.run(call, || self.inner.list(scope, tenant)).await
    }

    async fn remove(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()> {
        let resource = Resource::Tenant(tenant.clone());
        let call = call!(self, scope, "volume_store", "remove", RemoveData, resource, idempotent);
        self.guard.run(call, || self.inner.remove(scope, tenant, id, confirmation)).await
    }
}
