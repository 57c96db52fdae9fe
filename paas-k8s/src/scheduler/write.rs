//! Calls that change the cluster: each on condition of what was last observed, in a term that is not over.

use std::fmt::Debug;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{NamespaceResourceScope, Status};
use kube::{Api, Resource};
use paas_core::model::{Epoch, Workload, WorkloadKey};
use paas_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::KubeScheduler;
use super::manifest::{self, Context};
use super::owner::{Kind, Owner};
use super::pod::Instance;
use crate::error::failed;
use crate::label;

/// How often a write is tried again on what somebody else wrote in between.
const TRIES: u32 = 8;

/// Runs one expression with the objects of a kind.
macro_rules! of_kind {
    ($scheduler:expr, $kind:expr, $namespace:expr, |$api:ident| $body:expr) => {
        match $kind {
            Kind::Deployment => {
                let $api: Api<Deployment> = $scheduler.connection.within($namespace);
                $body
            }
            Kind::StatefulSet => {
                let $api: Api<StatefulSet> = $scheduler.connection.within($namespace);
                $body
            }
            Kind::Job => {
                let $api: Api<Job> = $scheduler.connection.within($namespace);
                $body
            }
        }
    };
}

/// Why an apply did not happen.
enum Refused {
    /// Somebody else holds these fields.
    Held(String),
    /// It is not as it was observed.
    Stale,
    Other(Error),
}

impl KubeScheduler {
    /// Brings the object that runs a workload to what it asks for.
    pub(super) async fn write(
        &self,
        workload: &Workload,
        epoch: Option<Epoch>,
        secret: Option<&str>,
    ) -> Result<()> {
        let kind = manifest::kind(workload);
        let namespace = manifest::namespace(workload, self.connection.platform());
        let mut known = None;
        for owner in self.cache.owners(&workload.key).into_iter().filter(|owner| !owner.ending) {
            if owner.kind == kind {
                known = Some(owner);
            } else {
                // It has volumes now, or has none any more.
                self.delete_owner(&owner, epoch).await?;
            }
        }
        if known.is_none() && kind != Kind::Job {
            self.write_budget(workload, &namespace).await?;
        }
        if let (Some(known), Kind::Job) = (&known, kind) {
            // What has run is not run again, and cannot be changed.
            let digest = workload.digest();
            if known.applied.as_ref() == Some(&digest) {
                return Ok(());
            }
            let mark = json!({ "metadata": { "annotations": { manifest::APPLIED: digest } } });
            let api: Api<Job> = self.connection.within(&namespace);
            let marked = api
                .patch_metadata(&label::owner(&workload.key), &PatchParams::default(), &Patch::Merge(mark))
                .await;
            let marked = marked.map_err(|cause| failed(cause, "mark a task"))?;
            self.cache.put_owner(owner_of(kind, &marked.metadata)?);
            return Ok(());
        }
        self.write_owner(workload, kind, &namespace, known, (epoch, secret)).await
    }

    async fn write_owner(
        &self,
        workload: &Workload,
        kind: Kind,
        namespace: &str,
        mut known: Option<Owner>,
        (epoch, secret): (Option<Epoch>, Option<&str>),
    ) -> Result<()> {
        let mut force = false;
        for _ in 0..TRIES {
            if let Some(known) = &known
                && let (Some(own), Some(later)) = (epoch, known.epoch)
                && own < later
            {
                return Err(Error::conflict("a leader of a later term has written")
                    .with("epoch", own)
                    .with("seen", later));
            }
            if let Some(known) = &known
                && known.applied() == Some(&workload.digest())
                && known.epoch >= epoch
            {
                return Ok(());
            }
            let context = Context {
                platform: self.connection.platform(),
                config: &self.config,
                secret,
                known: known.as_ref(),
                epoch,
            };
            let object = manifest::owner(workload, &context)?;
            match of_kind!(self, kind, namespace, |api| apply(&api, kind, &object, force).await) {
                Ok(owner) => {
                    self.cache.put_owner(owner);
                    return Ok(());
                }
                Err(Refused::Held(fields)) => {
                    tracing::warn!(
                        app = %workload.labels.app, service = %workload.labels.service, fields,
                        "somebody else has changed what the platform decides; it is put back"
                    );
                    force = true;
                }
                Err(Refused::Stale) => {
                    let name = label::owner(&workload.key);
                    known = of_kind!(self, kind, namespace, |api| observe(&api, kind, &name).await)?;
                }
                Err(Refused::Other(error)) => return Err(error),
            }
        }
        Err(Error::conflict("somebody else keeps changing it").with("service", &workload.labels.service))
    }

    async fn write_budget(&self, workload: &Workload, namespace: &str) -> Result<()> {
        let api: Api<PodDisruptionBudget> = self.connection.within(namespace);
        let budget = manifest::budget(workload, self.connection.platform());
        let apply = PatchParams::apply(label::MANAGER).force().validation_strict();
        let name = label::owner(&workload.key);
        let written = api.patch(&name, &apply, &Patch::Apply(&budget)).await;
        written
            .map(drop)
            .map_err(|cause| failed(cause, "apply a disruption budget").with("namespace", namespace))
    }

    /// Stops these instances; what owns them replaces them.
    pub(super) async fn retire(&self, instances: impl Iterator<Item = Instance>) -> Result<()> {
        for instance in instances {
            let api: Api<Pod> = self.connection.within(&instance.namespace);
            let preconditions = Preconditions { uid: Some(instance.uid), resource_version: None };
            let params = DeleteParams::default().preconditions(preconditions);
            gone(api.delete(&instance.pod, &params).await, "retire an instance")?;
        }
        Ok(())
    }

    /// Deletes all that runs a workload.
    pub(super) async fn delete(&self, key: &WorkloadKey, epoch: Option<Epoch>) -> Result<()> {
        let owners = self.cache.owners(key);
        for owner in owners.iter().filter(|owner| !owner.ending) {
            self.delete_owner(owner, epoch).await?;
        }
        if owners.is_empty() {
            return Ok(());
        }
        let namespace = label::namespace(self.connection.platform(), &key.tenant, &key.environment);
        let budgets: Api<PodDisruptionBudget> = self.connection.within(&namespace);
        gone(
            budgets.delete(&label::owner(key), &DeleteParams::background()).await,
            "delete a disruption budget",
        )?;
        self.delete_secrets(key, &namespace).await
    }

    async fn delete_owner(&self, owner: &Owner, epoch: Option<Epoch>) -> Result<()> {
        let namespace =
            label::namespace(self.connection.platform(), &owner.key.tenant, &owner.key.environment);
        let name = label::owner(&owner.key);
        let mut known = owner.clone();
        for _ in 0..TRIES {
            if let (Some(own), Some(later)) = (epoch, known.epoch)
                && own < later
            {
                return Err(Error::conflict("a leader of a later term has written")
                    .with("epoch", own)
                    .with("seen", later));
            }
            let preconditions = Preconditions {
                uid: Some(known.uid.clone()),
                resource_version: Some(known.version.to_string()),
            };
            let params = DeleteParams::background().preconditions(preconditions);
            let kind = owner.kind;
            let deleted =
                of_kind!(self, kind, &namespace, |api| gone(api.delete(&name, &params).await, "delete"));
            match deleted {
                Ok(()) => {
                    self.cache.ending(&known.uid);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Conflict => {
                    match of_kind!(self, kind, &namespace, |api| observe(&api, kind, &name).await)? {
                        Some(now) if now.uid == known.uid => known = now,
                        _ => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("somebody else keeps changing it").with("name", name))
    }
}

/// A delete of what is missing is done.
fn gone<T>(outcome: kube::Result<T>, what: &'static str) -> Result<()> {
    match outcome.map_err(|cause| failed(cause, what)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn owner_of(kind: Kind, meta: &kube::api::ObjectMeta) -> Result<Owner> {
    Owner::of(kind, meta).ok_or_else(|| Error::internal("the API server's answer lacks what we have written"))
}

/// Applies with our one field manager; fields of others are taken only where `force` says so.
async fn apply<K>(api: &Api<K>, kind: Kind, object: &Value, force: bool) -> Result<Owner, Refused>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut params = PatchParams::apply(label::MANAGER).validation_strict();
    params.force = force;
    match api.patch(name, &params, &Patch::Apply(object)).await {
        Ok(written) => owner_of(kind, written.meta()).map_err(Refused::Other),
        Err(kube::Error::Api(status))
            if status.code == 409 || (status.code == 404 && is_conditional(object)) =>
        {
            Err(held(&status).map_or(Refused::Stale, Refused::Held))
        }
        Err(cause) => Err(Refused::Other(failed(cause, "apply a workload").with("name", name))),
    }
}

/// Whether it is to be written on top of what was observed: then that it is missing is news, not an error.
fn is_conditional(object: &Value) -> bool {
    object["metadata"]["resourceVersion"].is_string()
}

/// The fields that others hold, where a conflict is about them.
fn held(status: &Status) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    let fields: Vec<&str> = causes
        .iter()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| cause.field.as_str())
        .collect();
    (!fields.is_empty()).then(|| fields.join(", "))
}

async fn observe<K>(api: &Api<K>, kind: Kind, name: &str) -> Result<Option<Owner>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let found = api.get_metadata_opt(name).await.map_err(|cause| failed(cause, "read a workload"))?;
    found.map(|found| owner_of(kind, &found.metadata)).transpose()
}
