//! Writes of single objects: on condition of what was last observed, in a term that is not over.

use kube::Api;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, Patch, PatchParams, Preconditions};
use kube::core::Status;
use paas_core::model::Epoch;
use paas_core::{Error, ErrorKind, Result};
use serde_json::{Value, json};

use crate::error::failed;
use crate::index::Entry;
use crate::{Connection, label};

mod foreign;

pub(crate) use foreign::{REPLICAS, changed_by, filled_by, settlement};

/// The term of the leader that wrote an object last.
pub(crate) const EPOCH: &str = "paas-sdk.dev/epoch";

/// How often a write is tried again on what somebody else wrote in between.
const TRIES: u32 = 8;

/// The version of nothing that is stored. Applied on condition of it, an object is made where there is none, and the write
/// is refused where there is one: somebody else's, or a later leader's that is not told of yet. No object has it, since the
/// first write to a store gets 2.
const NONE: &str = "1";

/// What is known of an object, as far as writes depend on it.
pub(crate) trait Known: Entry {
    fn epoch(&self) -> Option<Epoch>;
}

/// The term that an object was written in.
pub(crate) fn epoch(meta: &ObjectMeta) -> Option<Epoch> {
    meta.annotations.as_ref()?.get(EPOCH)?.parse().ok().map(Epoch)
}

/// One object, by its name.
pub(crate) struct Place {
    api: Api<DynamicObject>,
    name: String,
}

/// Why an apply did not happen.
enum Refused {
    /// Somebody else holds these fields.
    Held(String),
    /// It is not as it was observed.
    Stale,
    Other(Error),
}

impl Place {
    pub(crate) fn new(connection: &Connection, kind: &ApiResource, namespace: &str, name: &str) -> Self {
        Self { api: connection.dynamic(kind, namespace), name: name.to_owned() }
    }

    /// Makes it what `render` gives for what is known of it, and gives what `read` makes of the result. Fields that
    /// somebody else has changed are put back, those that somebody else has added go, and both is told of.
    ///
    /// What is known has a uid, with which the API server makes nothing: a write that comes late brings nothing back.
    ///
    /// # Errors
    /// `Conflict` where what is known is gone, or a later leader has written; `Unavailable` where somebody else keeps changing
    /// it; `Failed` where it is not the platform's.
    pub(crate) async fn apply<K: Known>(
        &self,
        mut known: Option<K>,
        epoch: Option<Epoch>,
        read: impl Fn(&ObjectMeta) -> Option<K>,
        render: impl Fn(Option<&K>) -> Result<Value>,
    ) -> Result<K> {
        let read = |meta: &ObjectMeta| read(meta).ok_or_else(|| foreign(&self.name));
        let mut force = false;
        for _ in 0..TRIES {
            admit(epoch, known.as_ref())?;
            let mut object = render(known.as_ref())?;
            let version = known.as_ref().map_or_else(|| NONE.to_owned(), |known| known.version().to_string());
            object["metadata"]["resourceVersion"] = json!(version);
            if let Some(known) = &known {
                object["metadata"]["uid"] = json!(known.uid());
            }
            // A write without a term leaves the bar where it is.
            if let Some(term) = epoch.max(known.as_ref().and_then(Known::epoch)) {
                object["metadata"]["annotations"][EPOCH] = json!(term.0.to_string());
            }
            match self.patch(&object, force, known.is_some()).await {
                Ok(meta) => return read(&self.without_additions(meta).await?),
                Err(Refused::Held(fields)) => {
                    tracing::warn!(
                        name = self.name,
                        fields,
                        "drift: somebody else has changed what the platform decides; it is put back"
                    );
                    force = true;
                }
                Err(Refused::Stale) => {
                    let found = self.look().await?;
                    if known.is_some() && found.is_none() {
                        return Err(vanished(&self.name));
                    }
                    known = found.map(|meta| read(&meta)).transpose()?;
                }
                Err(Refused::Other(error)) => return Err(error),
            }
        }
        Err(self.contended())
    }

    /// Takes away what somebody else has added to it.
    async fn without_additions(&self, meta: ObjectMeta) -> Result<ObjectMeta> {
        let Some(by) = changed_by(&meta) else { return Ok(meta) };
        let found = self.api.get_opt(&self.name).await;
        let found = found.map_err(|cause| failed(cause, "read").with("name", &self.name))?;
        let Some(found) = found.filter(|found| found.metadata.uid == meta.uid) else { return Ok(meta) };
        let Some(patch) = settlement(&found.metadata, &found.data["spec"])? else {
            return Ok(found.metadata);
        };
        tracing::warn!(name = self.name, by, spec = %patch["spec"], "drift: somebody else has added to what the platform decides; it is removed");
        let params = PatchParams { field_manager: Some(label::MANAGER.into()), ..PatchParams::default() };
        match self.api.patch_metadata(&self.name, &params, &Patch::Merge(patch)).await {
            Ok(written) => Ok(written.metadata),
            // Somebody is at it just now: whoever looks again finds it changed.
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(found.metadata),
            Err(cause) => Err(failed(cause, "remove additions").with("name", &self.name)),
        }
    }

    /// Deletes it, as long as it is the one that is known. What is missing is deleted.
    pub(crate) async fn delete<K: Known>(
        &self,
        mut known: K,
        epoch: Option<Epoch>,
        read: impl Fn(&ObjectMeta) -> Option<K>,
    ) -> Result<()> {
        for _ in 0..TRIES {
            admit(epoch, Some(&known))?;
            let preconditions = Preconditions {
                uid: Some(known.uid().to_owned()),
                resource_version: Some(known.version().to_string()),
            };
            let params = DeleteParams::background().preconditions(preconditions);
            match gone(self.api.delete(&self.name, &params).await, "delete") {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                outcome => return outcome,
            }
            match self.look().await? {
                Some(meta) if meta.uid.as_deref() == Some(known.uid()) => {
                    known = read(&meta).ok_or_else(|| foreign(&self.name))?;
                }
                _ => return Ok(()),
            }
        }
        Err(self.contended())
    }

    async fn look(&self) -> Result<Option<ObjectMeta>> {
        let found = self.api.get_metadata_opt(&self.name).await;
        Ok(found.map_err(|cause| failed(cause, "read").with("name", &self.name))?.map(|found| found.metadata))
    }

    /// Applies with our one field manager; fields of others are taken only where `force` says so.
    async fn patch(&self, object: &Value, force: bool, is_conditional: bool) -> Result<ObjectMeta, Refused> {
        let mut params = PatchParams::apply(label::MANAGER).validation_strict();
        params.force = force;
        match self.api.patch(&self.name, &params, &Patch::Apply(object)).await {
            Ok(written) => Ok(written.metadata),
            // That it is missing is news where it was observed.
            Err(kube::Error::Api(status)) if status.code == 409 || (status.code == 404 && is_conditional) => {
                Err(held(&status).map_or(Refused::Stale, Refused::Held))
            }
            Err(cause) => Err(Refused::Other(failed(cause, "apply").with("name", &self.name))),
        }
    }

    fn contended(&self) -> Error {
        // Not a conflict, which would be over with another look.
        Error::unavailable("somebody else keeps changing it").with("name", &self.name)
    }
}

/// Refuses to write over what a later leader has written.
pub(crate) fn admit<K: Known>(own: Option<Epoch>, known: Option<&K>) -> Result<()> {
    match (own, known.and_then(Known::epoch)) {
        (Some(own), Some(later)) if own < later => {
            Err(Error::conflict("a leader of a later term has written")
                .with("epoch", own)
                .with("seen", later))
        }
        _ => Ok(()),
    }
}

/// Something has a name that one of ours should have. That is no race, which would be over with another look: somebody has
/// to do something.
pub(crate) fn foreign(name: &str) -> Error {
    let message = "an object of this name is there and is not marked as the platform's: remove it, or put its labels back";
    Error::new(ErrorKind::Failed, message).with("name", name)
}

/// What was to be changed is gone.
pub(crate) fn vanished(name: &str) -> Error {
    Error::conflict("it was deleted meanwhile").with("name", name)
}

/// A delete of what is missing is done.
pub(crate) fn gone<T>(outcome: kube::Result<T>, what: &'static str) -> Result<()> {
    match outcome.map_err(|cause| failed(cause, what)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
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
