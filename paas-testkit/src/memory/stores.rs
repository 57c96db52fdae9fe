//! The stores.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::memory::{
    MemoryAuditLog, MemoryAuthorizer, MemoryLogStore, MemorySecretStore, MemoryStateStore, MemoryTenancy,
    MemoryVolumeStore,
};
use paas_core::model::{Action, EnvironmentId, Principal, Resource, TenantId, VolumeStatus};
use paas_core::port::{
    AuditLog, Authorizer, LogStore, SecretStore, StateStore, Tenancy, VolumeStore, VolumeStoreCapabilities,
};

use crate::Fixture;
use crate::suite::Durability;
use crate::suite::authorizer::AuthorizerFixture;
use crate::suite::tenancy::{TenancyFixture, Vigilance};
use crate::suite::volume_store::VolumeStoreFixture;

/// A fixture that holds one memory backend.
macro_rules! fixtures {
    ($($(#[$doc:meta])* $fixture:ident = $backend:ident as $port:ident, $capabilities:ty = $declared:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $fixture {
            backend: $backend,
        }

        impl Fixture for $fixture {
            type Port = dyn $port;
            type Capabilities = $capabilities;

            fn capabilities(&self) -> $capabilities {
                $declared
            }

            fn open(&self) -> BoxFuture<'_, Result<Arc<dyn $port>>> {
                let backend: Arc<dyn $port> = Arc::new(self.backend.clone());
                Box::pin(async move { Ok(backend) })
            }
        }
    )*};
}

fixtures! {
    /// [`MemoryAuditLog`].
    AuditLogs = MemoryAuditLog as AuditLog, Durability = Durability { durable: false };
    /// [`MemoryAuthorizer`].
    Authorizers = MemoryAuthorizer as Authorizer, () = ();
    /// [`MemoryLogStore`].
    LogStores = MemoryLogStore as LogStore, Durability = Durability { durable: false };
    /// [`MemorySecretStore`].
    SecretStores = MemorySecretStore as SecretStore, Durability = Durability { durable: false };
    /// [`MemoryStateStore`].
    StateStores = MemoryStateStore as StateStore, Durability = Durability { durable: false };
    /// [`MemoryTenancy`].
    Tenancies = MemoryTenancy as Tenancy, Vigilance = Vigilance { watched: true };
    /// [`MemoryVolumeStore`].
    VolumeStores = MemoryVolumeStore as VolumeStore, VolumeStoreCapabilities = {
        let mut capabilities = VolumeStoreCapabilities::none();
        capabilities.sized = true;
        capabilities
    };
}

impl AuthorizerFixture for Authorizers {
    fn allow<'a>(
        &'a self,
        principal: &'a Principal,
        actions: &'a [Action],
        resource: Resource,
    ) -> BoxFuture<'a, Result<()>> {
        self.backend.allow(principal, actions, resource);
        Box::pin(async { Ok(()) })
    }
}

impl TenancyFixture for Tenancies {
    fn occupy<'a>(&'a self, tenant: &'a TenantId, _: &'a EnvironmentId) -> BoxFuture<'a, Result<()>> {
        self.backend.occupy(tenant);
        Box::pin(async { Ok(()) })
    }

    fn vacate<'a>(&'a self, tenant: &'a TenantId, _: &'a EnvironmentId) -> BoxFuture<'a, Result<()>> {
        self.backend.vacate(tenant);
        Box::pin(async { Ok(()) })
    }

    fn change<'a>(
        &'a self,
        tenant: &'a TenantId,
        environment: &'a EnvironmentId,
    ) -> BoxFuture<'a, Result<()>> {
        self.backend.change(tenant, environment);
        Box::pin(async { Ok(()) })
    }

    fn has_room<'a>(
        &'a self,
        tenant: &'a TenantId,
        environment: &'a EnvironmentId,
    ) -> BoxFuture<'a, Result<bool>> {
        let is_whole = self.backend.is_whole(tenant, environment);
        Box::pin(async move { Ok(is_whole) })
    }
}

impl VolumeStoreFixture for VolumeStores {
    fn write<'a>(&'a self, status: &'a VolumeStatus, content: Bytes) -> BoxFuture<'a, Result<()>> {
        let outcome = self.backend.write(&status.volume.tenant, &status.volume.id, content);
        Box::pin(async { outcome })
    }

    fn read<'a>(&'a self, status: &'a VolumeStatus) -> BoxFuture<'a, Result<Bytes>> {
        let content = self.backend.read(&status.volume.tenant, &status.volume.id);
        Box::pin(async { content })
    }
}
