//! Log lines on their way: batches of one origin, never a value per line.

use serde::{Deserialize, Serialize};

use super::id::{AppId, EnvironmentId, InstanceId, ServiceId, TenantId};
use super::revision::RevisionNumber;
use super::scope::Resource;
use super::time::Timestamp;

mod batch;
mod credential;
mod fields;
mod parse;
mod rules;
mod tail;
mod trial;

pub use batch::{LogBatch, LogLine, LogPlaces};
pub use credential::{LogCredential, LogQuarantine, LogQuarantineReason, LogSender};
pub use fields::{LogFields, LogPairs};
pub use parse::{LogAddition, LogFormat};
pub use rules::{AlertScope, LogAlert, LogJoin, LogRoute, LogRules, LogSample, Redaction};
pub use tail::{LogTail, TailItem, TailLines};
pub use trial::{LogRuleCount, LogRuleKind, LogTrial};

/// Which of a process's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// Both, where the source cannot tell which.
    Combined,
}

/// Where lines were born; stamped by the scheduler, never taken from the lines.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogOrigin {
    /// Whose they are.
    pub tenant: TenantId,
    /// Their environment.
    pub environment: EnvironmentId,
    /// Their app.
    pub app: AppId,
    /// Their service.
    pub service: ServiceId,
    /// The revision that runs.
    pub revision: RevisionNumber,
    /// The instance.
    pub instance: InstanceId,
    /// Which output.
    pub stream: LogStream,
}

impl LogStream {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Combined => "combined",
        }
    }
}

impl LogOrigin {
    /// An origin.
    #[must_use]
    pub fn new(
        service: &Resource,
        revision: RevisionNumber,
        instance: InstanceId,
        stream: LogStream,
    ) -> Option<Self> {
        let Resource::Service(tenant, environment, app, service) = service.clone() else { return None };
        Some(Self { tenant, environment, app, service, revision, instance, stream })
    }

    /// The service, as a resource.
    #[must_use]
    pub fn resource(&self) -> Resource {
        Resource::Service(
            self.tenant.clone(),
            self.environment.clone(),
            self.app.clone(),
            self.service.clone(),
        )
    }
}

/// Where in an origin's output a line begins. Positions of one origin are ordered, and the same for every reader; one that
/// kept the position after its last line goes on without a lost or doubled line.
///
/// Where a line begins is its offset, where somebody has counted the origin's bytes from the first on. Where nobody has,
/// as on a cluster whose nodes throw old lines away by themselves, it is the moment that the line was stamped with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Counts how often sequences began anew: with the start of what holds the lines, or where the clock that stamps them
    /// was set back.
    pub incarnation: u64,
    /// The byte offset in the origin's output; of stamped lines, the nanoseconds from 1970 to the stamp.
    pub sequence: u64,
    /// How many lines with the same stamp come before it; 0 where sequences are offsets.
    #[serde(default)]
    pub index: u32,
}

impl LogPosition {
    /// A position that is a byte offset.
    #[must_use]
    pub const fn offset(incarnation: u64, offset: u64) -> Self {
        Self { incarnation, sequence: offset, index: 0 }
    }

    /// The first position after this one: a line that begins here was read, whatever its length.
    #[must_use]
    pub const fn next(self) -> Self {
        Self { index: self.index.saturating_add(1), ..self }
    }
}

/// Whose lines a reader wants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogSelector {
    /// An app or a service (or more, for a collector).
    pub resource: Resource,
    /// Only this instance.
    pub instance: Option<InstanceId>,
    /// Go on after these positions; origins that are not named are read from the oldest line that is still there.
    pub after: Vec<(InstanceId, LogStream, LogPosition)>,
    /// Whether to wait for more lines once all that are there have been read.
    pub follow: bool,
}

impl LogSelector {
    /// Everything of a resource, from the oldest line that is still there, and on.
    #[must_use]
    pub fn follow(resource: Resource) -> Self {
        Self { resource, instance: None, after: Vec::new(), follow: true }
    }

    /// Everything of a resource that is there now.
    #[must_use]
    pub fn existing(resource: Resource) -> Self {
        Self { follow: false, ..Self::follow(resource) }
    }
}

/// What a bounded queue does with what comes while it has no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum WhenFull {
    /// Refuses it, so that whoever has it waits: nothing is lost here.
    #[default]
    Refuse,
    /// Drops the oldest, and tells who had not read it how much is missing.
    DropOldest,
}

/// What a reader of lines is given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogItem {
    /// Lines.
    Batch(LogBatch),
    /// Output that is lost.
    Gap {
        /// Where it would have been. `None` where it is of many, as in a queue, or nobody knows whose it was; an output that
        /// a source goes on with after such a gap then tells its own part of it with its origin.
        origin: Option<LogOrigin>,
        /// How many bytes are missing; 0 where nobody knows.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// An instance began or ended.
    Notice {
        /// The service it belongs to.
        resource: Resource,
        /// The instance.
        instance: InstanceId,
        /// When.
        at: Timestamp,
        /// What happened, for people.
        text: String,
    },
}
