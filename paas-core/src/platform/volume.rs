//! Data that outlived its app.

use std::collections::BTreeSet;

use super::Platform;
use crate::engine::record::AppRecord;
use crate::engine::store::APP;
use crate::model::{Action, Confirmation, Principal, Resource, ServiceId, TenantId, VolumeId, VolumeStatus};
use crate::{Error, Result};

impl Platform {
    /// The volumes of a tenant that belong to no service of any of its apps: those of apps that were removed, and of
    /// services that an app has forgotten. Nobody gets them back by a name: they are there to be saved, or removed.
    ///
    /// # Errors
    /// `Denied` unless the principal may read the tenant; those of the backends.
    pub async fn orphaned_volumes(
        &self,
        principal: &Principal,
        tenant: &TenantId,
    ) -> Result<Vec<VolumeStatus>> {
        self.0.allow(principal, Action::Read, Resource::Tenant(tenant.clone())).await?;
        self.orphans(tenant).await
    }

    async fn orphans(&self, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        let inner = &self.0;
        let own = inner.own(Resource::Tenant(tenant.clone()));
        // The volumes first: a service that is released in between owns what is made for it after.
        let volumes = inner.volumes.list(&own, tenant).await?;
        let apps: Vec<AppRecord> = inner.store.list(APP, Some(tenant.clone())).await?;
        let owners: BTreeSet<ServiceId> =
            apps.into_iter().flat_map(|app| app.services.into_values()).map(|service| service.id).collect();
        Ok(volumes.into_iter().filter(|status| !owners.contains(&status.volume.service)).collect())
    }

    /// Deletes a volume that belongs to no app any more and its data, for good.
    ///
    /// # Errors
    /// `Invalid` where the confirmation does not repeat the volume's id; `NotFound` where it is none of
    /// [`Platform::orphaned_volumes`]; `Denied` unless the principal may remove data of the tenant.
    pub async fn remove_orphaned_volume(
        &self,
        principal: &Principal,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()> {
        confirmation.check(id)?;
        let inner = &self.0;
        let (resource, summary) =
            (Resource::Tenant(tenant.clone()), format!("remove orphaned volume {id} and its data"));
        let permit = inner.permit(principal, Action::RemoveData, resource.clone(), summary).await?;
        let remove = async {
            let known = self.orphans(tenant).await?.iter().any(|status| status.volume.id == *id);
            if !known {
                return Err(Error::not_found("no such volume without an app").with("volume", id));
            }
            inner.volumes.remove(&inner.own(resource), tenant, id, confirmation).await
        };
        permit.finish(remove.await).await
    }
}
