//! Lines that tests push, kept in bounded rings.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::watch;

use super::lock;
use crate::Result;
use crate::model::{Clock, LogBatch, LogItem, LogOrigin, LogPosition, LogSelector, Scope, Timestamp};
use crate::port::LogSource;

/// Most bytes in a batch of more than one line.
const BATCH: usize = 1024 * 1024;
/// Most notices that are kept.
const NOTICES: usize = 1_000;

/// Gives lines that a test pushed. Each origin has a ring; a reader that comes too late for a line is told how many
/// bytes are missing.
#[derive(Clone, Debug)]
pub struct MemoryLogSource {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    clock: Clock,
    capacity: usize,
    lines: Mutex<Lines>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Lines {
    rings: BTreeMap<LogOrigin, Ring>,
    notices: VecDeque<(u64, LogOrigin, LogItem)>,
    noticed: u64,
}

/// The newest lines of an origin, from the byte `start` of its output on.
#[derive(Debug, Default)]
struct Ring {
    start: u64,
    held: usize,
    lines: VecDeque<(Timestamp, Bytes)>,
}

/// How far a reader is.
#[derive(Debug, Default)]
struct Cursor {
    read: BTreeMap<LogOrigin, u64>,
    noticed: u64,
}

impl MemoryLogSource {
    /// Keeps 1 MiB of each origin.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::with_capacity(clock, 1024 * 1024)
    }

    /// Keeps so many bytes of each origin, newlines included, and always its newest line.
    #[must_use]
    pub fn with_capacity(clock: Clock, bytes: usize) -> Self {
        let changed = watch::Sender::new(());
        Self { inner: Arc::new(Inner { clock, capacity: bytes, lines: Mutex::default(), changed }) }
    }

    /// Writes a line as an instance would; the newline is added, and one within makes two lines.
    pub fn push(&self, origin: &LogOrigin, line: impl AsRef<[u8]>) {
        let time = self.inner.clock.now();
        let mut lines = lock(&self.inner.lines);
        let ring = lines.rings.entry(origin.clone()).or_default();
        for line in line.as_ref().split(|byte| *byte == b'\n') {
            let mut bytes = BytesMut::from(line);
            bytes.extend_from_slice(b"\n");
            ring.push(time, bytes.freeze(), self.inner.capacity);
        }
        drop(lines);
        self.inner.changed.send_replace(());
    }

    /// Tells that an instance began or ended.
    pub fn notice(&self, origin: &LogOrigin, text: impl Into<String>) {
        let item = LogItem::Notice {
            resource: origin.resource(),
            instance: origin.instance.clone(),
            at: self.inner.clock.now(),
            text: text.into(),
        };
        let mut lines = lock(&self.inner.lines);
        lines.noticed += 1;
        let number = lines.noticed;
        lines.notices.push_back((number, origin.clone(), item));
        if lines.notices.len() > NOTICES {
            lines.notices.pop_front();
        }
        drop(lines);
        self.inner.changed.send_replace(());
    }
}

fn selects(selector: &LogSelector, origin: &LogOrigin) -> bool {
    selector.resource.contains(&origin.resource())
        && selector.instance.as_ref().is_none_or(|instance| *instance == origin.instance)
}

impl Lines {
    /// Where a reader begins: after what it has, else at the oldest line that is there.
    fn cursor(&self, selector: &LogSelector) -> Cursor {
        let begin = |(origin, ring): (&LogOrigin, &Ring)| {
            let known = selector.after.iter().find(|(instance, stream, position)| {
                *instance == origin.instance && *stream == origin.stream && position.incarnation == 0
            });
            (origin.clone(), known.map_or(ring.start, |(.., position)| position.sequence))
        };
        Cursor { read: self.rings.iter().map(begin).collect(), noticed: 0 }
    }

    /// Everything after the cursor, which moves to the end.
    fn read(&self, selector: &LogSelector, cursor: &mut Cursor) -> VecDeque<LogItem> {
        let mut items = VecDeque::new();
        for (origin, ring) in self.rings.iter().filter(|(origin, _)| selects(selector, origin)) {
            // An origin that began after the reader is read from its first byte.
            let at = cursor.read.entry(origin.clone()).or_default();
            ring.read(origin, at, &mut items);
        }
        for (number, origin, item) in &self.notices {
            if *number > cursor.noticed && selects(selector, origin) {
                items.push_back(item.clone());
            }
        }
        cursor.noticed = self.noticed;
        items
    }
}

impl Ring {
    fn push(&mut self, time: Timestamp, line: Bytes, capacity: usize) {
        self.held += line.len();
        self.lines.push_back((time, line));
        while self.held > capacity && self.lines.len() > 1 {
            let Some((_, oldest)) = self.lines.pop_front() else { break };
            self.held -= oldest.len();
            self.start += oldest.len() as u64;
        }
    }

    fn read(&self, origin: &LogOrigin, at: &mut u64, items: &mut VecDeque<LogItem>) {
        if *at < self.start {
            let reason = "older lines made room for newer ones".to_owned();
            items.push_back(LogItem::Gap { origin: Some(origin.clone()), bytes: self.start - *at, reason });
            *at = self.start;
        }
        let mut begin = self.start;
        let mut batch: Vec<&(Timestamp, Bytes)> = Vec::new();
        let mut held = 0;
        for line in &self.lines {
            if begin >= *at {
                if held + line.1.len() > BATCH && !batch.is_empty() {
                    items.push_back(LogItem::Batch(joined(origin, at, &batch)));
                    batch.clear();
                    held = 0;
                }
                held += line.1.len();
                batch.push(line);
            }
            begin += line.1.len() as u64;
        }
        if !batch.is_empty() {
            items.push_back(LogItem::Batch(joined(origin, at, &batch)));
        }
    }
}

/// One batch of these lines, which begin at `at`; that moves to their end.
fn joined(origin: &LogOrigin, at: &mut u64, lines: &[&(Timestamp, Bytes)]) -> LogBatch {
    let mut buffer = BytesMut::new();
    lines.iter().for_each(|(_, line)| buffer.extend_from_slice(line));
    let position = LogPosition::offset(0, *at);
    *at += buffer.len() as u64;
    let mut batch = LogBatch::new(origin.clone(), buffer.freeze(), Timestamp::default(), position);
    batch.times = lines.iter().map(|(time, _)| *time).collect();
    batch
}

/// A reader that waits for more. It does not keep the source alive.
struct Follower {
    source: Weak<Inner>,
    changed: watch::Receiver<()>,
    selector: LogSelector,
    cursor: Cursor,
    items: VecDeque<LogItem>,
}

impl Follower {
    async fn next(mut self) -> Option<(Result<LogItem>, Self)> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some((Ok(item), self));
            }
            self.changed.mark_unchanged();
            self.items = lock(&self.source.upgrade()?.lines).read(&self.selector, &mut self.cursor);
            if self.items.is_empty() {
                self.changed.changed().await.ok()?;
            }
        }
    }
}

#[async_trait]
impl LogSource for MemoryLogSource {
    async fn lines(&self, _: &Scope, selector: LogSelector) -> Result<BoxStream<'static, Result<LogItem>>> {
        let lines = lock(&self.inner.lines);
        let mut cursor = lines.cursor(&selector);
        if !selector.follow {
            return Ok(stream::iter(lines.read(&selector, &mut cursor)).map(Ok).boxed());
        }
        let follower = Follower {
            source: Arc::downgrade(&self.inner),
            changed: self.inner.changed.subscribe(),
            selector,
            cursor,
            items: VecDeque::new(),
        };
        Ok(stream::unfold(follower, Follower::next).boxed())
    }
}
