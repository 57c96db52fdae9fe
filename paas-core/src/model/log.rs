//! Log lines on their way: batches of one origin, never a value per line.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::filter::Level;
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
    /// How grave each line is, where that is known; empty where of none.
    pub levels: Vec<Option<Level>>,
    /// Each line's stamp, in nanoseconds since 1970, where positions are stamps; empty where they are offsets.
    pub stamps: Vec<u64>,
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
    /// How grave it is, where that is known.
    pub level: Option<Level>,
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
        Self { origin, buffer, starts, times, levels: Vec::new(), stamps: Vec::new(), position }
    }

    /// Lines whose positions are stamps: each begins at one of `starts`, and none has an earlier stamp than the one before.
    /// Both lists are as long, and `position` is the first line's.
    #[must_use]
    pub fn stamped(
        origin: LogOrigin,
        buffer: Bytes,
        starts: Vec<u32>,
        stamps: Vec<u64>,
        position: LogPosition,
    ) -> Self {
        let times = stamps.iter().map(|stamp| Timestamp(stamp / 1_000_000)).collect();
        Self { origin, buffer, starts, times, levels: Vec::new(), stamps, position }
    }

    /// Its lines in order.
    pub fn lines(&self) -> impl Iterator<Item = LogLine<'_>> {
        let mut after = self.position;
        self.starts.iter().zip(&self.times).enumerate().map(move |(i, (start, time))| {
            let from = *start as usize;
            let to = self.starts.get(i + 1).map_or(self.buffer.len(), |next| *next as usize);
            let bytes = &self.buffer[from..to];
            let position = match self.stamps.get(i) {
                Some(stamp) => {
                    let index = if after.sequence == *stamp { after.index } else { 0 };
                    let position = LogPosition { sequence: *stamp, index, ..self.position };
                    after = LogPosition { index: index.saturating_add(1), ..position };
                    position
                }
                None => LogPosition { sequence: self.position.sequence + u64::from(*start), ..self.position },
            };
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
            LogLine { bytes, time: *time, level: self.levels.get(i).copied().flatten(), position }
        })
    }

    /// What is left of it without so many of its first lines: `None` where that is nothing.
    #[must_use]
    pub fn without_first(&self, lines: usize) -> Option<Self> {
        let (Some(first), Some(start)) = (self.lines().nth(lines), self.starts.get(lines).copied()) else {
            return (lines == 0).then(|| self.clone());
        };
        Some(Self {
            origin: self.origin.clone(),
            position: first.position,
            buffer: self.buffer.slice(start as usize..),
            starts: self.starts[lines..].iter().map(|own| own - start).collect(),
            times: self.times[lines..].to_vec(),
            levels: self.levels.get(lines..).unwrap_or_default().to_vec(),
            stamps: self.stamps.get(lines..).unwrap_or_default().to_vec(),
        })
    }

    /// The position after its last line.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        let Some(last) = self.stamps.last() else {
            return LogPosition {
                sequence: self.position.sequence + self.buffer.len() as u64,
                ..self.position
            };
        };
        let same = self.stamps.iter().rev().take_while(|stamp| *stamp == last).count();
        let before = if *last == self.position.sequence { self.position.index } else { 0 };
        let index = before.saturating_add(u32::try_from(same).unwrap_or(u32::MAX));
        LogPosition { sequence: *last, index, ..self.position }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamped_lines_are_told_apart_by_how_many_have_the_same_stamp() {
        let service = Resource::Service(
            TenantId::new("t-1").unwrap(),
            EnvironmentId::new("e-1").unwrap(),
            AppId::new("a-1").unwrap(),
            ServiceId::new("s-1").unwrap(),
        );
        let instance = InstanceId::new("i-1").unwrap();
        let origin = LogOrigin::new(&service, RevisionNumber(1), instance, LogStream::Combined).unwrap();
        let at = |sequence, index| LogPosition { incarnation: 2, sequence, index };
        let batch = |stamps: &[u64], first| {
            let (buffer, starts) = (Bytes::from("a\n".repeat(stamps.len())), (0..).step_by(2));
            let starts = starts.take(stamps.len()).collect();
            LogBatch::stamped(origin.clone(), buffer, starts, stamps.to_vec(), first)
        };
        let all = batch(&[7_000_000, 7_000_000, 9_000_000], at(7_000_000, 3));
        let positions: Vec<_> = all.lines().map(|line| line.position).collect();
        assert_eq!(positions, [at(7_000_000, 3), at(7_000_000, 4), at(9_000_000, 0)]);
        assert_eq!((all.end(), all.times[2]), (at(9_000_000, 1), Timestamp(9)));
        assert_eq!(batch(&[7, 7], at(7, 3)).end(), at(7, 5));
    }
}
