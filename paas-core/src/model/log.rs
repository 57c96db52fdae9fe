//! Log lines on their way: batches of one origin, never a value per line.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::id::{AppId, EnvironmentId, InstanceId, ServiceId, TenantId};
use super::revision::RevisionNumber;
use super::scope::Resource;
use super::time::Timestamp;

/// Which of a process's outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
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

/// Where in an origin's output a line begins. Positions of one origin are ordered; a reader that kept the position
/// after its last line goes on without a lost or doubled line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogPosition {
    /// Counts the starts of whatever holds the lines: after one, sequences begin anew.
    pub incarnation: u64,
    /// The byte offset in the origin's output.
    pub sequence: u64,
}

/// Consecutive lines of one origin in one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogBatch {
    /// Where they were born.
    pub origin: LogOrigin,
    /// All lines, each with the newline that ended it; any bytes.
    pub buffer: Bytes,
    /// Where each line begins in the buffer.
    pub starts: Vec<u32>,
    /// When each line was read.
    pub times: Vec<Timestamp>,
    /// The position of the first line.
    pub position: LogPosition,
}

/// One line of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// Its bytes, without the newline.
    pub bytes: &'a [u8],
    /// When it was read.
    pub time: Timestamp,
    /// Where it begins.
    pub position: LogPosition,
}

impl LogBatch {
    /// Splits a buffer of whole lines that were read at one time; a last line without a newline counts as one.
    ///
    /// The buffer holds at most 4 GiB, since offsets are 32 bits.
    #[must_use]
    pub fn new(origin: LogOrigin, buffer: Bytes, time: Timestamp, position: LogPosition) -> Self {
        let mut starts = Vec::new();
        let mut at = 0;
        while at < buffer.len() {
            starts.push(u32::try_from(at).unwrap_or(u32::MAX));
            at = buffer[at..].iter().position(|b| *b == b'\n').map_or(buffer.len(), |end| at + end + 1);
        }
        let times = vec![time; starts.len()];
        Self { origin, buffer, starts, times, position }
    }

    /// Its lines in order.
    pub fn lines(&self) -> impl Iterator<Item = LogLine<'_>> {
        self.starts.iter().zip(&self.times).enumerate().map(|(i, (start, time))| {
            let from = *start as usize;
            let to = self.starts.get(i + 1).map_or(self.buffer.len(), |next| *next as usize);
            let bytes = &self.buffer[from..to];
            let position =
                LogPosition { sequence: self.position.sequence + u64::from(*start), ..self.position };
            LogLine { bytes: bytes.strip_suffix(b"\n").unwrap_or(bytes), time: *time, position }
        })
    }

    /// The position after its last line.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        LogPosition { sequence: self.position.sequence + self.buffer.len() as u64, ..self.position }
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

/// What a reader of lines is given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogItem {
    /// Lines.
    Batch(LogBatch),
    /// Output that is lost.
    Gap {
        /// Where it would have been. `None` where nobody knows whose it was; an output that goes on after such a gap
        /// then tells its own part of it with its origin.
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
