//! Storage that outlives instances, revisions and releases.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::id::{EnvironmentId, ServiceId, TenantId, VolumeId};
use super::name::VolumeName;
use super::quantity::ByteSize;
use crate::{Error, Result};

/// A volume as an app file asks for it. Each replica of the service gets one of its own.
///
/// In an app file it is a size, like `1GiB`, or a map.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[non_exhaustive]
pub struct VolumeSpec {
    /// How much it holds. Plain directories do not enforce it: a capability says so.
    pub size: ByteSize,
    /// Where a container finds it; programs on a host read the variable `VOLUME_<NAME>` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

impl VolumeSpec {
    /// A volume of this size.
    #[must_use]
    pub fn new(size: ByteSize) -> Self {
        Self { size, path: None }
    }
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct VolumeForm {
    /// How much it holds.
    size: ByteSize,
    /// Where a container finds it.
    path: Option<String>,
}

impl TryFrom<VolumeForm> for VolumeSpec {
    type Error = Error;
    fn try_from(form: VolumeForm) -> Result<Self> {
        if let Some(path) = &form.path
            && (!path.starts_with('/')
                || path.len() > 200
                || path.contains("..")
                || path.chars().any(char::is_control))
        {
            return Err(Error::invalid("a volume's path is absolute, without `..`")
                .with("path", super::name::excerpt(path)));
        }
        Ok(Self { size: form.size, path: form.path })
    }
}

impl FromStr for VolumeSpec {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        text.parse().map(Self::new)
    }
}

impl<'de> Deserialize<'de> for VolumeSpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::form::text_or_map::<VolumeForm, Self, D>(deserializer, "a size like 1GiB, or a map")
    }
}

impl schemars::JsonSchema for VolumeSpec {
    fn schema_name() -> Cow<'static, str> {
        "Volume".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let form = VolumeForm::json_schema(generator);
        schemars::json_schema!({ "oneOf": [generator.subschema_for::<ByteSize>(), form] })
    }
}

/// One volume that exists or should: the volume `name` of replica `ordinal` of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Volume {
    /// Its id, a function of service, name and ordinal.
    pub id: VolumeId,
    /// Whose it is.
    pub tenant: TenantId,
    /// The environment of the service.
    pub environment: EnvironmentId,
    /// The service it belongs to.
    pub service: ServiceId,
    /// Its name within the service.
    pub name: VolumeName,
    /// Which replica it belongs to, from 0.
    pub ordinal: u32,
    /// How much it should hold.
    pub size: ByteSize,
}

impl Volume {
    /// The volume `name` of replica `ordinal` of `service`; the same arguments give the same id.
    ///
    /// # Errors
    /// `Invalid` where the id would be too long.
    pub fn new(
        tenant: TenantId,
        environment: EnvironmentId,
        service: ServiceId,
        name: VolumeName,
        ordinal: u32,
        size: ByteSize,
    ) -> Result<Self> {
        let digest = blake3::hash(format!("{service}/{name}/{ordinal}").as_bytes()).to_hex();
        let id = VolumeId::new(format!("v-{}", &digest.as_str()[..24]))?;
        Ok(Self { id, tenant, environment, service, name, ordinal, size })
    }
}

/// A volume as its store sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VolumeStatus {
    /// Which one.
    pub volume: Volume,
    /// Where programs of this host find it; `None` where that means nothing.
    pub path: Option<String>,
    /// Bytes in use, where the store knows.
    pub used: Option<ByteSize>,
}

impl VolumeStatus {
    /// A volume without further knowledge.
    #[must_use]
    pub fn new(volume: Volume) -> Self {
        Self { volume, path: None, used: None }
    }
}

/// Says that somebody who knows what will be gone has agreed: the id of the volume, typed again.
#[derive(Clone, PartialEq, Eq)]
pub struct Confirmation(Cow<'static, str>);

impl Confirmation {
    /// The caller repeats the volume's id.
    #[must_use]
    pub fn of(id: impl Into<String>) -> Self {
        Self(Cow::Owned(id.into()))
    }

    /// Whether it names this volume.
    ///
    /// # Errors
    /// `Invalid` where it does not.
    pub fn check(&self, id: &VolumeId) -> Result<()> {
        if self.0 == id.as_str() {
            return Ok(());
        }
        Err(Error::invalid("the confirmation does not name this volume; nothing was removed")
            .with("volume", id))
    }
}

impl fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
