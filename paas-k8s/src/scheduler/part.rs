//! The objects that a workload is made of, as far as they must be known: their metadata.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::{Job, JobCondition};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, ObjectMeta};
use paas_core::model::{Digest, Epoch, Exit, RevisionNumber, WorkloadKey};

use super::manifest::{APPLIED, REVISIONS, SECRETS, VOLUMES};
use super::pod::at;
use crate::apply::{self, Known};
use crate::error::brief;
use crate::index::Entry;
use crate::label;

/// The kinds of objects that run pods, and of those that stand beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Deployment,
    StatefulSet,
    Job,
    /// A disruption budget.
    Budget,
    /// A policy of the pods' traffic.
    Traffic,
    /// What holds the values of secrets: one for each choice of versions that pods read.
    Secret,
}

impl Kind {
    /// Whether it runs pods.
    pub(super) fn runs(self) -> bool {
        !matches!(self, Self::Budget | Self::Traffic | Self::Secret)
    }

    /// What stands beside it, whatever it runs.
    pub(super) fn companions(self) -> &'static [Self] {
        match self {
            Self::Deployment | Self::StatefulSet => &[Self::Budget, Self::Traffic],
            Self::Job => &[Self::Traffic],
            Self::Budget | Self::Traffic | Self::Secret => &[],
        }
    }

    /// The name of a workload's object; of what holds secrets, the beginning.
    pub(super) fn name(self, key: &WorkloadKey) -> String {
        if self == Self::StatefulSet { label::owner_of_volumes(&key.service) } else { label::owner(key) }
    }

    /// Whether a workload's object may have this name.
    fn is_named(self, name: &str, key: &WorkloadKey) -> bool {
        let own = self.name(key);
        match self {
            Self::Secret => name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('-')),
            _ => name == own,
        }
    }

    /// How it is named to the API server.
    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Deployment => ApiResource::erase::<Deployment>(&()),
            Self::StatefulSet => ApiResource::erase::<StatefulSet>(&()),
            Self::Job => ApiResource::erase::<Job>(&()),
            Self::Budget => ApiResource::erase::<PodDisruptionBudget>(&()),
            Self::Traffic => ApiResource::erase::<NetworkPolicy>(&()),
            Self::Secret => ApiResource::erase::<Secret>(&()),
        }
    }
}

/// One of a workload's objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: Kind,
    pub(super) key: WorkloadKey,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) version: u64,
    pub(super) applied: Option<Digest>,
    pub(super) epoch: Option<Epoch>,
    /// Which revision each template belongs to, newest last.
    pub(super) revisions: Vec<(Digest, RevisionNumber)>,
    /// The names of its instances' volumes.
    pub(super) volumes: String,
    /// The name of what holds the values of the secrets that its instances read.
    pub(super) secrets: Option<String>,
    /// Who else has changed what we decide.
    pub(super) changed_by: Option<String>,
    /// It is on its way out.
    pub(super) ending: bool,
    /// That a task has ended, for where its pod is gone: never as a success, as only the pod tells what it did.
    pub(super) ended: Option<Exit>,
}

impl Part {
    pub(super) fn of(kind: Kind, meta: &ObjectMeta) -> Option<Self> {
        let key = label::workload(meta.labels.as_ref()?).filter(|_| label::is_in_its_place(meta))?;
        let name = meta.name.clone().filter(|name| kind.is_named(name, &key))?;
        let note = |name: &str| meta.annotations.as_ref().and_then(|own| own.get(name));
        let digest = |text: &String| serde_json::from_value(text.as_str().into()).ok();
        // The values are not to be seen here, and cannot be changed: it is as we made it, or it is another's.
        let (applied, changed_by) = match (kind, apply::filled_by(meta)) {
            (Kind::Secret, Some(label::MANAGER)) => (Some(Digest::of(&name)), None),
            (Kind::Secret, by) => (None, by.map(str::to_owned)),
            _ => (note(APPLIED).and_then(digest), apply::changed_by(meta)),
        };
        Some(Self {
            kind,
            key,
            namespace: meta.namespace.clone()?,
            name,
            secrets: note(SECRETS).cloned(),
            uid: meta.uid.clone()?,
            version: meta.resource_version.as_ref()?.parse().ok()?,
            applied,
            epoch: apply::epoch(meta),
            revisions: note(REVISIONS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default(),
            volumes: note(VOLUMES).cloned().unwrap_or_default(),
            changed_by,
            ending: meta.deletion_timestamp.is_some(),
            ended: None,
        })
    }

    /// What runs a task; the whole of it, as metadata do not tell how it ended.
    pub(super) fn of_task(job: &Job) -> Option<Self> {
        let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref());
        let is_final =
            |own: &&JobCondition| matches!(own.type_.as_str(), "Failed" | "Complete") && own.status == "True";
        let ended = conditions.unwrap_or_default().iter().find(is_final).map(|own| {
            let (reason, message) = (own.reason.as_deref(), own.message.as_deref());
            let why = [reason, message].into_iter().flatten().collect::<Vec<_>>().join(": ");
            Exit::with_reason(brief(&why), own.last_transition_time.as_ref().map(at).unwrap_or_default())
        });
        Some(Self { ended, ..Self::of(Kind::Job, &job.metadata)? })
    }

    /// Its namespace and name, where pods may be made for it.
    pub(super) fn place(&self) -> Option<(String, String)> {
        self.kind.runs().then(|| (self.namespace.clone(), self.name.clone()))
    }

    /// The digest of what was applied last, of a workload or a companion; `None` where somebody has changed it since.
    pub(super) fn applied(&self) -> Option<&Digest> {
        self.applied.as_ref().filter(|_| self.changed_by.is_none() && !self.ending)
    }

    /// Whether it holds the values of secrets, as we put them there.
    pub(super) fn holds_secrets(&self) -> bool {
        self.kind == Kind::Secret && self.applied().is_some()
    }

    /// Whether it is in this namespace and holds the values of secrets, whoever put them there.
    pub(super) fn is_secret_in(&self, namespace: &str) -> bool {
        self.kind == Kind::Secret && self.namespace == namespace
    }

    /// The revision of pods made from a template: of one that is not remembered, the oldest that is.
    pub(super) fn revision(&self, template: &Digest) -> Option<RevisionNumber> {
        let own = self.revisions.iter().find(|(digest, _)| digest == template);
        own.or_else(|| self.revisions.first()).map(|(_, revision)| *revision)
    }
}

impl Entry for Part {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn at(self, version: u64) -> Self {
        Self { version, ..self }
    }

    fn is_ending(&self) -> bool {
        self.ending
    }
}

impl Known for Part {
    fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use paas_core::model::{EnvironmentId, TenantId};

    use super::*;
    use crate::apply::EPOCH;

    fn meta(managed: &serde_json::Value) -> ObjectMeta {
        serde_json::from_value(json!({
            "uid": "u-1",
            "name": "s-1-blue",
            "namespace": label::namespace("paas", &TenantId::new("t-1").unwrap(), &EnvironmentId::new("e-1").unwrap()),
            "resourceVersion": "7",
            "labels": {
                label::PLATFORM: "paas", label::TENANT: "t-1", label::ENVIRONMENT: "e-1", label::APP: "a-1", label::SERVICE: "s-1",
                label::SLOT: "blue",
            },
            "annotations": { APPLIED: "digest", EPOCH: "3", REVISIONS: r#"[["old",1],["new",2]]"# },
            "managedFields": managed,
        }))
        .unwrap()
    }

    fn managed(manager: &str, subresource: &str, fields: &serde_json::Value) -> serde_json::Value {
        json!({ "manager": manager, "operation": "Update", "subresource": subresource, "fieldsV1": fields })
    }

    #[test]
    fn metadata_tell_what_was_applied() {
        let ours = managed(label::MANAGER, "", &json!({ "f:spec": { "f:replicas": {} } }));
        let controller = managed("kube-controller-manager", "status", &json!({ "f:status": {} }));
        let owner = Part::of(Kind::Deployment, &meta(&json!([ours, controller]))).unwrap();
        assert_eq!(owner.applied().map(Digest::as_str), Some("digest"));
        assert_eq!((owner.epoch, owner.version), (Some(Epoch(3)), 7));
        let revision = |text: &str| owner.revision(&serde_json::from_value(json!(text)).unwrap());
        assert_eq!(revision("new"), Some(RevisionNumber(2)));
        assert_eq!(revision("forgotten"), Some(RevisionNumber(1)));
    }

    #[test]
    fn what_somebody_else_has_changed_counts_as_not_applied() {
        let theirs = managed("kubectl-edit", "", &json!({ "f:spec": { "f:replicas": {} } }));
        let owner = Part::of(Kind::Deployment, &meta(&json!([theirs]))).unwrap();
        assert_eq!((owner.applied(), owner.changed_by.as_deref()), (None, Some("kubectl-edit")));
        let scaler = managed("kube-controller-manager", "scale", &json!({ "f:spec": { "f:replicas": {} } }));
        assert!(Part::of(Kind::Deployment, &meta(&json!([scaler]))).unwrap().applied().is_some());
    }

    #[test]
    fn what_holds_secrets_is_ours_as_long_as_we_have_made_it() {
        let made_by = |manager: &str| {
            let held = managed(manager, "", &json!({ "f:data": { "f:TOKEN": {} }, "f:immutable": {} }));
            let labelled = managed("somebody", "", &json!({ "f:metadata": { "f:labels": {} } }));
            let meta = ObjectMeta { name: Some("s-1-blue-0a".into()), ..meta(&json!([labelled, held])) };
            Part::of(Kind::Secret, &meta).unwrap()
        };
        assert_eq!(made_by(label::MANAGER).applied(), Some(&Digest::of(&"s-1-blue-0a")));
        assert_eq!(
            (made_by("kubectl").applied(), made_by("kubectl").changed_by.as_deref()),
            (None, Some("kubectl"))
        );
        assert_eq!(Part::of(Kind::Secret, &meta(&json!([]))), None, "named as what runs the workload");
    }

    #[test]
    fn a_job_tells_that_it_has_ended_and_never_that_it_succeeded() {
        let mut meta = meta(&json!([]));
        let labels = meta.labels.as_mut().unwrap();
        labels.remove(label::SLOT);
        labels.insert(label::TASK.into(), "o-1".into());
        let key = label::workload(labels).unwrap();
        meta.name = Some(Kind::Job.name(&key));
        let ended = |kind: &str, status: &str| {
            let condition = json!({ "type": kind, "status": status, "reason": "Why", "message": "no" });
            let job = json!({ "metadata": &meta, "status": { "conditions": [condition] } });
            Part::of_task(&serde_json::from_value(job).unwrap()).unwrap().ended
        };
        for kind in ["Failed", "Complete"] {
            let exit = ended(kind, "True").unwrap();
            assert_eq!((exit.reason.as_deref(), exit.is_success()), (Some("Why: no"), false));
        }
        assert_eq!((ended("Failed", "False"), ended("FailureTarget", "True")), (None, None));
    }

    #[test]
    fn what_is_not_marked_is_not_ours() {
        // A copy in another namespace, or of another name, has the labels, too.
        let copy = ObjectMeta { namespace: Some("elsewhere".into()), ..meta(&json!([])) };
        assert_eq!(Part::of(Kind::Deployment, &copy), None);
        let copy = ObjectMeta { name: Some("s-1-blue-old".into()), ..meta(&json!([])) };
        assert_eq!(Part::of(Kind::Deployment, &copy), None);
        assert_eq!(Part::of(Kind::Job, &ObjectMeta::default()), None);
    }
}
