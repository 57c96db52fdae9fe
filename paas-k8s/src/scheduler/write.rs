//! Calls that change the cluster.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, Preconditions};
use paas_core::model::{Epoch, Workload, WorkloadKey};
use paas_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use super::KubeScheduler;
use super::manifest::{self, Context};
use super::part::{Kind, Part};
use super::pod::Instance;
use crate::apply::{self, Place, gone};
use crate::error::failed;
use crate::label;

impl KubeScheduler {
    /// Brings what stands beside a workload to what it should be: before everything else, so that whatever comes is found
    /// with it, and goes with it.
    pub(super) async fn write_companions(&self, workload: &Workload, epoch: Option<Epoch>) -> Result<()> {
        let parts = self.cache.parts(&workload.key);
        for kind in manifest::kind(workload).companions() {
            let platform = self.connection.platform();
            let (object, digest) = manifest::companion(*kind, &workload.key, platform);
            let known = parts.iter().find(|part| part.kind == *kind).cloned();
            let is_whole = |known: &Part| known.applied() == Some(&digest) && known.epoch >= epoch;
            if !known.as_ref().is_some_and(is_whole) {
                self.put(*kind, workload, known, epoch, |_| Ok(object.clone())).await?;
            }
        }
        Ok(())
    }

    /// Brings the object that runs a workload to what it asks for.
    pub(super) async fn write(
        &self,
        workload: &Workload,
        epoch: Option<Epoch>,
        secret: Option<&str>,
    ) -> Result<()> {
        let kind = manifest::kind(workload);
        let mut known = None;
        for part in self.cache.parts(&workload.key).into_iter().filter(|part| part.kind.runs()) {
            let volumes = kind == Kind::StatefulSet && part.volumes != manifest::volumes(workload);
            if part.kind == kind && !volumes {
                known = Some(part);
            } else {
                // It has other volumes now, or has none any more.
                self.delete_part(part, epoch).await?;
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
            _ => {}
        }
        let platform = self.connection.platform();
        let render = |known: Option<&Part>| {
            manifest::owner(workload, &Context { platform, config: &self.config, secret, known })
        };
        self.put(kind, workload, known, epoch, render).await
    }

    async fn put(
        &self,
        kind: Kind,
        workload: &Workload,
        known: Option<Part>,
        epoch: Option<Epoch>,
        render: impl Fn(Option<&Part>) -> Result<Value>,
    ) -> Result<()> {
        let read = |meta: &ObjectMeta| Part::of(kind, meta);
        let part = self.place(kind, &workload.key).apply(known, epoch, read, render).await;
        self.cache.put_part(part.map_err(|error| error.with("service", &workload.labels.service))?);
        Ok(())
    }

    pub(super) fn namespace(&self, key: &WorkloadKey) -> String {
        label::namespace(self.connection.platform(), &key.tenant, &key.environment)
    }

    fn place(&self, kind: Kind, key: &WorkloadKey) -> Place {
        Place::new(&self.connection, &kind.resource(), &self.namespace(key), &kind.name(key))
    }

    /// Notes on a task that has been started what was applied last.
    async fn mark(&self, known: Part, workload: &Workload) -> Result<()> {
        let api = self.connection.dynamic(&known.kind.resource(), &self.namespace(&known.key));
        let mark = json!({ "metadata": {
            "annotations": { manifest::APPLIED: workload.digest() },
            "resourceVersion": known.version.to_string(),
        } });
        let name = label::owner(&known.key);
        let marked = api.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(mark)).await;
        let marked = marked.map_err(|cause| match failed(cause, "mark a task").with("name", &name) {
            // It is not made anew: it has run.
            error if error.kind() == ErrorKind::NotFound => apply::vanished(&name).with_source(error),
            error => error,
        })?;
        let part = Part::of(known.kind, &marked.metadata);
        self.cache
            .put_part(part.ok_or_else(|| Error::internal("a task has lost its labels").with("name", name))?);
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

    /// Deletes all that a workload is made of: what runs it first. What a removal that is cut short leaves is seen.
    pub(super) async fn delete(&self, key: &WorkloadKey, epoch: Option<Epoch>) -> Result<()> {
        let mut parts = self.cache.parts(key);
        parts.sort_by_key(|part| !part.kind.runs());
        parts.iter().try_for_each(|part| apply::admit(epoch, Some(part)))?;
        for part in parts {
            self.delete_part(part, epoch).await?;
        }
        Ok(())
    }

    pub(super) async fn delete_part(&self, part: Part, epoch: Option<Epoch>) -> Result<()> {
        let (kind, uid) = (part.kind, part.uid.clone());
        let place = Place::new(&self.connection, &kind.resource(), &part.namespace, &part.name);
        place.delete(part, epoch, |meta| Part::of(kind, meta)).await?;
        self.cache.ending(&uid);
        Ok(())
    }
}
