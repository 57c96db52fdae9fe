//! Files to which what comes is only ever added, written whole and synced before anybody is told.
//!
//! What callers hand in together is written and synced as one. After a crash it is there whole, or all after it is gone with it:
//! none of it was acknowledged.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use paas_core::Result;

use crate::disk::{Disk, DiskFile};
use crate::error::failed;
use crate::whole;

/// What the files of a journal are made of.
pub(crate) trait Format: Debug + Send + Sync {
    /// What the names of the files begin with; their numbers come after it.
    const NAME: &'static str;

    /// Who comes while so many bytes wait to be written waits, too.
    const WAITING: usize;

    /// What a file that begins at this place begins with.
    fn head(&self, place: Place) -> Vec<u8>;

    /// Adds what a caller hands in to what waits.
    fn add(&self, waiting: &mut Vec<u8>, entry: &[u8]);

    /// What is written at this place for all that waited, and weighs as much.
    fn frame(&self, place: Place, weight: u64, waiting: Vec<u8>) -> Vec<u8>;
}

/// A place in all that was ever written to a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// How many bytes of files come before it.
    pub(crate) at: u64,
    /// What the entries before it weigh, as callers told.
    pub(crate) weight: u64,
}

/// A file of a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) number: u64,
    /// Where it begins.
    pub(crate) start: Place,
    /// How many bytes of files come before its end.
    pub(crate) end: u64,
}

/// The journal.
#[derive(Debug)]
pub(crate) struct Journal<F> {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    format: F,
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Debug)]
struct State {
    /// What waits to be written, what it weighs, and what will come of it.
    waiting: Vec<u8>,
    weight: u64,
    outcome: Arc<OnceLock<Option<Arc<io::Error>>>>,
    is_writing: bool,
    file: File,
    /// The end of all that was acknowledged.
    end: Place,
    /// The files before that one.
    old: VecDeque<Part>,
}

#[derive(Debug)]
struct File {
    number: u64,
    start: Place,
    file: Arc<dyn DiskFile>,
    length: u64,
    /// Its end is not known: it is mended before the next frame.
    is_broken: bool,
}

impl<F: Format> Journal<F> {
    /// Goes on with a new file, after those that are there.
    pub(crate) fn begin(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        format: F,
        old: impl IntoIterator<Item = Part>,
        number: u64,
        start: Place,
    ) -> Result<Self> {
        let file = File::create(&*disk, &folder, &format, number, start);
        let file = file.map_err(|cause| failed("begin a journal", &folder, cause))?;
        Ok(Self::of(disk, folder, format, old, file))
    }

    /// Goes on with a new file in the place of those that are there, of which it has what is still needed.
    pub(crate) fn begin_with(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        format: F,
        number: u64,
        content: &[u8],
    ) -> Result<Self> {
        let file = whole::replace(&*disk, &path(&folder, F::NAME, number), content);
        let file = file.map_err(|cause| failed("begin a journal", &folder, cause))?;
        let (start, length) = (Place::default(), content.len() as u64);
        let file = File { number, start, file: file.into(), length, is_broken: false };
        let journal = Self::of(disk, folder, format, [], file);
        journal.remove_before(number)?;
        Ok(journal)
    }

    fn of(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        format: F,
        old: impl IntoIterator<Item = Part>,
        file: File,
    ) -> Self {
        let end = file.end();
        let state = State {
            waiting: Vec::new(),
            weight: 0,
            outcome: Arc::default(),
            is_writing: false,
            file,
            end,
            old: old.into_iter().collect(),
        };
        Self { disk, folder, format, state: Mutex::new(state), written: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an entry. It is there after a crash once this returns; where it fails, it may be there all the same.
    pub(crate) fn write(&self, entry: &[u8], weight: u64) -> Result<()> {
        let mut state = self.state();
        while state.waiting.len() >= F::WAITING {
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.format.add(&mut state.waiting, entry);
        state.weight += weight;
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
        let (waiting, told) = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.outcome));
        let weight = std::mem::take(&mut state.weight);
        let ready = if state.file.is_broken { self.mend(&mut state) } else { Ok(()) };
        state.is_writing = true;
        let (file, at, place) = (Arc::clone(&state.file.file), state.file.length, state.end);
        drop(state);
        let frame = self.format.frame(place, weight, waiting);
        let outcome = ready.and_then(|()| file.write_at(&frame, at)).and_then(|()| file.sync());
        let mut state = self.state();
        state.is_writing = false;
        match &outcome {
            Ok(()) => {
                state.file.length += frame.len() as u64;
                state.end.at += frame.len() as u64;
                state.end.weight += weight;
            }
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
        let file = File::create(&*self.disk, &self.folder, &self.format, state.file.number + 1, state.end)?;
        let old = state.part();
        state.old.push_back(old);
        state.end = file.end();
        state.file = file;
        Ok(())
    }

    /// The number of the file that is written to.
    pub(crate) fn number(&self) -> u64 {
        self.state().file.number
    }

    /// How long the file is that is written to.
    pub(crate) fn length(&self) -> u64 {
        self.state().file.length
    }

    /// The files before the one that is written to, in order.
    pub(crate) fn old(&self) -> Vec<Part> {
        self.state().old.iter().copied().collect()
    }

    /// The oldest file.
    pub(crate) fn oldest(&self) -> Part {
        let state = self.state();
        state.old.front().copied().unwrap_or_else(|| state.part())
    }

    /// The file that is written to, as far as what it says was acknowledged.
    pub(crate) fn newest(&self) -> Part {
        self.state().part()
    }

    /// The first file that ends after this place, or else the last.
    pub(crate) fn part_after(&self, at: u64) -> Part {
        let state = self.state();
        // They end in their order.
        let found = state.old.partition_point(|part| part.end <= at);
        state.old.get(found).copied().unwrap_or_else(|| state.part())
    }

    /// Goes on in a new file if the one that is written to is longer than this, and gives the number of the one that is
    /// written to then: what the files before it say may be removed once it stands elsewhere.
    pub(crate) fn rotate(&self, longer_than: Option<u64>) -> Result<u64> {
        let mut state = self.state();
        while state.is_writing {
            state = self.written.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if longer_than.is_none_or(|length| state.file.length > length) {
            let begun = self.replace(&mut state);
            begun.map_err(|cause| failed("begin a journal", &self.folder, cause))?;
        }
        Ok(state.file.number)
    }

    /// Removes the files before this one.
    pub(crate) fn remove_before(&self, number: u64) -> Result<()> {
        let old = numbers(&*self.disk, &self.folder, F::NAME)?;
        let mut state = self.state();
        while state.old.front().is_some_and(|part| part.number < number) {
            state.old.pop_front();
        }
        drop(state);
        for old in old.into_iter().take_while(|old| *old < number) {
            let path = path(&self.folder, F::NAME, old);
            // What an older file says must not outlive what the newer ones do.
            let removed = self.disk.remove(&path).and_then(|()| self.disk.sync_folder(&self.folder));
            removed.map_err(|cause| failed("remove a journal", &path, cause))?;
        }
        Ok(())
    }
}

impl State {
    /// The file that is written to, as far as it was acknowledged.
    fn part(&self) -> Part {
        Part { number: self.file.number, start: self.file.start, end: self.end.at }
    }
}

impl File {
    fn create<F: Format>(
        disk: &dyn Disk,
        folder: &Path,
        format: &F,
        number: u64,
        start: Place,
    ) -> io::Result<Self> {
        let path = path(folder, F::NAME, number);
        // One that could not be synced, of which nobody was told.
        disk.remove(&path)?;
        let file = disk.create(&path)?;
        let head = format.head(start);
        if !head.is_empty() {
            file.write_at(&head, 0)?;
            file.sync()?;
        }
        disk.sync_folder(folder)?;
        Ok(Self { number, start, file: file.into(), length: head.len() as u64, is_broken: false })
    }

    /// The place at its end, while nothing but its head is in it.
    fn end(&self) -> Place {
        Place { at: self.start.at + self.length, ..self.start }
    }
}

/// A failure for one more of those it came to.
fn again(failure: &Arc<io::Error>) -> io::Error {
    let of_kind = || io::Error::new(failure.kind(), Arc::clone(failure));
    failure.raw_os_error().map_or_else(of_kind, io::Error::from_raw_os_error)
}

/// Where a file is.
pub(crate) fn path(folder: &Path, name: &str, number: u64) -> PathBuf {
    folder.join(format!("{name}{number:016x}"))
}

/// The numbers of the files that are there, in order.
pub(crate) fn numbers(disk: &dyn Disk, folder: &Path, name: &str) -> Result<Vec<u64>> {
    let names = disk.names(folder).map_err(|cause| failed("list the journals", folder, cause))?;
    let number = |own: &String| u64::from_str_radix(own.strip_prefix(name)?, 16).ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}
