//! What was acknowledged and is not yet in a segment: files of frames, each written whole and synced before anybody is told.
//!
//! Frames of callers that come together are written and synced as one. After a crash a frame is there whole, or all after it
//! are gone with it: none of them was acknowledged.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use paas_core::Result;
use paas_core::model::{LogBatch, TenantId, Timestamp};

use crate::codec::line;
use crate::codec::{Damage, Decoded, Reader, put_bytes, put_number, put_signed};
use crate::disk::{Disk, DiskFile};
use crate::error::failed;

/// Before each frame: its length and its check sum, both four bytes, the lowest first.
pub(super) const HEAD: usize = 8;
const NAME: &str = "journal-";
/// Who comes while so many bytes wait to be written waits, too.
const WAITING: usize = 64 * 1024 * 1024;

/// What a frame says.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// Lines of one life of a tenant.
    Lines(TenantId, u64, Vec<LogBatch>),
    /// That life is over: all of it is to be forgotten.
    Forgotten(TenantId, u64),
}

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Debug)]
struct State {
    /// Frames that wait to be written, one after the other, and what will come of it.
    waiting: Vec<u8>,
    outcome: Arc<OnceLock<Option<Arc<io::Error>>>>,
    is_writing: bool,
    lives: u64,
    file: File,
}

#[derive(Debug)]
struct File {
    number: u64,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// Its end is not known: it is mended before the next frame.
    is_broken: bool,
}

impl Journal {
    /// Begins a new file after those that are there, and gives what they say, in order.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        each: impl FnMut(Frame) -> Result<()>,
    ) -> Result<Self> {
        let number = read(&*disk, &folder, each)?.map_or(1, |last| last + 1);
        let file = File::create(&*disk, &folder, number);
        let file = file.map_err(|cause| failed("begin a journal", &folder, cause))?;
        let state = State { waiting: Vec::new(), outcome: Arc::default(), is_writing: false, lives: 0, file };
        Ok(Self { disk, folder, state: Mutex::new(state), written: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number for a life of a tenant, which none had before.
    pub(super) fn life(&self) -> u64 {
        let mut state = self.state();
        state.lives += 1;
        state.file.number << 20 | state.lives
    }

    /// Writes a frame. It is there after a crash once this returns; where it fails, it may be there all the same.
    pub(super) fn write(&self, payload: &[u8]) -> Result<()> {
        let mut state = self.state();
        while state.waiting.len() >= WAITING {
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        put_frame(&mut state.waiting, payload);
        let outcome = Arc::clone(&state.outcome);
        loop {
            if let Some(failure) = outcome.get() {
                let told = |cause| failed("write the journal", &self.folder, again(cause));
                return failure.as_ref().map_or(Ok(()), |cause| Err(told(cause)));
            }
            state = if state.is_writing {
                self.written.wait(state).unwrap_or_else(PoisonError::into_inner)
            } else {
                self.write_waiting(state)
            };
        }
    }

    /// Writes and syncs all that waits, while others hand in more.
    fn write_waiting<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let (frames, told) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.outcome));
        let ready = if state.file.is_broken { self.mend(&mut state) } else { Ok(()) };
        state.is_writing = true;
        let (file, at) = (Arc::clone(&state.file.file), state.file.length);
        drop(state);
        let outcome = ready.and_then(|()| file.write_at(&frames, at)).and_then(|()| file.sync());
        let mut state = self.state();
        state.is_writing = false;
        match &outcome {
            Ok(()) => state.file.length += frames.len() as u64,
            // Nobody knows what is on the disk: what comes next must not stand after it.
            Err(_) => state.file.is_broken = true,
        }
        drop(told.set(outcome.err().map(Arc::new)));
        self.written.notify_all();
        state
    }

    /// Makes sure that nothing stands after what is known to be on the disk: in the same file, or else in a new one.
    fn mend(&self, state: &mut State) -> io::Result<()> {
        let file = &mut state.file;
        if file.file.truncate(file.length).and_then(|()| file.file.sync()).is_err() {
            return self.replace(state);
        }
        file.is_broken = false;
        Ok(())
    }

    /// Goes on in a new file.
    fn replace(&self, state: &mut State) -> io::Result<()> {
        state.file = File::create(&*self.disk, &self.folder, state.file.number + 1)?;
        Ok(())
    }

    /// The number of the file that frames are written to.
    pub(super) fn number(&self) -> u64 {
        self.state().file.number
    }

    /// How long the file is that frames are written to.
    pub(super) fn length(&self) -> u64 {
        self.state().file.length
    }

    /// Goes on in a new file, and gives its number: what the files before it say may be removed once it stands elsewhere.
    pub(super) fn rotate(&self) -> Result<u64> {
        let mut state = self.state();
        while state.is_writing {
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let begun = self.replace(&mut state);
        begun.map_err(|cause| failed("begin a journal", &self.folder, cause))?;
        Ok(state.file.number)
    }

    /// Removes the files before this one.
    pub(super) fn remove_before(&self, number: u64) -> Result<()> {
        for old in numbers(&*self.disk, &self.folder)?.into_iter().take_while(|old| *old < number) {
            let path = path(&self.folder, old);
            // A frame that says that a life is over must not outlive those after it.
            let removed = self.disk.remove(&path).and_then(|()| self.disk.sync_folder(&self.folder));
            removed.map_err(|cause| failed("remove a journal", &path, cause))?;
        }
        Ok(())
    }
}

impl File {
    fn create(disk: &dyn Disk, folder: &Path, number: u64) -> io::Result<Self> {
        let path = path(folder, number);
        // One that could not be synced, of which nobody was told.
        disk.remove(&path)?;
        let file = disk.create(&path)?;
        disk.sync_folder(folder)?;
        Ok(Self { number, file: file.into(), length: 0, is_broken: false })
    }
}

/// A failure for one more of those it came to.
fn again(failure: &Arc<io::Error>) -> io::Error {
    let of_kind = || io::Error::new(failure.kind(), Arc::clone(failure));
    failure.raw_os_error().map_or_else(of_kind, io::Error::from_raw_os_error)
}

pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{NAME}{number:016x}"))
}

/// The numbers of the files that are there, in order.
pub(super) fn numbers(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    let names = disk.names(folder).map_err(|cause| failed("list the journals", folder, cause))?;
    let number = |name: &String| u64::from_str_radix(name.strip_prefix(NAME)?, 16).ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Gives what all files say, in order, and the number of the last.
pub(super) fn read(
    disk: &dyn Disk,
    folder: &Path,
    mut each: impl FnMut(Frame) -> Result<()>,
) -> Result<Option<u64>> {
    let numbers = numbers(disk, folder)?;
    for number in &numbers {
        replay(disk, &path(folder, *number), &mut each)?;
    }
    Ok(numbers.last().copied())
}

/// Gives the frames of a file, up to the first that is not whole.
fn replay(disk: &dyn Disk, path: &Path, each: &mut impl FnMut(Frame) -> Result<()>) -> Result<()> {
    // Where it is gone, whoever has the store open has brought to segments what it said.
    let content = content(disk, path)?.unwrap_or_default();
    let mut rest = &content[..];
    while let Some((frame, after)) = frame(rest) {
        // It was written so: what cannot be read is of a later version.
        each(Frame::of_bytes(frame).map_err(|damage| crate::error::damaged(path, damage))?)?;
        rest = after;
    }
    if !rest.is_empty() {
        tracing::info!(path = %path.display(), bytes = rest.len(), "the end of a journal was not written whole");
    }
    Ok(())
}

/// All that a file has; `None` where it is gone.
pub(super) fn content(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>> {
    let broken = |cause| failed("read a journal", path, cause);
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(broken(cause)),
    };
    let mut content = vec![0; file.length().map_err(broken)? as usize];
    file.read_at(&mut content, 0).map_err(broken)?;
    Ok(Some(content))
}

/// The payload of the frame that begins here, if one does, and what comes after it.
pub(super) fn frame(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = rest.split_at_checked(HEAD)?;
    let mut head = Reader(head);
    let (length, sum) = (head.u32().ok()?, head.u32().ok()?);
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    // A frame is never empty: what was never written is zeros.
    (length > 0 && crc32fast::hash(payload) == sum).then_some((payload, rest))
}

/// A frame around a payload.
pub(super) fn put_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(crc32fast::hash(payload).to_le_bytes());
    out.extend(payload);
}

impl Frame {
    /// A frame of lines, as bytes.
    pub(super) fn lines(tenant: &TenantId, life: u64, batches: &[LogBatch]) -> Vec<u8> {
        let size: usize = batches.iter().map(|batch| batch.buffer.len() + batch.starts.len() * 4 + 512).sum();
        let mut out = Vec::with_capacity(size);
        put_life(&mut out, 1, tenant, life);
        put_number(&mut out, batches.len() as u64);
        batches.iter().for_each(|batch| put_batch(&mut out, batch));
        out
    }

    /// A frame that says that a life is over, as bytes.
    pub(super) fn forgotten(tenant: &TenantId, life: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_life(&mut out, 2, tenant, life);
        out
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader(bytes);
        let [kind] = reader.fixed()?;
        let tenant = std::str::from_utf8(reader.bytes()?).ok().and_then(|id| TenantId::new(id).ok());
        let (tenant, life) = (tenant.ok_or(Damage("a tenant's id is none"))?, reader.number()?);
        let frame = match kind {
            1 => {
                let count = reader.count()?;
                let batches = (0..count).map(|_| batch(&mut reader)).collect::<Decoded<_>>()?;
                Self::Lines(tenant, life, batches)
            }
            2 => Self::Forgotten(tenant, life),
            _ => return Err(Damage("a frame of a kind that is not known")),
        };
        reader.end()?;
        Ok(frame)
    }
}

fn put_life(out: &mut Vec<u8>, kind: u8, tenant: &TenantId, life: u64) {
    out.push(kind);
    put_bytes(out, tenant.as_str().as_bytes());
    put_number(out, life);
}

fn put_batch(out: &mut Vec<u8>, batch: &LogBatch) {
    line::put_origin(out, &batch.origin);
    line::put_position(out, batch.position);
    put_number(out, batch.starts.len() as u64);
    let (mut start, mut time, mut stamp) = (0, 0, 0);
    for own in &batch.starts {
        put_number(out, u64::from(own - start));
        start = *own;
    }
    for own in &batch.times {
        put_signed(out, own.0.wrapping_sub(time) as i64);
        time = own.0;
    }
    put_bytes(out, &batch.levels.iter().map(|level| line::code(*level)).collect::<Vec<_>>());
    put_number(out, batch.stamps.len() as u64);
    for own in &batch.stamps {
        put_signed(out, own.wrapping_sub(stamp) as i64);
        stamp = *own;
    }
    put_bytes(out, &batch.buffer);
}

fn batch(reader: &mut Reader<'_>) -> Decoded<LogBatch> {
    let (origin, position) = (line::origin(reader)?, line::position(reader)?);
    // A line has a byte for where it begins, and one for its time.
    let count = reader.count_of(2)?;
    let (mut start, mut time, mut stamp) = (0_u32, 0_u64, 0_u64);
    let mut starts = Vec::with_capacity(count);
    for _ in 0..count {
        start = start.checked_add(reader.small()?).ok_or(Damage("a line begins too late"))?;
        starts.push(start);
    }
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        time = time.wrapping_add(reader.signed()? as u64);
        times.push(Timestamp(time));
    }
    let levels = reader.bytes()?.iter().map(|code| line::level(*code)).collect::<Decoded<_>>()?;
    let stamped = reader.count()?;
    let mut stamps = Vec::with_capacity(stamped);
    for _ in 0..stamped {
        stamp = stamp.wrapping_add(reader.signed()? as u64);
        stamps.push(stamp);
    }
    let buffer = Bytes::copy_from_slice(reader.bytes()?);
    if starts.last().is_some_and(|last| *last as usize > buffer.len()) {
        return Err(Damage("a line begins after the end"));
    }
    if ![0, count].contains(&stamped) || position.sequence.checked_add(buffer.len() as u64).is_none() {
        return Err(Damage("the positions of lines are none"));
    }
    let mut batch = LogBatch::stamped(origin, buffer, starts, stamps, position);
    (batch.times, batch.levels) = (times, levels);
    Ok(batch)
}
