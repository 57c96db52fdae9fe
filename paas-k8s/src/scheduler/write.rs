//! Calls that change the cluster.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions};
use paas_core::model::{Epoch, Workload, WorkloadKey};
use paas_core::{Error, Result};
use serde_json::json;

use super::KubeScheduler;
use super::manifest::{self, Context};
use super::owner::{Kind, Owner};
use super::pod::Instance;
use crate::apply::{self, Place, gone};
use crate::error::failed;
use crate::label;

impl KubeScheduler {
    /// Brings the object that runs a workload to what it asks for.
    pub(super) async fn write(
        &self,
        workload: &Workload,
        epoch: Option<Epoch>,
        secret: Option<&str>,
    ) -> Result<()> {
        let kind = manifest::kind(workload);
        let mut known = None;
        for owner in self.cache.owners(&workload.key).into_iter().filter(|owner| !owner.ending) {
            let volumes = kind == Kind::StatefulSet && owner.volumes != manifest::volumes(workload);
            if owner.kind == kind && !volumes {
                known = Some(owner);
            } else {
                // It has other volumes now, or has none any more.
                self.delete_owner(owner, epoch).await?;
            }
        }
        let digest = workload.digest();
        match known {
            Some(known) if known.applied() == Some(&digest) && known.epoch >= epoch => return Ok(()),
            // What has run is not run again, and cannot be changed.
            Some(known) if kind == Kind::Job => {
                apply::admit(epoch, Some(&known))?;
                return self.mark(known, workload).await;
            }
            None => self.write_companions(workload).await?,
            _ => {}
        }
        let render = |known: Option<&Owner>| {
            let platform = self.connection.platform();
            manifest::owner(workload, &Context { platform, config: &self.config, secret, known })
        };
        let read = |meta: &ObjectMeta| Owner::of(kind, meta);
        let owner = self.place(kind, &workload.key).apply(known, epoch, read, render).await;
        self.cache.put_owner(owner.map_err(|error| error.with("service", &workload.labels.service))?);
        Ok(())
    }

    pub(super) fn namespace(&self, key: &WorkloadKey) -> String {
        label::namespace(self.connection.platform(), &key.tenant, &key.environment)
    }

    fn place(&self, kind: Kind, key: &WorkloadKey) -> Place {
        Place::new(&self.connection, &kind.resource(), &self.namespace(key), &kind.name(key))
    }

    /// Notes on a task that has been started what was applied last.
    async fn mark(&self, known: Owner, workload: &Workload) -> Result<()> {
        let api = self.connection.dynamic(&known.kind.resource(), &self.namespace(&known.key));
        let mark = json!({ "metadata": {
            "annotations": { manifest::APPLIED: workload.digest() },
            "resourceVersion": known.version.to_string(),
        } });
        let name = label::owner(&known.key);
        let marked = api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(mark)).await;
        let marked = marked.map_err(|cause| failed(cause, "mark a task").with("name", &name))?;
        let owner = Owner::of(known.kind, &marked.metadata);
        self.cache.put_owner(
            owner.ok_or_else(|| Error::internal("a task has lost its labels").with("name", name))?,
        );
        Ok(())
    }

    async fn write_companions(&self, workload: &Workload) -> Result<()> {
        for object in manifest::companions(workload, self.connection.platform()) {
            let resource = if object["kind"] == "NetworkPolicy" { policies() } else { budgets() };
            let api = self.connection.dynamic(&resource, &self.namespace(&workload.key));
            let apply = PatchParams::apply(label::MANAGER).force().validation_strict();
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            let written = api.patch(name, &apply, &Patch::Apply(&object)).await;
            written.map_err(|cause| {
                failed(cause, "apply what stands beside a workload").with("service", &workload.labels.service)
            })?;
        }
        Ok(())
    }

    /// Stops these instances; what owns them replaces them.
    pub(super) async fn retire(&self, instances: impl Iterator<Item = Instance>) -> Result<()> {
        for instance in instances {
            let api = self.connection.within::<Pod>(&instance.namespace);
            let preconditions = Preconditions { uid: Some(instance.uid), resource_version: None };
            let params = DeleteParams::default().preconditions(preconditions);
            gone(api.delete(&instance.pod, &params).await, "retire an instance")?;
        }
        Ok(())
    }

    /// Deletes all that runs a workload.
    pub(super) async fn delete(&self, key: &WorkloadKey, epoch: Option<Epoch>) -> Result<()> {
        let (mut gone_now, owners) = (false, self.cache.owners(key));
        for owner in owners.into_iter().filter(|owner| !owner.ending) {
            self.delete_owner(owner, epoch).await?;
            gone_now = true;
        }
        // What stands beside it goes after it, and only by the hand that was let to remove it.
        if !gone_now {
            return Ok(());
        }
        let namespace = self.namespace(key);
        let budgets = self.connection.dynamic(&budgets(), &namespace);
        let deleted = budgets.delete(&label::owner(key), &DeleteParams::background()).await;
        gone(deleted, "delete a disruption budget")?;
        self.delete_secrets(key, &namespace).await
    }

    async fn delete_owner(&self, owner: Owner, epoch: Option<Epoch>) -> Result<()> {
        let (kind, uid) = (owner.kind, owner.uid.clone());
        self.place(kind, &owner.key).delete(owner, epoch, |meta| Owner::of(kind, meta)).await?;
        self.cache.ending(&uid);
        Ok(())
    }
}

fn policies() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::networking::v1::NetworkPolicy>(&())
}

fn budgets() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(&())
}
