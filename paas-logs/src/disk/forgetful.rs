//! A disk that forgets what was not synced, and may die at any operation.
//!
//! Operations may fail, and a write that does is there whole, in part, or not at all; what was written before a sync that fails
//! may be gone for good. After a crash any of the writes since a file's last sync are there, whole or up to a sector, and the others are not; of the
//! names of a folder any of the changes since its last sync. That is more than file systems do to who trusts them, and no
//! less than the standard lets them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Disk, DiskFile};

const SECTOR: u64 = 512;

/// The disk. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Forgetful(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<PathBuf, Entry>,
    kept: BTreeMap<PathBuf, Entry>,
    /// Changes of names that may be forgotten, in order: what a name stands for from then on.
    changes: Vec<Vec<(PathBuf, Option<Entry>)>>,
    files: Vec<Content>,
    /// How many operations that change something were done.
    operations: u64,
    dies_at: Option<u64>,
    full_at: Option<u64>,
    /// One of so many operations fails.
    fails: Option<(u64, Dice)>,
    tears: Dice,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Folder,
    File(usize),
}

#[derive(Clone, Debug, Default)]
struct Content {
    now: Vec<u8>,
    kept: Vec<u8>,
    writes: Vec<Write>,
}

#[derive(Clone, Debug)]
enum Write {
    At(u64, Vec<u8>),
    Cut(u64),
}

/// A source of numbers that is the same for a seed: SplitMix64.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % sides.max(1)
    }
}

impl Forgetful {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// From this operation on, counted from now, it is dead: everything fails.
    pub(crate) fn die_after(&self, operations: u64) {
        let mut state = self.state();
        state.dies_at = Some(state.operations + operations);
    }

    /// Has room for so many operations that write, then none, until told otherwise.
    pub(crate) fn fill_after(&self, operations: Option<u64>) {
        let mut state = self.state();
        state.full_at = operations.map(|operations| state.operations + operations);
    }

    /// One of so many operations that change something fails, which is left to chance.
    pub(crate) fn fail_one_of(&self, so_many: u64, seed: u64) {
        self.state().fails = Some((so_many, Dice(seed)));
    }

    /// Another disk with the same files, all of it synced.
    pub(crate) fn copy(&self) -> Self {
        let state = self.state();
        let names = state.names.clone();
        let synced =
            |file: &Content| Content { kept: file.now.clone(), now: file.now.clone(), writes: Vec::new() };
        let files = state.files.iter().map(synced).collect();
        Self(Arc::new(Mutex::new(State { kept: names.clone(), names, files, ..State::default() })))
    }

    /// Gives a file another content, as a disk does that goes bad.
    pub(crate) fn damage(&self, path: &Path, damage: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let file = state.file(path).unwrap();
        let file = &mut state.files[file];
        damage(&mut file.now);
        file.kept.clone_from(&file.now);
    }

    /// All files and what they have.
    pub(crate) fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let state = self.state();
        let content = |(path, entry): (&PathBuf, &Entry)| match entry {
            Entry::Folder => None,
            Entry::File(file) => Some((path.clone(), state.files[*file].now.clone())),
        };
        state.names.iter().filter_map(content).collect()
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.state().is_dead()
    }

    /// The disk after the process died, and not the machine: all that was written is there, and may still be forgotten.
    pub(crate) fn after_kill(&self) -> Self {
        let state = self.state();
        Self(Arc::new(Mutex::new(State {
            names: state.names.clone(),
            kept: state.kept.clone(),
            changes: state.changes.clone(),
            files: state.files.clone(),
            ..State::default()
        })))
    }

    /// The disk after a crash.
    pub(crate) fn after_crash(&self, dice: &mut Dice) -> Self {
        let state = self.state();
        let mut names = state.kept.clone();
        for change in state.changes.iter().filter(|_| dice.roll(2) == 0) {
            for (path, entry) in change {
                match entry {
                    Some(entry) => drop(names.insert(path.clone(), *entry)),
                    None => drop(names.remove(path)),
                }
            }
        }
        // What stands in a folder that is not there is not there, either.
        let folders = names.clone();
        names.retain(|path, _| path.ancestors().skip(1).all(|folder| is_folder(&folders, folder)));
        let files = state.files.iter().map(|file| file.after_crash(dice)).collect();
        let kept = names.clone();
        Self(Arc::new(Mutex::new(State { names, kept, files, ..State::default() })))
    }
}

/// Folders above the first that was made are always there.
fn is_folder(names: &BTreeMap<PathBuf, Entry>, folder: &Path) -> bool {
    names.get(folder) == Some(&Entry::Folder) || folder.components().count() <= 1
}

impl State {
    /// Counts an operation, unless it is the one at which all ends.
    fn begin(&mut self, writes: bool) -> io::Result<()> {
        if self.is_dead() {
            return Err(io::Error::other("the disk is dead"));
        }
        if writes && self.full_at.is_some_and(|at| self.operations >= at) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.operations += 1;
        if self.fails.as_mut().is_some_and(|(so_many, dice)| dice.roll(*so_many) == 0) {
            return Err(io::Error::other("the disk failed"));
        }
        Ok(())
    }

    fn is_dead(&self) -> bool {
        self.dies_at.is_some_and(|at| self.operations >= at)
    }

    /// How much of a write is there: of one that failed nothing, some of it, or all.
    fn part(&mut self, begun: &io::Result<()>, bytes: usize) -> usize {
        match begun {
            Ok(()) => bytes,
            Err(_) if self.is_dead() => 0,
            Err(_) => [0, self.tears.roll(bytes as u64) as usize, bytes][self.tears.roll(3) as usize],
        }
    }

    fn change(&mut self, change: Vec<(PathBuf, Option<Entry>)>) {
        for (path, entry) in &change {
            match entry {
                Some(entry) => drop(self.names.insert(path.clone(), *entry)),
                None => drop(self.names.remove(path)),
            }
        }
        self.changes.push(change);
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Entry::File(file)) => Ok(*file),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Content {
    fn after_crash(&self, dice: &mut Dice) -> Self {
        let mut after = self.clone();
        after.forget_some(dice);
        after.now.clone_from(&after.kept);
        after
    }

    /// Keeps all that was written.
    fn keep(&mut self) {
        std::mem::take(&mut self.writes).iter().for_each(|write| write.apply(&mut self.kept));
    }

    /// Keeps some of what was written, and never again has to do with the rest, though it is still read.
    fn forget_some(&mut self, dice: &mut Dice) {
        for write in std::mem::take(&mut self.writes) {
            match &write {
                Write::Cut(_) if dice.roll(2) == 0 => write.apply(&mut self.kept),
                Write::Cut(_) => {}
                Write::At(offset, bytes) => {
                    let all = bytes.len() as u64;
                    let length = match dice.roll(4) {
                        0 => 0,
                        1 => (dice.roll(all / SECTOR + 1) * SECTOR).min(all),
                        _ => all,
                    };
                    put(&mut self.kept, *offset, &bytes[..length as usize]);
                }
            }
        }
    }
}

impl Write {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::At(offset, bytes) => put(content, *offset, bytes),
            Self::Cut(length) => content.resize(*length as usize, 0),
        }
    }
}

fn put(content: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset as usize + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset as usize..][..bytes.len()].copy_from_slice(bytes);
}

impl Disk for Forgetful {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.begin(true)?;
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|folder| is_folder(&state.names, folder)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let file = state.files.len();
        state.files.push(Content::default());
        state.change(vec![(path.to_owned(), Some(Entry::File(file)))]);
        Ok(Box::new(Handle(self.clone(), file)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(Handle(self.clone(), self.state().file(path)?)))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.open(path)
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        if !is_folder(&state.names, folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let own = state.names.keys().filter(|path| path.parent() == Some(folder));
        Ok(own.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn ensure_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        if is_folder(&state.names, folder) {
            return Ok(());
        }
        state.begin(true)?;
        state.change(vec![(folder.to_owned(), Some(Entry::Folder))]);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(false)?;
        let file = state.file(from)?;
        state.change(vec![(from.to_owned(), None), (to.to_owned(), Some(Entry::File(file)))]);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(false)?;
        if state.file(path).is_ok() {
            state.change(vec![(path.to_owned(), None)]);
        }
        Ok(())
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(false)?;
        let gone: Vec<PathBuf> =
            state.names.keys().filter(|path| path.starts_with(folder)).cloned().collect();
        // One after the other, the folder last.
        for path in gone.into_iter().rev() {
            state.change(vec![(path, None)]);
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.begin(false)?;
        let (own, others): (Vec<_>, Vec<_>) = std::mem::take(&mut state.changes)
            .into_iter()
            .partition(|change| change.iter().any(|(path, _)| path.parent() == Some(folder)));
        state.changes = others;
        for (path, entry) in own.into_iter().flatten() {
            match entry {
                Some(entry) => drop(state.kept.insert(path, entry)),
                None => drop(state.kept.remove(&path)),
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct Handle(Forgetful, usize);

impl DiskFile for Handle {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.0.state();
        let content = &state.files[self.1].now;
        let range = offset as usize..offset as usize + buffer.len();
        buffer.copy_from_slice(content.get(range).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.0.state();
        let begun = state.begin(true);
        let there = &bytes[..state.part(&begun, bytes.len())];
        let file = &mut state.files[self.1];
        put(&mut file.now, offset, there);
        file.writes.push(Write::At(offset, there.to_vec()));
        begun
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.state().files[self.1].now.len() as u64)
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut state = self.0.state();
        state.begin(false)?;
        let (file, cut) = (&mut state.files[self.1], Write::Cut(length));
        cut.apply(&mut file.now);
        file.writes.push(cut);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.state();
        let begun = state.begin(false);
        let State { files, tears, .. } = &mut *state;
        match begun {
            Ok(()) => files[self.1].keep(),
            // What was not kept then is kept never: systems forget that it was to be, once they have told of a failure.
            Err(_) => files[self.1].forget_some(tears),
        }
        begun
    }
}
