//! One life of a tenant: a folder of segments, and its last lines in memory, which the journal has, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use paas_core::model::{LogBatch, LogOrigin, LogPosition, Resource, TenantId, Timestamp};
use paas_core::{Error, Result};

use super::Sizes;
use super::files::Files;
use super::folder::Folder;
use super::journal::Synced;
use super::keep;
use super::lines::{Encoder, Lines};
use super::pool::Pool;
use super::segment::{Ends, OpenSegment, Segment, extend};
use crate::codec::Damage;
use crate::disk::Disk;
use crate::error::{damaged, failed};

/// So many bytes may wait in memory while they cannot be written to a segment.
const WAITING: usize = 32 * 1024 * 1024;

/// A life of a tenant.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) life: u64,
    folder: PathBuf,
    files: Arc<Files>,
    sizes: Sizes,
    writer: Mutex<Writer>,
    view: RwLock<View>,
}

/// Whoever has it writes, and nobody else.
#[derive(Debug, Default)]
pub(super) struct Writer {
    is_over: bool,
    open: Option<OpenSegment>,
    /// The number of the last segment.
    last: u64,
    has_folder: bool,
    /// Names in its folder may not outlive a crash.
    has_new_names: bool,
    /// While it is opened: where origins end that the journal is to have.
    unsynced: Ends,
}

/// What searches see.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) ends: Ends,
    /// What is in no segment. Whoever writes it to one, or looks at it for long, shares it meanwhile.
    pub(super) head: Arc<Lines>,
    /// By their numbers; of the last it may be that it is open.
    pub(super) segments: BTreeMap<u64, Segment>,
}

impl View {
    /// What sealed segments have.
    fn of_sealed(disk: &dyn Disk, found: &Folder) -> Result<Self> {
        let mut view = Self { ends: found.kept.ends.clone(), ..Self::default() };
        for (number, path) in &found.sealed {
            let (mut segment, ends) = Segment::open(disk, path)?;
            segment.floor = found.kept.floors.get(number).copied().unwrap_or(Timestamp(0));
            extend(&mut view.ends, ends);
            view.segments.insert(*number, segment);
        }
        Ok(view)
    }
}

impl Tenant {
    pub(super) fn new(files: Arc<Files>, sizes: Sizes, root: &Path, id: TenantId, life: u64) -> Self {
        let folder = root.join(format!("{id}-{life:016x}"));
        Self { id, life, folder, files, sizes, writer: Mutex::default(), view: RwLock::default() }
    }

    /// Opens what is there of it. `synced` tells how much of an open segment, by its number, is sure to be on the disk.
    ///
    /// A process that went may have left changes that this one sees and that were never synced: a crash may still undo them.
    pub(super) fn recover(
        files: Arc<Files>,
        sizes: Sizes,
        root: &Path,
        id: TenantId,
        life: u64,
        synced: impl Fn(u64) -> u64,
    ) -> Result<Self> {
        let tenant = Self::new(files, sizes, root, id, life);
        let disk = tenant.files.disk();
        let found = Folder::list(disk, &tenant.folder)?;
        let mut view = View::of_sealed(disk, &found)?;
        let last = found.last();
        let mut writer = Writer { has_folder: true, last, has_new_names: true, ..Writer::default() };
        if !found.stale.is_empty() {
            // What stands for them outlives a crash before they go.
            tenant.sync_names(&mut writer)?;
            found.stale.iter().try_for_each(|path| tenant.files.remove(path))?;
        }
        for (number, path) in found.open {
            if writer.open.is_some() {
                return Err(damaged(&path, Damage("another segment of this tenant is open, too")));
            }
            let (segment, ends, after) = OpenSegment::recover(disk, path, synced(number))?;
            extend(&mut view.ends, ends);
            view.segments.insert(number, segment.view());
            (writer.open, writer.unsynced) = (Some(segment), after);
        }
        *tenant.lock() = writer;
        *tenant.write() = view;
        Ok(tenant)
    }

    /// Looks at what is there of it, and changes nothing: another process may have it open.
    pub(super) fn look(
        files: Arc<Files>,
        sizes: Sizes,
        root: &Path,
        id: TenantId,
        life: u64,
    ) -> Result<Self> {
        let tenant = Self::new(files, sizes, root, id, life);
        let disk = tenant.files.disk();
        let found = Folder::list(disk, &tenant.folder)?;
        // Its name goes once it is sealed, so it comes first.
        let open: Vec<_> = found
            .open
            .iter()
            .map(|(number, path)| Ok((*number, Segment::look(disk, path)?)))
            .collect::<Result<_>>()?;
        let mut view = View::of_sealed(disk, &found)?;
        for (number, (segment, ends)) in open {
            extend(&mut view.ends, ends);
            view.segments.insert(number, segment);
        }
        *tenant.write() = view;
        Ok(tenant)
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where those of its origins end that a resource has.
    pub(super) fn ends(&self, resource: &Resource) -> Vec<(LogOrigin, LogPosition)> {
        let view = self.read();
        let own = view.ends.iter().filter(|(origin, _)| resource.contains(&origin.resource()));
        own.map(|(origin, end)| (LogOrigin::clone(origin), *end)).collect()
    }

    /// Takes in what is new of batches, once `record` has made sure that it outlives a crash. `false` where the life is over.
    ///
    /// # Errors
    /// Those of `record`, and where too much waits for a disk that takes no more.
    pub(super) fn append(
        &self,
        batches: &[LogBatch],
        encoders: &Pool<Encoder>,
        record: impl FnOnce(&[LogBatch]) -> Result<()>,
    ) -> Result<bool> {
        let mut writer = self.lock();
        if writer.is_over {
            return Ok(false);
        }
        let new = self.news(batches);
        if new.is_empty() {
            return Ok(true);
        }
        if self.read().head.size() >= WAITING {
            self.flush(&mut writer, encoders)?;
        }
        record(&new)?;
        self.take_in(&new);
        if let Err(error) = self.flush_block(&mut writer, encoders) {
            // The journal has it: it is tried again with the next.
            tracing::warn!(tenant = %self.id, ?error, "lines wait in memory");
        }
        Ok(true)
    }

    /// Takes in what is new of batches that a journal has, and tells whether anything is. They stay in memory, as far as there is
    /// room: whoever opens the store waits for it.
    pub(super) fn recall(&self, batches: &[LogBatch], encoders: &Pool<Encoder>) -> Result<bool> {
        if self.read().head.size() >= WAITING {
            self.flush(&mut self.lock(), encoders)?;
        }
        let news = self.news(batches);
        self.take_in(&news);
        Ok(!news.is_empty())
    }

    /// Writes what is in memory to the open segment, where it is a block or more.
    pub(super) fn unburden(&self, encoders: &Pool<Encoder>) -> Result<()> {
        let mut writer = self.lock();
        if writer.is_over { Ok(()) } else { self.flush_block(&mut writer, encoders) }
    }

    fn flush_block(&self, writer: &mut Writer, encoders: &Pool<Encoder>) -> Result<()> {
        let size = self.read().head.size();
        if size >= self.sizes.block { self.flush(writer, encoders) } else { Ok(()) }
    }

    /// All that a journal has was recalled.
    ///
    /// # Errors
    /// `Internal` where the open segment has more, which no journal has.
    pub(super) fn recalled(&self) -> Result<()> {
        let (mut writer, view) = (self.lock(), self.read());
        let is_missing = |(origin, end): (&Arc<LogOrigin>, &LogPosition)| {
            view.ends.get(origin).is_none_or(|own| own < end)
        };
        if std::mem::take(&mut writer.unsynced).iter().any(is_missing) {
            let path = self.path(writer.last, "open");
            return Err(damaged(&path, Damage("it has lines that were not synced, and that no journal has")));
        }
        Ok(())
    }

    /// Shows what is new of batches that the journal of another process has.
    pub(super) fn show(&self, batches: &[LogBatch]) {
        self.take_in(&self.news(batches));
    }

    fn take_in(&self, new: &[LogBatch]) {
        let mut view = self.write();
        for batch in new {
            Arc::make_mut(&mut view.head).add(batch);
            extend(&mut view.ends, [(Arc::new(batch.origin.clone()), batch.end())]);
        }
    }

    /// What of these is past the end of its origin.
    fn news(&self, batches: &[LogBatch]) -> Vec<LogBatch> {
        let view = self.read();
        let mut ends: BTreeMap<&LogOrigin, LogPosition> = BTreeMap::new();
        let mut news = Vec::new();
        for batch in batches {
            let end = ends.get(&batch.origin).or_else(|| view.ends.get(&batch.origin)).copied();
            let old = batch.lines().take_while(|line| end.is_some_and(|end| line.position < end)).count();
            let new = batch.without_first(old);
            news.extend(new.filter(|new| !new.starts.is_empty() || end.is_none_or(|end| end < new.end())));
            ends.insert(&batch.origin, end.map_or(batch.end(), |end| end.max(batch.end())));
        }
        news
    }

    /// Writes what is in memory to the open segment, and seals that once it is full.
    fn flush(&self, writer: &mut Writer, encoders: &Pool<Encoder>) -> Result<()> {
        let head = Arc::clone(&self.read().head);
        if head.is_empty() {
            return Ok(());
        }
        let open = self.open(writer)?;
        open.append(&Lines::parts(head, self.sizes.block), encoders)?;
        let (view, is_full) = (open.view(), open.is_full(&self.sizes));
        {
            let mut shown = self.write();
            shown.head = Arc::default();
            shown.segments.insert(writer.last, view);
        }
        if is_full { self.seal(writer, Timestamp(0), encoders) } else { Ok(()) }
    }

    /// The open segment.
    fn open<'a>(&self, writer: &'a mut Writer) -> Result<&'a mut OpenSegment> {
        let broken = |cause| failed("make a folder", &self.folder, cause);
        if !writer.has_folder {
            self.files.disk().ensure_folder(&self.folder).map_err(broken)?;
            let root = self.folder.parent().unwrap_or(&self.folder);
            self.files.disk().sync_folder(root).map_err(broken)?;
            writer.has_folder = true;
        }
        if writer.open.is_none() {
            // Or else a crash leaves two that are open: this one, and one that was sealed.
            self.sync_names(writer)?;
            let path = self.path(writer.last + 1, "open");
            let segment = OpenSegment::create(self.files.disk(), path)?;
            writer.last += 1;
            (writer.open, writer.has_new_names) = (Some(segment), true);
        }
        self.sync_names(writer)?;
        writer.open.as_mut().ok_or_else(|| Error::internal("a tenant has no open segment"))
    }

    /// The names in its folder outlive a crash.
    fn sync_names(&self, writer: &mut Writer) -> Result<()> {
        if writer.has_new_names {
            let synced = self.files.disk().sync_folder(&self.folder);
            synced.map_err(|cause| failed("sync a folder", &self.folder, cause))?;
            writer.has_new_names = false;
        }
        Ok(())
    }

    fn path(&self, number: u64, kind: &str) -> PathBuf {
        self.folder.join(format!("{number:010}.{kind}"))
    }

    /// Makes of the open segment a sealed one, of its lines from this time on.
    fn seal(&self, writer: &mut Writer, floor: Timestamp, encoders: &Pool<Encoder>) -> Result<()> {
        let Some(open) = &writer.open else { return Ok(()) };
        let (draft, path) = (self.path(writer.last, "new"), self.path(writer.last, "sealed"));
        encoders.with(|encoder| open.seal(self.files.disk(), &draft, floor, &self.sizes, encoder))?;
        let (mut sealed, _) = Segment::open(self.files.disk(), &draft)?;
        sealed.path = path.as_path().into();
        self.files.disk().rename(&draft, &path).map_err(|cause| failed("name a segment", &path, cause))?;
        // From here on it is what a crash leaves, so nothing more goes to the open one, even where that is all that fails.
        self.write().segments.insert(writer.last, sealed);
        let open = writer.open.take();
        writer.has_new_names = true;
        self.sync_names(writer)?;
        if let Some(open) = open
            && let Err(error) = self.files.remove(&open.path)
        {
            tracing::info!(?error, "a segment that was sealed stays until the next start");
        }
        Ok(())
    }

    /// All that was taken in before outlives a crash without the journal, which is to have what this gives.
    pub(super) fn checkpoint(&self, encoders: &Pool<Encoder>) -> Result<Option<Synced>> {
        let mut writer = self.lock();
        if writer.is_over {
            return Ok(None);
        }
        self.flush(&mut writer, encoders)?;
        self.sync_names(&mut writer)?;
        let synced = writer.open.as_mut().map_or(Ok(()), OpenSegment::sync);
        // What the disk did not take once it may never have: it is written again.
        synced.or_else(|_| self.seal(&mut writer, Timestamp(0), encoders))?;
        let open = writer.open.as_ref().filter(|open| open.length() > 0);
        let (tenant, life, number) = (self.id.clone(), self.life, writer.last);
        Ok(open.map(|open| Synced { tenant, life, number, length: open.length() }))
    }

    /// Forgets lines from before a time.
    pub(super) fn forget_before(&self, time: Timestamp, encoders: &Pool<Encoder>) -> Result<()> {
        let mut writer = self.lock();
        if writer.is_over {
            return Ok(());
        }
        self.flush(&mut writer, encoders)?;
        // What comes later is not to be forgotten, however old it is.
        self.seal(&mut writer, time, encoders)?;
        let mut segments = self.read().segments.clone();
        let old: Vec<u64> =
            segments.iter().filter(|(_, segment)| segment.last() < time).map(|(number, _)| *number).collect();
        old.iter().for_each(|number| drop(segments.remove(number)));
        segments.values_mut().for_each(|segment| segment.floor = segment.floor.max(time));
        self.keep(&writer, segments, &old)
    }

    /// Forgets the oldest segments: those all of whose lines are from before a time, and as many more as are over a size.
    pub(super) fn retain(&self, oldest: Timestamp, bytes: u64, encoders: &Pool<Encoder>) -> Result<()> {
        let mut writer = self.lock();
        let is_old = |segment: &Segment| segment.last() < oldest;
        let is_open_old = writer.open.is_some() && self.read().segments.get(&writer.last).is_some_and(is_old);
        if is_open_old {
            self.seal(&mut writer, Timestamp(0), encoders)?;
        }
        let mut segments = self.read().segments.clone();
        let mut by_age: Vec<u64> = segments.keys().copied().collect();
        by_age.retain(|number| writer.open.is_none() || *number != writer.last);
        by_age.sort_by_key(|number| segments[number].last());
        let mut size: u64 = segments.values().map(|segment| segment.bytes).sum();
        let mut gone = Vec::new();
        for number in by_age {
            if !is_old(&segments[&number]) && size <= bytes {
                break;
            }
            size -= segments.remove(&number).map_or(0, |segment| segment.bytes);
            gone.push(number);
        }
        if gone.is_empty() { Ok(()) } else { self.keep(&writer, segments, &gone) }
    }

    /// From now on has these segments, and not those of the other numbers.
    fn keep(&self, writer: &Writer, segments: BTreeMap<u64, Segment>, gone: &[u64]) -> Result<()> {
        if !writer.has_folder {
            return Ok(());
        }
        let disk = self.files.disk();
        // What is in no sealed segment is told by the journal: it must not be taken for known.
        let mut ends = keep::read(disk, &self.folder)?.ends;
        for number in gone {
            extend(&mut ends, Segment::open(disk, &self.path(*number, "sealed"))?.1);
        }
        let floors = segments.iter().map(|(number, segment)| (*number, segment.floor)).collect();
        let last = writer.last - u64::from(writer.open.is_some());
        keep::write(disk, &self.folder, &keep::Kept { ends, floors, last })?;
        self.write().segments = segments;
        for number in gone {
            let path = self.path(*number, "sealed");
            self.files.remove(&path)?;
        }
        Ok(())
    }

    /// Ends this life, once `record` has made sure that it outlives a crash; gives its folder, which is to be removed.
    pub(super) fn end(&self, record: impl FnOnce() -> Result<()>) -> Result<PathBuf> {
        let mut writer = self.lock();
        record()?;
        *writer = Writer { is_over: true, ..Writer::default() };
        *self.write() = View::default();
        Ok(self.folder.clone())
    }
}
