//! Volumes as claims on storage.

use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};
use paas_core::backend::Fence;
use paas_core::model::{Confirmation, Scope, TenantId, Volume, VolumeId, VolumeStatus};
use paas_core::port::{Backend, VolumeStore, VolumeStoreCapabilities};
use paas_core::{Error, ErrorKind, Result};
use serde_json::Value;

use crate::error::failed;
use crate::pause::Pauses;
use crate::{Connection, export, label, list};

mod claim;
#[cfg(test)]
mod tests;

pub(crate) use claim::VOLUME;

/// How often a claim may change under our hands.
const ATTEMPTS: u32 = 8;
/// How long one call waits until a claim is gone.
const PATIENCE: Duration = Duration::from_secs(8);

/// How volumes are kept.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct VolumesConfig {
    /// The storage class of new volumes; without it, the cluster's default.
    pub storage_class: Option<String>,
}

/// Keeps each volume as a PersistentVolumeClaim in the namespace of its environment, under the name that the StatefulSet
/// of its service looks for; one node at a time mounts it.
///
/// A claim grows where its storage class can; one that has no storage yet is made anew, larger. What becomes of the data
/// of a removed claim is for the reclaim policy of its storage class to say: with `Retain` it stays until an operator
/// deletes it.
#[derive(Debug)]
pub struct KubeVolumes {
    connection: Connection,
    config: VolumesConfig,
    fence: Fence,
}

impl KubeVolumes {
    /// Volumes of the cluster's default storage class.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, config: VolumesConfig::default(), fence: Fence::default() }
    }

    /// Volumes that are kept like this.
    #[must_use]
    pub fn with_config(self, config: VolumesConfig) -> Self {
        Self { config, ..self }
    }

    fn claims(&self, volume: &Volume) -> Api<PersistentVolumeClaim> {
        let platform = self.connection.platform();
        self.connection.within(&label::namespace(platform, &volume.tenant, &volume.environment))
    }

    async fn make_or_grow(&self, wanted: &Volume) -> Result<VolumeStatus> {
        let claims = self.claims(wanted);
        let name = claim::name(wanted);
        for _ in 0..ATTEMPTS {
            let found = claims.get_opt(&name).await.map_err(|cause| failed(cause, "read a claim"))?;
            let outcome = match found {
                None => self.make(&claims, wanted).await,
                Some(found) => self.grow(&claims, &found, wanted).await,
            };
            match outcome {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("the claim changes all the time; try again"))
    }

    /// `None` where it has to be looked at again.
    async fn make(
        &self,
        claims: &Api<PersistentVolumeClaim>,
        wanted: &Volume,
    ) -> Result<Option<VolumeStatus>> {
        let made = claim::of(self.connection.platform(), wanted, self.config.storage_class.as_deref())?;
        let params = PostParams { field_manager: Some(label::MANAGER.into()), ..PostParams::default() };
        match claims.create(&params, &made).await.map_err(|cause| failed(cause, "make a claim")) {
            Ok(made) => claim::status(&made).map(Some),
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let cause = "the volume's environment has no namespace: make the environment first";
                Err(Error::not_found(cause).with_source(error))
            }
            Err(error) => Err(error),
        }
    }

    /// `None` where it has to be looked at again.
    async fn grow(
        &self,
        claims: &Api<PersistentVolumeClaim>,
        found: &PersistentVolumeClaim,
        wanted: &Volume,
    ) -> Result<Option<VolumeStatus>> {
        let platform = self.connection.platform();
        claim::check_own(platform, found, wanted)?;
        let size = claim::size(found)?;
        match claim::status(found) {
            Ok(status) if status.volume.id == wanted.id && size >= wanted.size => return Ok(Some(status)),
            Err(error) if error.kind() == ErrorKind::Invalid => return Err(error),
            // Its description is made anew, and says the same.
            _ => {}
        }
        let bound = found.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
        if !bound && size < wanted.size {
            // Only a claim with storage can change its size, and this one holds nothing yet.
            self.retract(claims, found).await?;
            return Ok(None);
        }
        let change = claim::change(platform, found, wanted)?;
        let params = PatchParams { field_manager: Some(label::MANAGER.into()), ..PatchParams::default() };
        let changed = claims.patch(&found.name_any(), &params, &Patch::Merge(&change)).await;
        match changed.map_err(|cause| failed(cause, "grow a claim")) {
            Ok(grown) => claim::status(&grown).map(Some),
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a claim without storage, as it was seen: had it got storage since, this is refused.
    async fn retract(
        &self,
        claims: &Api<PersistentVolumeClaim>,
        found: &PersistentVolumeClaim,
    ) -> Result<()> {
        if self.user(found).await?.is_some() {
            return Err(Error::unavailable(
                "the claim waits for storage with an instance and can grow only after; try again then",
            ));
        }
        let preconditions = Preconditions { uid: found.uid(), resource_version: found.resource_version() };
        match delete(claims, found, preconditions).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    /// A pod that uses a claim, or is about to.
    async fn user(&self, claim: &PersistentVolumeClaim) -> Result<Option<String>> {
        let pods: Api<Pod> = self.connection.within(&claim.namespace().unwrap_or_default());
        let name = claim.name_any();
        let pods = list::all(&pods, "").await?;
        Ok(pods.iter().find(|pod| claim::is_used_by(&name, pod)).map(ResourceExt::name_any))
    }

    /// The claims of a tenant with these further labels, in one call however many namespaces they are in.
    async fn found(&self, tenant: &TenantId, further: &str) -> Result<Vec<PersistentVolumeClaim>> {
        let own = label::of_tenant(self.connection.platform(), tenant);
        let mut found = list::all(&self.connection.cluster(), &format!("{own},{further}")).await?;
        // Copies and backups carry the labels of what they were made from, and are somebody else's.
        found.retain(claim::is_in_its_place);
        Ok(found)
    }

    async fn remove_claim(&self, claim: &PersistentVolumeClaim) -> Result<()> {
        if let Some(pod) = self.user(claim).await? {
            return Err(
                Error::conflict("an instance uses the volume: stop its service first").with("instance", pod)
            );
        }
        let claims: Api<PersistentVolumeClaim> =
            self.connection.within(&claim.namespace().unwrap_or_default());
        delete(&claims, claim, Preconditions { uid: claim.uid(), resource_version: None }).await
    }
}

/// The claim of a volume that has none yet.
pub(crate) fn object(platform: &str, volume: &Volume, class: Option<&str>) -> Result<Value> {
    let mut claim = claim::of(platform, volume, class)?;
    claim.metadata.namespace = Some(label::namespace(platform, &volume.tenant, &volume.environment));
    export::object(&claim)
}

/// Deletes a claim and waits until it is gone, but not for ever: the cluster keeps one that came into use.
async fn delete(
    claims: &Api<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    preconditions: Preconditions,
) -> Result<()> {
    let name = claim.name_any();
    let params = DeleteParams::background().preconditions(preconditions);
    let deleted = claims.delete(&name, &params).await.map_err(|cause| failed(cause, "delete a claim"));
    match deleted {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(_) => {}
    }
    let mut pauses = Pauses::within(PATIENCE);
    loop {
        let left = claims.get_metadata_opt(&name).await.map_err(|cause| failed(cause, "read a claim"))?;
        if left.is_none_or(|left| left.uid() != claim.uid()) {
            return Ok(());
        }
        if !pauses.rest().await {
            return Err(
                Error::unavailable("the claim is still being deleted; call again").with("claim", name)
            );
        }
    }
}

#[async_trait]
impl Backend for KubeVolumes {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self) -> Result<()> {
        self.connection.check().await
    }
}

#[async_trait]
impl VolumeStore for KubeVolumes {
    /// Whether a volume is held to its size is for the storage class to say, so it is not promised.
    fn capabilities(&self) -> VolumeStoreCapabilities {
        VolumeStoreCapabilities::none()
    }

    async fn apply(&self, scope: &Scope, volume: &Volume) -> Result<VolumeStatus> {
        self.fence.admit(scope)?;
        self.make_or_grow(volume).await.map_err(|error| error.with("volume", &volume.id))
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        self.fence.see(scope);
        self.found(tenant, claim::VOLUME).await?.iter().map(claim::status).collect()
    }

    async fn remove(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()> {
        confirmation.check(id)?;
        self.fence.admit(scope)?;
        for claim in self.found(tenant, &format!("{}={id}", claim::VOLUME)).await? {
            // One that does not say which volume it is may be somebody's copy.
            let removed = match claim::status(&claim) {
                Ok(_) => self.remove_claim(&claim).await,
                Err(error) => Err(error),
            };
            removed.map_err(|error| error.with("volume", id))?;
        }
        Ok(())
    }
}
