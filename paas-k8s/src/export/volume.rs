//! Volumes that are written down.

use std::sync::Arc;

use async_trait::async_trait;
use paas_core::Result;
use paas_core::memory::MemoryVolumeStore;
use paas_core::model::{Confirmation, Scope, TenantId, Volume, VolumeId, VolumeStatus};
use paas_core::port::{Backend, VolumeStore, VolumeStoreCapabilities};

use super::shelf::{Shelf, has};
use crate::volume::{self, VolumesConfig};

/// What [`KubeVolumes`](crate::KubeVolumes) would apply.
#[derive(Debug)]
pub(super) struct ExportVolumes {
    inner: MemoryVolumeStore,
    shelf: Arc<Shelf>,
    platform: String,
    config: VolumesConfig,
}

impl ExportVolumes {
    pub(super) fn new(shelf: &Arc<Shelf>, platform: &str, config: VolumesConfig) -> Self {
        let inner = MemoryVolumeStore::new();
        Self { inner, shelf: Arc::clone(shelf), platform: platform.to_owned(), config }
    }
}

#[async_trait]
impl Backend for ExportVolumes {
    fn name(&self) -> &'static str {
        "export"
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl VolumeStore for ExportVolumes {
    fn capabilities(&self) -> VolumeStoreCapabilities {
        VolumeStoreCapabilities::none()
    }

    async fn apply(&self, scope: &Scope, volume: &Volume) -> Result<VolumeStatus> {
        let status = self.inner.apply(scope, volume).await?;
        let class = self.config.storage_class.as_deref();
        self.shelf.put(volume::object(&self.platform, &status.volume, class)?);
        Ok(status)
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        self.inner.list(scope, tenant).await
    }

    async fn remove(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()> {
        self.inner.remove(scope, tenant, id, confirmation).await?;
        self.shelf.remove(|object| has(object, volume::VOLUME, id.as_str()));
        Ok(())
    }
}
