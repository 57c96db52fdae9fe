//! Lines that wait in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedMutexGuard, watch};

use super::lock;
use crate::model::{LogBatch, LogGroup, LogItem, Scope, WhenFull};
use crate::port::{LogConsumer, LogQueue};
use crate::{Error, ErrorKind, Result};

/// When whoever was refused tries again.
const PAUSE: Duration = Duration::from_millis(500);

/// Holds lines until every group has committed them.
#[derive(Clone, Debug)]
pub struct MemoryLogQueue {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    capacity: usize,
    full: WhenFull,
    batches: Mutex<Batches>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Batches {
    waiting: VecDeque<LogBatch>,
    held: usize,
    /// What came before those that wait.
    start: Place,
    groups: BTreeMap<LogGroup, Group>,
}

/// How many batches came before, and how many bytes of lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    batches: u64,
    bytes: u64,
}

#[derive(Clone, Debug)]
struct Group {
    committed: Place,
    /// Held by the consumer that has the lines.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Default for MemoryLogQueue {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLogQueue {
    /// Has room for 64 MiB of lines, and refuses more.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(64 * 1024 * 1024, WhenFull::Refuse)
    }

    /// Has room for so many bytes of lines, not counting what stands around them.
    #[must_use]
    pub fn with_capacity(bytes: usize, full: WhenFull) -> Self {
        let changed = watch::Sender::new(());
        Self { inner: Arc::new(Inner { capacity: bytes, full, batches: Mutex::default(), changed }) }
    }
}

impl Place {
    fn after(self, batch: &LogBatch) -> Self {
        Self { batches: self.batches + 1, bytes: self.bytes + batch.buffer.len() as u64 }
    }
}

impl Batches {
    /// Drops the oldest for as long as `may` says so of what comes after it.
    fn drop_while(&mut self, may: impl Fn(&Self, Place) -> bool) {
        while let Some(oldest) = self.waiting.front() {
            let after = self.start.after(oldest);
            if !may(self, after) {
                return;
            }
            self.held -= oldest.buffer.len();
            self.start = after;
            self.waiting.pop_front();
        }
    }

    /// Whether every group is past this place.
    fn is_done(&self, place: Place) -> bool {
        self.groups.values().all(|group| group.committed >= place)
    }

    fn publish(&mut self, batch: &LogBatch, capacity: usize, full: WhenFull) -> Result<()> {
        let bytes = batch.buffer.len();
        if bytes > capacity {
            let error = Error::invalid("a batch has more bytes than the queue has room for");
            return Err(error.with("bytes", bytes).with("room", capacity));
        }
        let drops = full == WhenFull::DropOldest;
        self.drop_while(|own, place| own.held + bytes > capacity && (drops || own.is_done(place)));
        if self.held + bytes > capacity {
            return Err(Error::new(ErrorKind::Throttled, "the log queue is full").with_retry_after(PAUSE));
        }
        self.held += bytes;
        self.waiting.push_back(batch.clone());
        Ok(())
    }

    /// What comes at a place, and the place after it.
    fn at(&self, place: Place) -> Option<(LogItem, Place)> {
        let Some(index) = place.batches.checked_sub(self.start.batches) else {
            let bytes = self.start.bytes - place.bytes;
            let reason = "dropped to make room for newer lines".into();
            return Some((LogItem::Gap { origin: None, bytes, reason }, self.start));
        };
        let batch = self.waiting.get(usize::try_from(index).ok()?)?;
        Some((LogItem::Batch(batch.clone()), place.after(batch)))
    }
}

#[async_trait]
impl LogQueue for MemoryLogQueue {
    async fn publish(&self, _: &Scope, batches: &[LogBatch]) -> Result<()> {
        let mut own = lock(&self.inner.batches);
        let mut lines = batches.iter().filter(|batch| !batch.starts.is_empty());
        let outcome = lines.try_for_each(|batch| own.publish(batch, self.inner.capacity, self.inner.full));
        drop(own);
        self.inner.changed.send_replace(());
        outcome
    }

    async fn subscribe(&self, _: &Scope, group: &LogGroup) -> Result<Box<dyn LogConsumer>> {
        let mut own = lock(&self.inner.batches);
        let new = Group { committed: own.start, turn: Arc::default() };
        let turn = Arc::clone(&own.groups.entry(group.clone()).or_insert(new).turn);
        drop(own);
        let changed = self.inner.changed.subscribe();
        let inner = Arc::clone(&self.inner);
        Ok(Box::new(Consumer { inner, changed, group: group.clone(), turn, has: None }))
    }

    async fn remove(&self, _: &Scope, group: &LogGroup) -> Result<()> {
        let mut own = lock(&self.inner.batches);
        if own.groups.get(group).is_some_and(|group| Arc::strong_count(&group.turn) > 1) {
            return Err(Error::conflict("the group has a consumer").with("group", group));
        }
        own.groups.remove(group);
        Ok(())
    }
}

#[derive(Debug)]
struct Consumer {
    inner: Arc<Inner>,
    changed: watch::Receiver<()>,
    group: LogGroup,
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The turn, and the place up to which lines were given, once it has its turn.
    has: Option<(OwnedMutexGuard<()>, Place)>,
}

#[async_trait]
impl LogConsumer for Consumer {
    async fn next(&mut self) -> Result<LogItem> {
        if self.has.is_none() {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let committed = lock(&self.inner.batches).groups.get(&self.group).map(|group| group.committed);
            self.has = Some((turn, committed.unwrap_or_default()));
        }
        loop {
            self.changed.borrow_and_update();
            if let Some((_, place)) = &mut self.has
                && let Some((item, after)) = lock(&self.inner.batches).at(*place)
            {
                *place = after;
                return Ok(item);
            }
            // The sender lives as long as this does.
            drop(self.changed.changed().await);
        }
    }

    async fn commit(&mut self) -> Result<()> {
        let Some((_, place)) = &self.has else { return Ok(()) };
        let mut own = lock(&self.inner.batches);
        if let Some(group) = own.groups.get_mut(&self.group) {
            group.committed = group.committed.max(*place);
        }
        own.drop_while(Batches::is_done);
        Ok(())
    }
}
