//! Values and lists on disk: one append-only file, flushed before anything is acknowledged.
//!
//! The file is a sequence of frames: length and checksum (4 bytes each, little endian), then entries. A frame is what
//! was written at once, between two flushes, so only the last one can be torn: after a crash it is cut off, and nothing
//! in it was ever acknowledged. A damaged frame with a sound one behind it is no torn tail, and the store refuses.

use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

/// Most bytes of entries in a frame.
const FRAME: usize = 4 * 1024 * 1024;
/// Most writes that are flushed together.
const BATCH: usize = 1_024;
/// Largest file; further writes are refused.
const FILE: u64 = 1024 * 1024 * 1024;

/// Where a value stands in the file.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    length: u32,
}

#[derive(Debug, Default)]
struct Index {
    values: HashMap<String, Place>,
    lists: HashMap<String, Vec<Place>>,
}

/// What to write.
#[derive(Debug)]
pub(crate) enum Change {
    /// A value under a key, in place of the one before.
    Put { key: String, value: Vec<u8> },
    /// A value at the end of a list.
    Append { list: String, value: Vec<u8> },
}

impl Change {
    const PUT: u8 = 1;
    const APPEND: u8 = 2;

    fn parts(&self) -> (u8, &str, &[u8]) {
        match self {
            Self::Put { key, value } => (Self::PUT, key, value),
            Self::Append { list, value } => (Self::APPEND, list, value),
        }
    }

    /// Kind, length of the name and of the value, name, value.
    fn encode(&self, out: &mut Vec<u8>) {
        let (kind, name, value) = self.parts();
        out.push(kind);
        out.extend(u32::try_from(name.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend(value);
    }
}

const ENTRY: usize = 9;
const HEAD: usize = 8;

struct Job {
    write: Change,
    done: oneshot::Sender<Result<u64, String>>,
}

/// The store; its writes go through one thread.
#[derive(Debug)]
pub(crate) struct Store {
    file: Arc<File>,
    index: Arc<Mutex<Index>>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Mutex<Option<std::thread::JoinHandle<()>>>,
    /// Held locked for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens the store in this folder.
    ///
    /// Gives the store and, after a crash, how many bytes of a torn tail were cut off.
    pub(crate) fn open(folder: &Path) -> Result<(Self, u64), String> {
        let failed = |what: &str| {
            let place = folder.display().to_string();
            let what = what.to_owned();
            move |error: io::Error| format!("cannot {what} in {place}: {error}")
        };
        std::fs::create_dir_all(folder).map_err(failed("make the folder"))?;
        let lock = File::create(folder.join("lock")).map_err(failed("open the lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => format!("another db is running in {}", folder.display()),
            TryLockError::Error(error) => failed("lock")(error),
        })?;
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).open(folder.join("log"));
        let file = file.map_err(failed("open the log"))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("flush"))?;
        let (index, length, cut) =
            recover(&file).map_err(|error| format!("{error} ({})", folder.display()))?;
        if cut > 0 {
            file.set_len(length).and_then(|()| file.sync_all()).map_err(failed("cut the log"))?;
        }
        let (jobs, receiver) = mpsc::channel(BATCH);
        let (file, index) = (Arc::new(file), Arc::new(Mutex::new(index)));
        let mut writer = Writer { file: Arc::clone(&file), index: Arc::clone(&index), length, broken: None };
        let thread = std::thread::Builder::new().name("store".to_owned()).stack_size(256 * 1024);
        let writer = thread.spawn(move || writer.run(receiver)).map_err(failed("start the writer"))?;
        let store =
            Self { file, index, jobs: Mutex::new(Some(jobs)), writer: Mutex::new(Some(writer)), _lock: lock };
        Ok((store, cut))
    }

    /// Writes, and returns once it is on disk: for a list, the number of its new item from 1.
    pub(crate) async fn write(&self, write: Change) -> Result<u64, String> {
        let (done, written) = oneshot::channel();
        let jobs = lock(&self.jobs).clone().ok_or("the store is closed")?;
        jobs.send(Job { write, done }).await.map_err(|_| "the store is closed")?;
        written.await.map_err(|_| "the store is closed")?
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, String> {
        let place = lock(&self.index).values.get(key).copied();
        place.map(|place| self.read(place)).transpose()
    }

    /// The item of a list with this number, from 1.
    pub(crate) fn item(&self, list: &str, number: u64) -> Result<Option<Vec<u8>>, String> {
        let at = number.checked_sub(1).and_then(|at| usize::try_from(at).ok());
        let place = at.and_then(|at| lock(&self.index).lists.get(list)?.get(at).copied());
        place.map(|place| self.read(place)).transpose()
    }

    /// How many items a list has.
    pub(crate) fn count(&self, list: &str) -> usize {
        lock(&self.index).lists.get(list).map_or(0, Vec::len)
    }

    fn read(&self, place: Place) -> Result<Vec<u8>, String> {
        let mut value = vec![0; place.length as usize];
        self.file
            .read_exact_at(&mut value, place.at)
            .map_err(|error| format!("cannot read the log: {error}"))?;
        Ok(value)
    }

    /// Ends the writer after what it has; later writes are refused.
    pub(crate) fn close(&self) {
        drop(lock(&self.jobs).take());
        if let Some(writer) = lock(&self.writer).take() {
            let _ = writer.join();
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Writer {
    file: Arc<File>,
    index: Arc<Mutex<Index>>,
    length: u64,
    /// After a failed flush nobody knows what is on disk: no more writes.
    broken: Option<String>,
}

impl Writer {
    fn run(&mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::new();
        // Whatever came during the last flush is written and flushed together.
        while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
            let mut rest = batch.drain(..).peekable();
            while rest.peek().is_some() {
                let mut size = 0;
                let mut frame = Vec::new();
                while let Some(job) = rest.next_if(|job| {
                    let (_, name, value) = job.write.parts();
                    size += ENTRY + name.len() + value.len();
                    size <= FRAME
                }) {
                    frame.push(job);
                }
                if frame.is_empty() {
                    // One that is too large for any frame.
                    if let Some(job) = rest.next() {
                        let _ = job.done.send(Err("the value is too large".to_owned()));
                    }
                }
                self.commit(frame);
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if jobs.is_empty() {
            return;
        }
        let written = match &self.broken {
            Some(why) => Err(why.clone()),
            None => self.append(&jobs),
        };
        for (at, job) in jobs.into_iter().enumerate() {
            // Whoever asked may be gone; the write stays.
            let _ = job.done.send(written.clone().map(|numbers| numbers[at]));
        }
    }

    /// Writes and flushes a frame, then makes it visible.
    fn append(&mut self, jobs: &[Job]) -> Result<Vec<u64>, String> {
        let mut frame = vec![0; HEAD];
        let places: Vec<Place> = jobs
            .iter()
            .map(|job| {
                job.write.encode(&mut frame);
                let length = job.write.parts().2.len();
                let at = self.length + (frame.len() - length) as u64;
                Place { at, length: u32::try_from(length).unwrap_or(u32::MAX) }
            })
            .collect();
        let entries = u32::try_from(frame.len() - HEAD).map_err(|_| "the frame is too large")?;
        let sum = checksum(&frame[HEAD..]);
        frame[..4].copy_from_slice(&entries.to_le_bytes());
        frame[4..HEAD].copy_from_slice(&sum.to_le_bytes());
        if self.length + frame.len() as u64 > FILE {
            return Err("the store is full".to_owned());
        }
        if let Err(error) = (&*self.file).write_all(&frame) {
            let message = format!("cannot write: {error}");
            // Disk full, mostly: back to what was there, and the next write may fit.
            if self.file.set_len(self.length).is_err() {
                self.broken = Some(message.clone());
            }
            return Err(message);
        }
        if let Err(error) = self.file.sync_data() {
            let message = format!("cannot flush, and will write no more: {error}");
            self.broken = Some(message.clone());
            return Err(message);
        }
        self.length += frame.len() as u64;
        let mut index = lock(&self.index);
        Ok(jobs.iter().zip(places).map(|(job, place)| index.add(&job.write, place)).collect())
    }
}

impl Index {
    fn add(&mut self, write: &Change, place: Place) -> u64 {
        match write {
            Change::Put { key, .. } => {
                self.values.insert(key.clone(), place);
                0
            }
            Change::Append { list, .. } => {
                let items = self.lists.entry(list.clone()).or_default();
                items.push(place);
                items.len() as u64
            }
        }
    }
}

/// Reads the log: the index, the length of what is sound, and how many bytes stand behind that.
fn recover(file: &File) -> Result<(Index, u64, u64), String> {
    let failed = |error: io::Error| format!("cannot read the log: {error}");
    let end = file.metadata().map_err(failed)?.len();
    let mut reader = io::BufReader::with_capacity(64 * 1024, file);
    let (mut index, mut at) = (Index::default(), 0);
    loop {
        let Some(entries) = frame(&mut reader, end - at).map_err(failed)? else {
            if at < end && sound_frame_behind(file, at, end).map_err(failed)? {
                return Err(format!("the log is damaged at byte {at}, and not at its end"));
            }
            return Ok((index, at, end - at));
        };
        if !index.add_all(&entries, at + HEAD as u64) {
            return Err(format!("the log is of another kind or version at byte {at}"));
        }
        at += (HEAD + entries.len()) as u64;
    }
}

/// The entries of the next frame; `None` where there is no sound one.
fn frame(reader: &mut impl Read, left: u64) -> io::Result<Option<Vec<u8>>> {
    let mut head = [0; HEAD];
    if left <= HEAD as u64 {
        return Ok(None);
    }
    reader.read_exact(&mut head)?;
    let [a, b, c, d, rest @ ..] = head;
    let (length, sum) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes(rest));
    if length == 0 || length as usize > FRAME || u64::from(length) > left - HEAD as u64 {
        return Ok(None);
    }
    let mut entries = vec![0; length as usize];
    reader.read_exact(&mut entries)?;
    Ok((checksum(&entries) == sum).then_some(entries))
}

/// Whether a sound frame stands where the damaged one says that it ends.
fn sound_frame_behind(file: &File, at: u64, end: u64) -> io::Result<bool> {
    let mut head = [0; 4];
    if end - at < HEAD as u64 {
        return Ok(false);
    }
    file.read_exact_at(&mut head, at)?;
    let next = at + HEAD as u64 + u64::from(u32::from_le_bytes(head));
    if next >= end {
        return Ok(false);
    }
    let mut rest = vec![0; usize::try_from(end - next).unwrap_or(usize::MAX).min(HEAD + FRAME)];
    file.read_exact_at(&mut rest, next)?;
    Ok(frame(&mut &*rest, rest.len() as u64)?.is_some())
}

impl Index {
    /// Adds the entries of a frame that begins at `at`. `false` where they make no sense.
    fn add_all(&mut self, mut entries: &[u8], mut at: u64) -> bool {
        while !entries.is_empty() {
            let Some(length) = self.add_one(entries, at) else { return false };
            entries = &entries[length..];
            at += length as u64;
        }
        true
    }

    fn add_one(&mut self, entries: &[u8], at: u64) -> Option<usize> {
        let number = |at: usize| Some(u32::from_le_bytes(entries.get(at..at + 4)?.try_into().ok()?));
        let (kind, name, value) = (*entries.first()?, number(1)?, number(5)?);
        let value_at = ENTRY + name as usize;
        let end = value_at.checked_add(value as usize).filter(|end| *end <= entries.len())?;
        let name = std::str::from_utf8(&entries[ENTRY..value_at]).ok()?.to_owned();
        let write = match kind {
            Change::PUT => Change::Put { key: name, value: Vec::new() },
            Change::APPEND => Change::Append { list: name, value: Vec::new() },
            _ => return None,
        };
        self.add(&write, Place { at: at + value_at as u64, length: value });
        Some(end)
    }
}

/// CRC-32 (IEEE).
fn checksum(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut value, mut bit) = (byte as u32, 0);
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[byte] = value;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |sum, byte| (sum >> 8) ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(value: impl Into<Vec<u8>>) -> Change {
        Change::Append { list: "orders".into(), value: value.into() }
    }

    async fn filled(folder: &Path, count: u64) {
        let (store, _) = Store::open(folder).unwrap();
        for number in 1..=count {
            assert_eq!(store.write(append(format!("order {number}"))).await, Ok(number));
        }
        store.close();
    }

    #[test]
    fn the_checksum_is_the_known_one() {
        assert_eq!(checksum(b"123456789"), 0xcbf4_3926);
    }

    #[tokio::test]
    async fn what_is_written_is_there_when_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 20).await;
        let (store, cut) = Store::open(folder.path()).unwrap();
        assert_eq!((cut, store.count("orders")), (0, 20));
        assert_eq!(store.item("orders", 7).unwrap().unwrap(), b"order 7");
        assert_eq!(store.item("orders", 0).unwrap(), None);
        assert_eq!(store.item("orders", 21).unwrap(), None);
        store.write(Change::Put { key: "k".into(), value: b"1".into() }).await.unwrap();
        store.write(Change::Put { key: "k".into(), value: Vec::new() }).await.unwrap();
        assert_eq!(store.get("k").unwrap(), Some(Vec::new()));
        assert_eq!(store.write(append("next")).await, Ok(21));
        store.close();
        assert!(store.write(append("late")).await.is_err());
    }

    #[tokio::test]
    async fn a_tail_torn_anywhere_is_cut_off_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 3).await;
        let log = folder.path().join("log");
        let whole = std::fs::read(&log).unwrap();
        let frame = whole.len() / 3;
        for length in 2 * frame..whole.len() {
            std::fs::write(&log, &whole[..length]).unwrap();
            let (store, cut) = Store::open(folder.path()).unwrap();
            assert_eq!((cut, store.count("orders")), ((length - 2 * frame) as u64, 2));
            assert_eq!(store.write(append("again")).await, Ok(3));
            store.close();
        }
        // Space that was reserved and never written, and a flipped bit in the last frame.
        let mut zeros = whole.clone();
        zeros.extend([0; 100]);
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for (damaged, count) in [(zeros, 3), (flipped, 2)] {
            std::fs::write(&log, damaged).unwrap();
            let (store, cut) = Store::open(folder.path()).unwrap();
            assert!(cut > 0);
            assert_eq!(store.count("orders"), count);
            store.close();
        }
    }

    #[tokio::test]
    async fn damage_before_the_end_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path(), 3).await;
        let log = folder.path().join("log");
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[HEAD + 3] ^= 1;
        std::fs::write(&log, &bytes).unwrap();
        let error = Store::open(folder.path()).unwrap_err();
        assert!(error.contains("damaged at byte 0"), "{error}");
        assert_eq!(std::fs::read(&log).unwrap(), bytes);
    }

    #[tokio::test]
    async fn two_stores_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        let error = Store::open(folder.path()).unwrap_err();
        assert!(error.contains("another db"), "{error}");
        store.close();
        drop(store);
        Store::open(folder.path()).unwrap();
    }

    #[tokio::test]
    async fn writes_at_once_are_flushed_together_and_numbered_without_gaps() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap().0);
        let writes = (0..500).map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.write(append(number.to_string())).await.unwrap() })
        });
        let mut numbers = Vec::new();
        for write in writes.collect::<Vec<_>>() {
            numbers.push(write.await.unwrap());
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(1..=500));
        store.close();
        let log = std::fs::read(folder.path().join("log")).unwrap();
        let (mut at, mut frames) = (0, 0);
        while at < log.len() {
            at += HEAD + u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
            frames += 1;
        }
        assert!(frames < 100, "{frames} flushes for 500 writes");
    }

    #[tokio::test]
    async fn a_value_too_large_for_a_frame_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        assert!(store.write(append(vec![0; FRAME])).await.is_err());
        assert_eq!(store.write(append(vec![0; FRAME / 2])).await, Ok(1));
        assert_eq!(store.write(append(vec![0; FRAME - 15])).await, Ok(2));
    }
}
