//! Volumes with pretended content, so that a test sees when data is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;

use super::lock;
use crate::model::{ByteSize, Confirmation, Scope, TenantId, Volume, VolumeId, VolumeStatus};
use crate::port::{VolumeStore, VolumeStoreCapabilities};
use crate::{Error, Result};

/// Keeps volumes in memory. A test writes into one as its service would, and reads it back after whatever happened.
#[derive(Clone, Debug)]
pub struct MemoryVolumeStore {
    volumes: Arc<Mutex<Volumes>>,
}

type Volumes = BTreeMap<(TenantId, VolumeId), (Volume, Bytes)>;

impl Default for MemoryVolumeStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryVolumeStore {
    /// A store without volumes. It holds volumes to their size and has no paths.
    #[must_use]
    pub fn new() -> Self {
        Self { volumes: Arc::default() }
    }

    /// Replaces what a volume holds.
    ///
    /// # Errors
    /// `NotFound` where there is no such volume, `Invalid` where it is too small.
    pub fn write(&self, tenant: &TenantId, id: &VolumeId, content: impl Into<Bytes>) -> Result<()> {
        let content = content.into();
        let mut volumes = lock(&self.volumes);
        let (volume, held) = volumes.get_mut(&(tenant.clone(), id.clone())).ok_or_else(|| missing(id))?;
        if content.len() as u64 > volume.size.0 {
            return Err(Error::invalid("the volume is full").with("volume", id).with("size", volume.size));
        }
        *held = content;
        Ok(())
    }

    /// What a volume holds; nothing at first.
    ///
    /// # Errors
    /// `NotFound` where there is no such volume.
    pub fn read(&self, tenant: &TenantId, id: &VolumeId) -> Result<Bytes> {
        let volumes = lock(&self.volumes);
        volumes
            .get(&(tenant.clone(), id.clone()))
            .map(|(_, content)| content.clone())
            .ok_or_else(|| missing(id))
    }

    /// All volumes of all tenants.
    #[must_use]
    pub fn volumes(&self) -> Vec<Volume> {
        lock(&self.volumes).values().map(|(volume, _)| volume.clone()).collect()
    }
}

fn missing(id: &VolumeId) -> Error {
    Error::not_found("no such volume").with("volume", id)
}

fn status(volume: &Volume, content: &Bytes) -> VolumeStatus {
    let mut status = VolumeStatus::new(volume.clone());
    status.used = Some(ByteSize(content.len() as u64));
    status
}

#[async_trait]
impl VolumeStore for MemoryVolumeStore {
    fn capabilities(&self) -> VolumeStoreCapabilities {
        let mut capabilities = VolumeStoreCapabilities::none();
        capabilities.sized = true;
        capabilities
    }

    async fn apply(&self, _: &Scope, volume: &Volume) -> Result<VolumeStatus> {
        let mut volumes = lock(&self.volumes);
        let name = (volume.tenant.clone(), volume.id.clone());
        let (held, content) = volumes.entry(name).or_insert_with(|| (volume.clone(), Bytes::new()));
        held.size = held.size.max(volume.size);
        Ok(status(held, content))
    }

    async fn list(&self, _: &Scope, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        let volumes = lock(&self.volumes);
        let own = volumes.values().filter(|(volume, _)| volume.tenant == *tenant);
        Ok(own.map(|(volume, content)| status(volume, content)).collect())
    }

    async fn remove(
        &self,
        _: &Scope,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()> {
        confirmation.check(id)?;
        lock(&self.volumes).remove(&(tenant.clone(), id.clone()));
        Ok(())
    }
}
