//! What is asked of a log store, and what it answers.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::filter::{Level, LogEvent, LogFilter, field, pair};
use super::id::{InstanceId, TenantId};
use super::log::{LogBatch, LogOrigin, LogPosition, LogStream};
use super::scope::Resource;
use super::time::Timestamp;
use crate::{Error, Result};

/// Which stored lines to find.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogQuery {
    /// A tenant, or something within one. Nothing of any other is ever found.
    pub resource: Resource,
    /// Only of this instance.
    pub instance: Option<InstanceId>,
    /// Only what this matches.
    pub filter: LogFilter,
    /// Only those at or after this time.
    pub from: Timestamp,
    /// Only those before this time.
    pub to: Timestamp,
    /// Which come first.
    pub order: LogOrder,
    /// At most this many; 0 means 100. No more than 5,000 come at once.
    pub limit: usize,
    /// Only those that come after this one in the order.
    pub after: Option<LogKey>,
}

/// In which order lines are given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogOrder {
    /// The latest first.
    #[default]
    Newest,
    /// The earliest first.
    Oldest,
}

/// The place of a line among all lines of its tenant: by time, and where times are the same, in the order in which an
/// output wrote them. It is the line's own, so a search that goes on after it meets no line twice, and misses none that was
/// there, whatever arrives meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogKey {
    /// When it was written.
    pub time: Timestamp,
    /// By which instance.
    pub instance: InstanceId,
    /// To which output.
    pub stream: LogStream,
    /// Where it begins.
    pub position: LogPosition,
}

/// A stored line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEntry {
    /// Where it was born; shared by the lines of an origin.
    pub origin: Arc<LogOrigin>,
    /// Where it begins.
    pub position: LogPosition,
    /// When it was written.
    pub time: Timestamp,
    /// How grave it is, where that is known.
    pub level: Option<Level>,
    /// Its bytes, without the newline.
    pub line: Bytes,
    /// What is known of it beside its bytes, as [`pairs`](super::pairs).
    pub fields: Bytes,
}

/// A stored line where it stands, as far as a filter looks at it.
#[derive(Clone, Copy, Debug)]
pub struct StoredLine<'a> {
    /// Where it was born.
    pub origin: &'a LogOrigin,
    /// How grave it is, where that is known.
    pub level: Option<Level>,
    /// Its bytes, without the newline.
    pub line: &'a [u8],
    /// What is known of it beside its bytes, as [`pairs`](super::pairs).
    pub fields: &'a [u8],
}

/// Lines that were found, and how to go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogPage {
    /// The lines, in the order that was asked for.
    pub entries: Vec<LogEntry>,
    /// What to go on after; `None` where there is no more now.
    pub next: Option<LogKey>,
}

/// How many lines fall into a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogBucket {
    /// When it begins; a multiple of the step.
    pub from: Timestamp,
    /// How many lines.
    pub count: u64,
}

/// How many lines have a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogCount {
    /// The value, as text; what is no UTF-8 in it is replaced.
    pub value: String,
    /// How many lines.
    pub count: u64,
}

impl LogQuery {
    /// Every line of a resource, the newest first.
    #[must_use]
    pub fn of(resource: Resource) -> Self {
        Self {
            resource,
            instance: None,
            filter: LogFilter::All,
            from: Timestamp(0),
            to: Timestamp(u64::MAX),
            order: LogOrder::Newest,
            limit: 0,
            after: None,
        }
    }

    /// Only what this matches, too.
    #[must_use]
    pub fn matching(mut self, filter: LogFilter) -> Self {
        self.filter = self.filter.and(filter);
        self
    }

    /// The tenant that it is about.
    ///
    /// # Errors
    /// `Invalid` where it is not of one tenant.
    pub fn tenant(&self) -> Result<&TenantId> {
        self.resource.tenant().ok_or_else(|| Error::invalid("lines are searched in one tenant"))
    }

    /// How many to give.
    #[must_use]
    pub fn bounded_limit(&self) -> usize {
        if self.limit == 0 { 100 } else { self.limit.min(5_000) }
    }

    /// Whether lines of an origin are looked at.
    #[must_use]
    pub fn covers(&self, origin: &LogOrigin) -> bool {
        self.resource.tenant().is_some()
            && self.resource.contains(&origin.resource())
            && self.instance.as_ref().is_none_or(|instance| *instance == origin.instance)
    }

    /// Whether a line of this key is still to come.
    #[must_use]
    pub fn reaches(&self, key: &LogKey) -> bool {
        (self.from..self.to).contains(&key.time)
            && self.after.as_ref().is_none_or(|after| match self.order {
                LogOrder::Newest => key < after,
                LogOrder::Oldest => key > after,
            })
    }
}

impl LogCount {
    /// A value and how often it is there.
    #[must_use]
    pub fn new(value: impl Into<String>, count: u64) -> Self {
        Self { value: value.into(), count }
    }
}

impl LogBucket {
    /// So many lines from a time on.
    #[must_use]
    pub fn new(from: Timestamp, count: u64) -> Self {
        Self { from, count }
    }
}

impl LogPage {
    /// Lines, and the one to go on after.
    #[must_use]
    pub fn new(entries: Vec<LogEntry>, next: Option<LogKey>) -> Self {
        Self { entries, next }
    }
}

impl LogEntry {
    /// A line as it is kept.
    #[must_use]
    pub fn new(
        origin: Arc<LogOrigin>,
        position: LogPosition,
        time: Timestamp,
        level: Option<Level>,
        line: Bytes,
    ) -> Self {
        Self { origin, position, time, level, line, fields: Bytes::new() }
    }

    /// What is known of it, too.
    #[must_use]
    pub fn with_fields(self, fields: &[u8]) -> Self {
        Self { fields: Bytes::copy_from_slice(fields), ..self }
    }

    /// It as filters look at it.
    fn stored(&self) -> StoredLine<'_> {
        StoredLine { origin: &self.origin, level: self.level, line: &self.line, fields: &self.fields }
    }

    /// Its place.
    #[must_use]
    pub fn key(&self) -> LogKey {
        LogKey {
            time: self.time,
            instance: self.origin.instance.clone(),
            stream: self.origin.stream,
            position: self.position,
        }
    }
}

/// Takes a field from where a line was born.
type OfOrigin = fn(&LogOrigin) -> Cow<'_, [u8]>;

/// What gives a field that is known of every line, whatever it says itself.
pub(crate) fn of_origin(field: &str) -> Option<OfOrigin> {
    Some(match field {
        "instance" => |origin| Cow::Borrowed(origin.instance.as_str().as_bytes()),
        "revision" => |origin| Cow::Owned(origin.revision.0.to_string().into_bytes()),
        "stream" => |origin| Cow::Borrowed(origin.stream.as_str().as_bytes()),
        _ => return None,
    })
}

impl LogEvent for LogEntry {
    fn line(&self) -> &[u8] {
        &self.line
    }

    fn level(&self) -> Option<Level> {
        self.level
    }

    fn field(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.stored().into_field(name)
    }
}

impl<'a> StoredLine<'a> {
    /// One of the lines of a batch.
    #[must_use]
    pub fn of(batch: &'a LogBatch, at: usize) -> Self {
        let level = batch.levels.get(at).copied().flatten();
        Self { origin: &batch.origin, level, line: batch.line(at), fields: batch.fields.of(at) }
    }

    /// `instance`, `revision` and `stream` are known of every line, whatever it says itself; of others what rules found out
    /// counts before what it says.
    fn into_field(self, name: &str) -> Option<Cow<'a, [u8]>> {
        match of_origin(name) {
            Some(known) => Some(known(self.origin)),
            None => pair(self.fields, name.as_bytes()).or_else(|| field(self.line, name)),
        }
    }
}

impl LogEvent for StoredLine<'_> {
    fn line(&self) -> &[u8] {
        self.line
    }

    fn level(&self) -> Option<Level> {
        self.level
    }

    fn field(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.into_field(name)
    }
}
