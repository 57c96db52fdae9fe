//! A redb file that recovers: after a failure of the disk it is closed and opened again.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use paas_core::{Error, Result};
use redb::backends::FileBackend;
use redb::{BackendError, ReadTransaction, ReadableDatabase, StorageBackend, WriteTransaction};
use rustix::fs::FallocateFlags;

use crate::{error, file};

/// Memory for pages; a store's working set is a few thousand small records.
const CACHE: usize = 4 * 1024 * 1024;

/// Why work on a database ended.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The database failed.
    Redb(redb::Error),
    /// The caller's own reason; the database is well.
    Own(Error),
}

macro_rules! faults {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(cause: $error) -> Self {
                Self::Redb(cause.into())
            }
        }
    )*};
}
faults!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError);

impl From<Error> for Fault {
    fn from(cause: Error) -> Self {
        Self::Own(cause)
    }
}

/// A redb file.
#[derive(Debug)]
pub(crate) struct Database {
    path: PathBuf,
    slot: RwLock<Slot>,
}

#[derive(Debug)]
struct Slot {
    database: Option<redb::Database>,
    /// How often it was opened: who finds it failed opens it again only if nobody else has.
    opened: u64,
}

impl Database {
    /// Opens the file, made with mode 0600 where it is missing, and checks all of it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fresh = !path.exists();
        let database = open(path)?;
        if fresh {
            file::sync_dir(file::parent(path))?;
        }
        let slot = RwLock::new(Slot { database: Some(database), opened: 1 });
        Ok(Self { path: path.to_owned(), slot })
    }

    /// Reads one state of the whole database, beside any writer.
    pub(crate) fn read<T>(&self, work: impl Fn(&ReadTransaction) -> Result<T, Fault>) -> Result<T> {
        let attempt = |database: &redb::Database| work(&database.begin_read()?);
        self.with(attempt).or_else(|(fault, opened)| {
            if !reopens(&fault) {
                return Err(self.explain(fault));
            }
            self.reopen(opened)?;
            self.with(attempt).map_err(|(fault, _)| self.explain(fault))
        })
    }

    /// Does work and commits it; `Ok` means that it survives a crash. After a failed commit the work is done or not
    /// done, never half, and the database has been opened again where that was possible.
    pub(crate) fn write<T>(&self, work: impl Fn(&WriteTransaction) -> Result<T, Fault>) -> Result<T> {
        self.write_if(|transaction| work(transaction).map(|outcome| (outcome, true)))
    }

    /// As `write`, with a commit only where the work says that it changed something.
    pub(crate) fn write_if<T>(
        &self,
        work: impl Fn(&WriteTransaction) -> Result<(T, bool), Fault>,
    ) -> Result<T> {
        let attempt = |database: &redb::Database| {
            // The default durability is `Immediate`: the commit returns after the sync.
            let transaction = database.begin_write()?;
            let (outcome, changed) = work(&transaction)?;
            if changed {
                transaction.commit()?;
            } else {
                transaction.abort()?;
            }
            Ok(outcome)
        };
        self.with(attempt).or_else(|(fault, opened)| {
            if !reopens(&fault) {
                return Err(self.explain(fault));
            }
            // What failed is not done again here: only the caller knows whether it was done.
            let early = matches!(fault, Fault::Redb(redb::Error::PreviousIo | redb::Error::DatabaseClosed));
            match (self.reopen(opened), early) {
                (Ok(()), true) => self.with(attempt).map_err(|(fault, _)| self.explain(fault)),
                _ => Err(self.explain(fault)),
            }
        })
    }

    fn with<T>(&self, work: impl FnOnce(&redb::Database) -> Result<T, Fault>) -> Result<T, (Fault, u64)> {
        let slot = self.slot.read().unwrap_or_else(PoisonError::into_inner);
        let closed = || Fault::Redb(redb::Error::DatabaseClosed);
        slot.database.as_ref().ok_or_else(closed).and_then(work).map_err(|fault| (fault, slot.opened))
    }

    fn reopen(&self, failed: u64) -> Result<()> {
        let mut slot = self.slot.write().unwrap_or_else(PoisonError::into_inner);
        if slot.opened != failed && slot.database.is_some() {
            return Ok(());
        }
        tracing::warn!(path = %self.path.display(), "the database failed and is opened again");
        // Closed first, since redb locks the file.
        slot.database = None;
        slot.database = Some(open(&self.path)?);
        slot.opened += 1;
        Ok(())
    }

    fn explain(&self, fault: Fault) -> Error {
        match fault {
            Fault::Redb(cause) => error::database(&self.path, cause),
            Fault::Own(error) => error,
        }
    }
}

fn reopens(fault: &Fault) -> bool {
    use redb::Error as E;
    matches!(fault, Fault::Redb(E::Io(_) | E::PreviousIo | E::DatabaseClosed | E::Backend(_)))
}

fn open(path: &Path) -> Result<redb::Database> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|cause| error::file("open the database", path, cause))?;
    let opened = || {
        let backend = Allocated::new(file)?;
        // Checked as a whole now, since redb trusts its pages later and may panic over a damaged one.
        let database = redb::Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create_with_backend(backend)?;
        Ok::<_, redb::DatabaseError>(database)
    };
    // A debug build of redb panics over a file that redb never wrote.
    match catch_unwind(AssertUnwindSafe(opened)) {
        Ok(Ok(database)) => Ok(database),
        Ok(Err(cause)) => Err(error::database(path, cause.into())),
        Err(_) => Err(error::damaged(path)),
    }
}

/// A file whose blocks are allocated when it grows, so that a full disk shows there and never while a page that
/// exists is written: a database can be opened again on a disk that is still full.
#[derive(Debug)]
struct Allocated {
    file: File,
    inner: FileBackend,
}

impl Allocated {
    fn new(file: File) -> Result<Self, redb::DatabaseError> {
        Ok(Self { file: file.try_clone()?, inner: FileBackend::new(file)? })
    }
}

impl StorageBackend for Allocated {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let now = self.inner.len()?;
        if len > now {
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), now, len - now) {
                // Not every file system can; the write shows the full disk then.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
                Err(cause) => return Err(cause.into()),
            }
        }
        self.inner.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.inner.write(offset, data)
    }
    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }
    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }
    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }
    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }
    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }
    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
