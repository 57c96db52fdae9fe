//! Lines as they are born, for whoever watches.

use std::sync::Arc;

use super::{LogBatch, LogItem, LogLine, LogOrigin, LogPosition, LogStream};
use crate::model::filter::{LogFilter, LogMatcher};
use crate::model::id::InstanceId;
use crate::model::scope::Resource;
use crate::model::search::{LogEntry, StoredLine};
use crate::model::time::Timestamp;

/// Which lines somebody watches.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct LogTail {
    /// An app or a service.
    pub resource: Resource,
    /// Only of this instance.
    pub instance: Option<InstanceId>,
    /// Only what this matches.
    pub filter: LogFilter,
    /// Begins with the lines from this time on that are still there; without, with what comes now.
    pub since: Option<Timestamp>,
    /// Goes on after these positions: what was read before is not given again. `since` is then the time of the last line that
    /// was read, or some time before.
    pub after: Vec<(InstanceId, LogStream, LogPosition)>,
    /// Whether to wait for more once all that is there was given.
    pub follow: bool,
}

/// What a watcher is given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TailItem {
    /// Lines, in the order of time as far as they came together.
    Lines(TailLines),
    /// Output that is lost, or was not waited for.
    Gap {
        /// Whose it was, where that is known.
        origin: Option<LogOrigin>,
        /// How many bytes are missing; 0 where nobody knows.
        bytes: u64,
        /// Why.
        reason: String,
    },
    /// An instance began or ended.
    Notice {
        /// Its service.
        resource: Resource,
        /// The instance.
        instance: InstanceId,
        /// When.
        at: Timestamp,
        /// What happened, for people.
        text: String,
    },
}

/// Lines for a watcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailLines {
    /// The lines.
    pub entries: Vec<LogEntry>,
    /// Up to where each output is read now, lines that did not match included: with these, [`LogTail::after`] goes on.
    pub ends: Vec<(Arc<LogOrigin>, LogPosition)>,
}

impl LogTail {
    /// What a resource writes from now on.
    #[must_use]
    pub fn follow(resource: Resource) -> Self {
        let (instance, filter, since, after) = (None, LogFilter::All, None, Vec::new());
        Self { resource, instance, filter, since, after, follow: true }
    }

    /// What there is from a time on.
    #[must_use]
    pub fn since(resource: Resource, since: Timestamp) -> Self {
        Self { since: Some(since), follow: false, ..Self::follow(resource) }
    }

    /// And then what comes.
    #[must_use]
    pub fn and_on(self) -> Self {
        Self { follow: true, ..self }
    }

    /// Only what this matches, too.
    #[must_use]
    pub fn matching(mut self, filter: LogFilter) -> Self {
        self.filter = self.filter.and(filter);
        self
    }

    /// Whether an output is watched.
    #[must_use]
    pub fn covers(&self, origin: &LogOrigin) -> bool {
        self.resource.contains(&origin.resource())
            && self.instance.as_ref().is_none_or(|instance| *instance == origin.instance)
    }

    /// Where to go on in an output, if that was said.
    #[must_use]
    pub fn start(&self, origin: &LogOrigin) -> Option<LogPosition> {
        let own = |(instance, stream, _): &&(InstanceId, LogStream, LogPosition)| {
            *instance == origin.instance && *stream == origin.stream
        };
        self.after.iter().find(own).map(|(_, _, position)| *position)
    }
}

impl TailLines {
    /// What of a batch is watched.
    #[must_use]
    pub fn of(batch: &LogBatch, matcher: &LogMatcher, from: Timestamp) -> Self {
        let is_wanted = |at: &usize| batch.times[*at] >= from && matcher.matches(&StoredLine::of(batch, *at));
        let wanted: Vec<usize> = (0..batch.starts.len()).filter(is_wanted).collect();
        Self::of_lines(batch, &wanted)
    }

    /// Some lines of a batch that was read to its end: their numbers, in order.
    #[must_use]
    pub fn of_lines(batch: &LogBatch, wanted: &[usize]) -> Self {
        let origin = Arc::new(batch.origin.clone());
        let ends = vec![(Arc::clone(&origin), batch.end())];
        if wanted.is_empty() {
            return Self { entries: Vec::new(), ends };
        }
        let mut wanted = wanted.iter().peekable();
        let lines = batch.lines().enumerate().filter(|(at, _)| wanted.next_if(|own| *own == at).is_some());
        let entry = |(_, line): (usize, LogLine<'_>)| {
            let text = batch.buffer.slice_ref(line.bytes);
            let entry = LogEntry::new(Arc::clone(&origin), line.position, line.time, line.level, text);
            entry.with_fields(line.fields)
        };
        Self { entries: lines.map(entry).collect(), ends }
    }

    /// Lines from a store.
    #[must_use]
    pub fn stored(entries: Vec<LogEntry>) -> Self {
        let mut lines = Self::default();
        for entry in &entries {
            lines.reach(&entry.origin, entry.position.next());
        }
        Self { entries, ..lines }
    }

    fn reach(&mut self, origin: &Arc<LogOrigin>, end: LogPosition) {
        match self.ends.iter_mut().find(|(own, _)| own == origin) {
            Some((_, own)) => *own = end.max(*own),
            None => self.ends.push((Arc::clone(origin), end)),
        }
    }

    /// Takes in more, which came at the same time.
    pub fn merge(&mut self, more: Self) {
        self.entries.extend(more.entries);
        // Lines of one output stay as they are: the order is stable, and its own times may step back.
        self.entries.sort_by_key(|entry| entry.time);
        more.ends.iter().for_each(|(origin, end)| self.reach(origin, *end));
    }
}

impl TailItem {
    /// What of an item of a source is watched.
    #[must_use]
    pub fn of(item: LogItem, matcher: &LogMatcher, from: Timestamp) -> Self {
        match item {
            LogItem::Batch(batch) => Self::Lines(TailLines::of(&batch, matcher, from)),
            LogItem::Gap { origin, bytes, reason } => Self::Gap { origin, bytes, reason },
            LogItem::Notice { resource, instance, at, text } => Self::Notice { resource, instance, at, text },
        }
    }
}
