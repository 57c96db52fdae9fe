//! A log queue that needs nothing but a folder: a write-ahead log.
//!
//! Lines are acknowledged once a file has them on the disk; callers that come together share one sync. Consumers read them
//! from the files, so what waits takes no memory. A file goes once all groups have committed what is in it.
//! `docs/log-queue-format.md` tells what stands in the files.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use paas_core::model::{LogBatch, LogGroup, Scope, WhenFull};
use paas_core::port::{Backend, LogConsumer, LogQueue};
use paas_core::{Error, ErrorKind, Result};
use tokio::sync::watch;

use crate::codec::batch::put_batch;
use crate::disk::{Disk, Native};
use crate::error::failed;
use crate::folder::{self, blocking};
use crate::journal::{Journal, Part};
use consumer::Consumer;
use groups::{Group, Groups, Mark};
use recover::{Recovered, recover};
use segment::{HEAD, HEADER, Segments};

mod consumer;
mod groups;
mod recover;
mod segment;

#[cfg(test)]
mod tests;

/// Bytes of lines that are written as one entry, unless a batch has more.
const PIECE: usize = 1 << 20;
/// The largest batch that is taken, in bytes of lines and as it stands in a file.
const LARGEST: usize = 16 << 20;
const LARGEST_ENTRY: u64 = 64 << 20;
/// Less room is none.
const LEAST: u64 = 16 << 20;
/// The largest file, where there is room for many.
const SEGMENT: u64 = 16 << 20;
/// When whoever was refused tries again.
const PAUSE: Duration = Duration::from_millis(500);

/// Where a queue keeps its lines, and how many.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WalConfig {
    /// A folder, which is made if it is not there. It belongs to the queue alone, and to one process at a time.
    pub folder: PathBuf,
    /// How many bytes of files there may be, 16 MiB at least. A batch may take half of it.
    pub bytes: u64,
    /// What happens to lines that come while there is no room.
    pub full: WhenFull,
}

impl WalConfig {
    /// A queue in this folder, with room for 8 GiB, which refuses more.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), bytes: 8 << 30, full: WhenFull::Refuse }
    }
}

/// A log queue in a folder. Cloning shares it; the folder is free once all clones and consumers are gone.
#[derive(Clone, Debug)]
pub struct WalLogQueue(Arc<Inner>);

/// How much there may be, in bytes of files.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    all: u64,
    segment: u64,
}

/// The queue itself, which waits for the disk where it has to.
#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    sizes: Sizes,
    full: WhenFull,
    journal: Journal<Segments>,
    groups: Mutex<Groups>,
    /// Bytes that were let in, and are not written yet.
    promised: Mutex<u64>,
    /// Tells consumers that there is more.
    changed: watch::Sender<()>,
    /// Held by this process.
    _lock: Option<std::fs::File>,
}

impl WalLogQueue {
    /// Opens the queue of a folder, or makes one.
    ///
    /// # Errors
    /// `Invalid` where there is to be too little room; `Unavailable` where another process has it, or the disk cannot be read
    /// or written; `Internal` where a file is damaged.
    pub async fn open(config: WalConfig) -> Result<Self> {
        if config.bytes < LEAST {
            let error = Error::invalid("a log queue needs more room");
            return Err(error.with("bytes", config.bytes).with("least", LEAST));
        }
        let sizes = Sizes { all: config.bytes, segment: SEGMENT.min(config.bytes / 16) };
        let open = move || {
            let lock = folder::take(&config.folder)?;
            Inner::open(Arc::new(Native), &config.folder, sizes, config.full, Some(lock))
        };
        Ok(Self(Arc::new(blocking(open).await?)))
    }

    /// Works on the queue in a thread that may wait.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        blocking(move || work(&inner)).await
    }
}

/// Bytes that were let in, until they are written.
struct Promise<'a>(&'a Mutex<u64>, u64);

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        *lock(self.0) -= self.1;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        sizes: Sizes,
        full: WhenFull,
        lock: Option<std::fs::File>,
    ) -> Result<Self> {
        let groups = groups::read(&*disk, folder)?;
        let Recovered { old, next, start, stale } = recover(&*disk, folder, &groups)?;
        let journal =
            Journal::begin(Arc::clone(&disk), folder.to_owned(), Segments::new(), old, next, start)?;
        for path in stale {
            disk.remove(&path).map_err(|cause| failed("remove a file of the queue", &path, cause))?;
        }
        let inner = Self {
            disk,
            folder: folder.to_owned(),
            sizes,
            full,
            journal,
            groups: Mutex::new(groups),
            promised: Mutex::default(),
            changed: watch::Sender::new(()),
            _lock: lock,
        };
        inner.tidy(&inner.groups.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(inner)
    }

    fn publish(&self, batches: &[LogBatch]) -> Result<()> {
        let mut pieces = Vec::new();
        let (mut entry, mut weight) = (Vec::new(), 0);
        for batch in batches.iter().filter(|batch| !batch.starts.is_empty()) {
            let (before, bytes) = (entry.len(), batch.buffer.len());
            put_batch(&mut entry, batch);
            let length = (entry.len() - before) as u64;
            let most = LARGEST_ENTRY.min(self.sizes.all / 2);
            if bytes > LARGEST || length > most {
                let error = Error::invalid("a batch has too many bytes or lines");
                return Err(error.with("bytes", bytes).with("most", LARGEST).with("room", self.sizes.all));
            }
            weight += bytes as u64;
            if entry.len() >= PIECE {
                pieces.push((std::mem::take(&mut entry), std::mem::take(&mut weight)));
            }
        }
        if !entry.is_empty() {
            pieces.push((entry, weight));
        }
        pieces.iter().try_for_each(|(entry, weight)| self.put(entry, *weight))
    }

    fn put(&self, entry: &[u8], weight: u64) -> Result<()> {
        let promise = self.admit(entry.len() as u64 + HEAD)?;
        self.journal.write(entry, weight)?;
        drop(promise);
        self.changed.send_replace(());
        // It is written: a file that cannot be begun now is with the next.
        if self.journal.length() >= self.sizes.segment
            && let Err(error) = self.journal.rotate(Some(self.sizes.segment - 1))
        {
            tracing::warn!(?error, "a file of the log queue grows too long");
        }
        Ok(())
    }

    /// Makes sure that there is room.
    fn admit(&self, bytes: u64) -> Result<Promise<'_>> {
        let mut promised = lock(&self.promised);
        let wanted = *promised + bytes;
        if self.held() + wanted > self.sizes.all {
            self.make_room(wanted)?;
        }
        if self.held() + wanted > self.sizes.all {
            let error = Error::new(ErrorKind::Throttled, "the log queue is full: its consumers are behind");
            return Err(error.with("room", self.sizes.all).with_retry_after(PAUSE));
        }
        *promised = wanted;
        Ok(Promise(&self.promised, bytes))
    }

    /// How many bytes of files there are.
    fn held(&self) -> u64 {
        self.journal.newest().end - self.journal.oldest().start.at
    }

    /// Removes the oldest files that may go, as many as it takes.
    fn make_room(&self, wanted: u64) -> Result<()> {
        let groups = lock(&self.groups);
        let is_done = |end: u64| groups.values().all(|group| group.committed.at >= end);
        let may_go = |end: u64| self.full == WhenFull::DropOldest || is_done(end);
        let newest = self.journal.newest();
        if newest.end - newest.start.at + wanted > self.sizes.all && may_go(newest.end) {
            self.journal.rotate(Some(HEADER))?;
        }
        // Nothing is written to these any more.
        let (old, end) = (self.journal.old(), self.journal.newest().end);
        let is_over = |part: &&Part| end - part.start.at + wanted > self.sizes.all && may_go(part.end);
        let Some(last) = old.iter().take_while(is_over).last() else { return Ok(()) };
        if !is_done(last.end) {
            tracing::warn!(folder = %self.folder.display(), "the log queue drops its oldest lines to make room");
        }
        self.journal.remove_before(last.number + 1)
    }

    /// Removes the files that all groups have committed.
    fn tidy(&self, groups: &Groups) {
        let Some(all) = groups.values().map(|group| group.committed.at).min() else { return };
        let done = self.journal.old().into_iter().take_while(|part| part.end <= all).last();
        if let Some(part) = done
            && let Err(error) = self.journal.remove_before(part.number + 1)
        {
            tracing::warn!(?error, "a file of the log queue stays though all of it is committed");
        }
    }

    /// The group's turn; the group is there from now on.
    fn subscribe(&self, name: &LogGroup) -> Result<Arc<tokio::sync::Mutex<()>>> {
        let mut groups = lock(&self.groups);
        if !groups.contains_key(name) {
            let group = Group { committed: Mark::of(&self.journal.oldest()), ..Group::default() };
            self.change(&mut groups, |groups| drop(groups.insert(name.clone(), group)))?;
        }
        Ok(groups.get(name).map(|group| Arc::clone(&group.turn)).unwrap_or_default())
    }

    fn remove(&self, name: &LogGroup) -> Result<()> {
        let mut groups = lock(&self.groups);
        let Some(group) = groups.get(name) else { return Ok(()) };
        if Arc::strong_count(&group.turn) > 1 {
            return Err(Error::conflict("the group has a consumer").with("group", name));
        }
        self.change(&mut groups, |groups| drop(groups.remove(name)))?;
        self.tidy(&groups);
        Ok(())
    }

    fn committed(&self, name: &LogGroup) -> Result<Mark> {
        let gone = || Error::internal("a group with a consumer is gone").with("group", name);
        lock(&self.groups).get(name).map(|group| group.committed).ok_or_else(gone)
    }

    fn commit(&self, name: &LogGroup, mark: Mark) -> Result<()> {
        let mut groups = lock(&self.groups);
        // One that nobody waits for any more may come late.
        if groups.get(name).is_some_and(|group| group.committed < mark) {
            let set = |groups: &mut Groups| {
                groups.entry(name.clone()).and_modify(|group| group.committed = mark);
            };
            self.change(&mut groups, set)?;
            self.tidy(&groups);
        }
        Ok(())
    }

    /// Changes groups on the disk, and then here.
    fn change(&self, groups: &mut Groups, change: impl FnOnce(&mut Groups)) -> Result<()> {
        let mut changed = groups.clone();
        change(&mut changed);
        groups::write(&*self.disk, &self.folder, &changed)?;
        *groups = changed;
        Ok(())
    }
}

#[async_trait]
impl Backend for WalLogQueue {
    fn name(&self) -> &'static str {
        "wal"
    }

    async fn check(&self) -> Result<()> {
        self.run(|queue| {
            let listed = queue.disk.names(&queue.folder);
            listed.map(drop).map_err(|cause| failed("list the queue", &queue.folder, cause))
        })
        .await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LogQueue for WalLogQueue {
    async fn publish(&self, _: &Scope, batches: &[LogBatch]) -> Result<()> {
        let batches = batches.to_vec();
        self.run(move |queue| queue.publish(&batches)).await
    }

    async fn subscribe(&self, _: &Scope, group: &LogGroup) -> Result<Box<dyn LogConsumer>> {
        let name = group.clone();
        let turn = self.run(move |queue| queue.subscribe(&name)).await?;
        Ok(Box::new(Consumer::new(Arc::clone(&self.0), group.clone(), turn)))
    }

    async fn remove(&self, _: &Scope, group: &LogGroup) -> Result<()> {
        let group = group.clone();
        self.run(move |queue| queue.remove(&group)).await
    }
}
