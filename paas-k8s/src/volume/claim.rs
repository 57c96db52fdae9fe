//! How a claim holds a volume.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, VolumeResourceRequirements,
};
use kube::ResourceExt;
use kube::api::ObjectMeta;
use paas_core::model::{ByteSize, ServiceId, Volume, VolumeStatus};
use paas_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{label, quantity};

/// The id of the volume: a label.
pub(crate) const VOLUME: &str = "paas-sdk.dev/volume";
/// Which volume it is: an annotation.
const DESCRIPTION: &str = "paas-sdk.dev/volume-description";
/// What is asked for.
const STORAGE: &str = "storage";

const SCHEMA: u32 = 1;

/// What the annotation holds.
#[derive(Serialize, Deserialize)]
struct Description {
    schema: u32,
    volume: Volume,
}

/// Where the StatefulSet of the service looks: a service with volumes has one slot.
pub(super) fn name(volume: &Volume) -> String {
    format!("{}-{}-{}", volume.name, label::owner_of_volumes(&volume.service), volume.ordinal)
}

fn labels(platform: &str, volume: &Volume) -> BTreeMap<String, String> {
    let mut labels = label::of_environment(platform, &volume.tenant, &volume.environment);
    labels.insert(label::SERVICE.into(), volume.service.to_string());
    labels.insert(VOLUME.into(), volume.id.to_string());
    labels
}

fn annotations(volume: &Volume) -> Result<BTreeMap<String, String>> {
    let description = Description { schema: SCHEMA, volume: volume.clone() };
    let text = serde_json::to_string(&description)
        .map_err(|cause| Error::internal("a volume has no description").with_source(cause))?;
    Ok(BTreeMap::from([(DESCRIPTION.to_owned(), text)]))
}

/// The claim of a volume. The API server takes no claim for nothing.
pub(super) fn of(platform: &str, volume: &Volume, class: Option<&str>) -> Result<PersistentVolumeClaim> {
    let size = quantity::bytes(volume.size.max(ByteSize(1)));
    let spec = PersistentVolumeClaimSpec {
        access_modes: Some(vec!["ReadWriteOnce".into()]),
        storage_class_name: class.map(str::to_owned),
        resources: Some(VolumeResourceRequirements {
            requests: Some(BTreeMap::from([(STORAGE.to_owned(), size)])),
            ..VolumeResourceRequirements::default()
        }),
        ..PersistentVolumeClaimSpec::default()
    };
    let metadata = ObjectMeta {
        name: Some(name(volume)),
        labels: Some(labels(platform, volume)),
        annotations: Some(annotations(volume)?),
        ..ObjectMeta::default()
    };
    Ok(PersistentVolumeClaim { metadata, spec: Some(spec), status: None })
}

/// What makes a claim, as it was seen, hold a volume: its marks, and the size unless it is larger.
pub(super) fn change(platform: &str, found: &PersistentVolumeClaim, wanted: &Volume) -> Result<Value> {
    let size = size(found)?.max(wanted.size);
    let mut volume = wanted.clone();
    volume.size = size;
    let requests =
        if size > self::size(found)? { json!({ STORAGE: quantity::bytes(size) }) } else { json!({}) };
    Ok(json!({
        "metadata": {
            "resourceVersion": found.metadata.resource_version,
            "labels": labels(platform, wanted),
            "annotations": annotations(&volume)?,
        },
        "spec": { "resources": { "requests": requests } },
    }))
}

/// Whether a claim of a volume's name is, or may become, that volume's.
pub(super) fn check_own(platform: &str, found: &PersistentVolumeClaim, wanted: &Volume) -> Result<()> {
    let is = |key: &str, value: &str| found.labels().get(key).is_some_and(|own| own == value);
    let another = found.labels().get(VOLUME).is_some_and(|own| own != wanted.id.as_str());
    if another || !is(label::PLATFORM, platform) || !is(label::TENANT, wanted.tenant.as_str()) {
        return Err(Error::conflict("a claim of this name is there and is not this volume's")
            .with("claim", found.name_any()));
    }
    if found.metadata.deletion_timestamp.is_some() {
        return Err(
            Error::unavailable("a claim of this name is still being deleted").with("claim", found.name_any())
        );
    }
    Ok(())
}

/// Whether a claim is where the volume that it describes is, under that volume's name. Where the description cannot be read,
/// its labels must do: whoever makes a copy often leaves annotations out, and a copy is not the volume.
pub(super) fn is_in_its_place(claim: &PersistentVolumeClaim) -> bool {
    label::is_in_its_place(&claim.metadata)
        && match status(claim) {
            Ok(VolumeStatus { volume, .. }) => claim.name_any() == name(&volume),
            Err(_) => is_named_as_one(claim),
        }
}

/// Whether the name of a claim is that of some volume of the service that its labels name.
fn is_named_as_one(claim: &PersistentVolumeClaim) -> bool {
    let Some(Ok(service)) = claim.labels().get(label::SERVICE).map(ServiceId::new) else { return false };
    let name = claim.name_any();
    name.rsplit_once('-').is_some_and(|(rest, ordinal)| {
        ordinal.parse::<u32>().is_ok() && rest.ends_with(&format!("-{}", label::owner_of_volumes(&service)))
    })
}

/// How much a claim asks for.
pub(super) fn size(claim: &PersistentVolumeClaim) -> Result<ByteSize> {
    let resources = claim.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let asked = resources.and_then(|resources| resources.requests.as_ref()?.get(STORAGE));
    asked.and_then(quantity::size).ok_or_else(|| {
        Error::internal("a claim asks for no size that can be read").with("claim", claim.name_any())
    })
}

/// The volume that a claim holds.
pub(super) fn status(claim: &PersistentVolumeClaim) -> Result<VolumeStatus> {
    let damaged = || {
        Error::internal("the description of a volume is damaged, its data is still there")
            .with("claim", claim.name_any())
            .with("annotation", DESCRIPTION)
    };
    let text = claim.annotations().get(DESCRIPTION).ok_or_else(damaged)?;
    let value: Value = serde_json::from_str(text).map_err(|cause| damaged().with_source(cause))?;
    if value["schema"].as_u64().is_some_and(|schema| schema > SCHEMA.into()) {
        return Err(Error::invalid("a volume was written by a newer release: use that release")
            .with("claim", claim.name_any()));
    }
    let Description { mut volume, .. } =
        serde_json::from_value(value).map_err(|cause| damaged().with_source(cause))?;
    // Somebody may have made it larger by hand.
    volume.size = volume.size.max(size(claim)?);
    Ok(VolumeStatus::new(volume))
}

/// Whether a pod that has not ended names the claim.
pub(super) fn is_used_by(claim: &str, pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    let mut names = volumes
        .into_iter()
        .flatten()
        .filter_map(|volume| volume.persistent_volume_claim.as_ref())
        .map(|source| source.claim_name.as_str());
    !matches!(phase, Some("Succeeded" | "Failed")) && names.any(|name| name == claim)
}
