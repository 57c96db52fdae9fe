//! Who may send lines in, and what became of lines that nobody could be found for.

use serde::{Deserialize, Serialize};

use crate::model::id::{LogCredentialId, ServiceId};
use crate::model::name::excerpt;
use crate::model::scope::Resource;
use crate::model::time::Timestamp;
use crate::model::{AppId, EnvironmentId, TenantId, limit};
use crate::{Error, Result};

/// What allows somebody to send lines in. Its token is shown once, when it is made; nobody keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogCredential {
    /// Its id.
    pub id: LogCredentialId,
    /// What people call it.
    pub name: String,
    /// Whose lines come with it.
    pub sender: LogSender,
    /// When it was made.
    pub created: Timestamp,
}

/// Whose lines come with a credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogSender {
    /// Those of one service, whatever they say of themselves.
    Service(TenantId, EnvironmentId, AppId, ServiceId),
    /// Those of instances all over the platform: each is told by its id, which the platform knows.
    Collector,
}

/// Lines that a collector sent, and that went nowhere: how many, and why. Of the lines themselves nothing is kept, since nobody
/// knows what is secret in them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogQuarantine {
    /// Which collector.
    pub collector: LogCredentialId,
    /// What people call it.
    pub name: String,
    /// Why.
    pub reason: LogQuarantineReason,
    /// How many records.
    pub records: u64,
    /// How many bytes they had.
    pub bytes: u64,
    /// When the last one came.
    pub last: Timestamp,
    /// Which instance that one claimed to be of; the first 200 bytes.
    pub claimed: String,
}

/// Why lines went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogQuarantineReason {
    /// They name no instance.
    Nameless,
    /// They name an instance that the platform does not know.
    Unknown,
    /// They name more than one.
    Contradictory,
    /// They are of an instance whose output the platform reads by itself.
    CollectedAlready,
}

impl LogCredential {
    /// A credential.
    ///
    /// # Errors
    /// `Invalid` unless the name is 1 to [`limit::NAME`] letters, digits, `-`, `_` and `.`.
    pub fn new(
        id: LogCredentialId,
        name: impl Into<String>,
        sender: LogSender,
        created: Timestamp,
    ) -> Result<Self> {
        let name = name.into();
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > limit::NAME || !name.bytes().all(inner) {
            let text = "the name of a credential is letters, digits, `-`, `_` and `.`";
            return Err(Error::invalid(text).with("longest", limit::NAME).with("name", excerpt(&name)));
        }
        Ok(Self { id, name, sender, created })
    }
}

impl LogSender {
    /// A service; `None` where the resource is none.
    #[must_use]
    pub fn service(resource: &Resource) -> Option<Self> {
        let Resource::Service(tenant, environment, app, service) = resource.clone() else { return None };
        Some(Self::Service(tenant, environment, app, service))
    }

    /// What it is about: a service, or the whole platform.
    #[must_use]
    pub fn resource(&self) -> Resource {
        match self.clone() {
            Self::Service(tenant, environment, app, service) => {
                Resource::Service(tenant, environment, app, service)
            }
            Self::Collector => Resource::Platform,
        }
    }
}

impl LogQuarantine {
    /// Nothing so far.
    #[must_use]
    pub fn new(credential: &LogCredential, reason: LogQuarantineReason) -> Self {
        let (collector, name) = (credential.id.clone(), credential.name.clone());
        let (last, claimed) = (Timestamp(0), String::new());
        Self { collector, name, reason, records: 0, bytes: 0, last, claimed }
    }
}

impl LogQuarantineReason {
    /// For people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nameless => "the record names no instance",
            Self::Unknown => "the platform knows no such instance",
            Self::Contradictory => "the record names more than one instance",
            Self::CollectedAlready => "the platform reads the output of this instance by itself",
        }
    }
}
