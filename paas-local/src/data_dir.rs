//! The directory that holds everything the platform keeps on a machine.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use paas_core::{Error, ErrorKind, Result};

use crate::error::file as failed;
use crate::file;

/// The layout that this release writes.
const FORMAT: u32 = 1;
/// `MIGRATIONS[n]` takes a directory from layout `n + 1` to `n + 2`. Doing it twice must be as good as once: a crash
/// comes between it and the note that it is done.
const MIGRATIONS: &[fn(&Path) -> Result<()>] = &[];

/// How long the last owner may take to let go, where that was this very process.
const LETTING_GO: Duration = Duration::from_millis(500);

const LOCK: &str = "lock";
const FORMAT_FILE: &str = "format";

/// The platform's data directory, with mode 0700. One process owns it, as long as a clone of the [`Arc`] lives in it:
/// every store keeps one.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The parts that a store holds.
    held: Mutex<BTreeSet<&'static str>>,
    /// Holds the lock; the kernel gives it back however this process ends.
    _lock: File,
}

/// A part of the directory that one store holds: a second one would spoil its files.
#[derive(Debug)]
pub(crate) struct Part {
    data: Arc<DataDir>,
    name: &'static str,
}

impl Part {
    /// Where the part is.
    pub(crate) fn path(&self) -> PathBuf {
        self.data.join(self.name)
    }

    /// The directory it is part of.
    pub(crate) fn data(&self) -> &DataDir {
        &self.data
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.data.held.lock().unwrap_or_else(PoisonError::into_inner).remove(self.name);
    }
}

impl DataDir {
    /// Opens the directory, made where it is missing, and becomes its owner. A directory of an older release is
    /// brought to this one's layout.
    ///
    /// # Errors
    /// `Unavailable` while another process owns it, with that one's `pid`, and when the disk is full or read-only.
    /// `Invalid` where the path is a file, is not UTF-8, or holds something else, and for the layout of a newer
    /// release. `Denied` where this user may not write there.
    pub async fn open(path: impl Into<PathBuf>) -> Result<Arc<Self>> {
        let path = path.into();
        file::blocking(move || Self::open_with(&path, FORMAT, MIGRATIONS)).await.map(Arc::new)
    }

    fn open_with(path: &Path, newest: u32, migrations: &[fn(&Path) -> Result<()>]) -> Result<Self> {
        let path = make(path)?;
        refuse_foreign(&path)?;
        close_to_others(&path)?;
        let lock = lock(&path.join(LOCK))?;
        match read_format(&path)? {
            None => write_format(&path, newest)?,
            Some(found) if found > newest => {
                return Err(Error::invalid(
                    "the data directory was written by a newer release: use that release or another directory",
                )
                .with("path", path.display())
                .with("found", found)
                .with("newest known", newest));
            }
            Some(found) => {
                for from in found..newest {
                    tracing::info!(path = %path.display(), from, to = from + 1, "migrating the data directory");
                    migrations[from as usize - 1](&path)?;
                    write_format(&path, from + 1)?;
                }
            }
        }
        Ok(Self { path, held: Mutex::default(), _lock: lock })
    }

    /// Where it is, absolute.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where something in it is.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// A directory in it, made with mode 0700 where it is missing. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.path.join(name);
        file::ensure_dir(&path)?;
        Ok(path)
    }

    /// Holds a directory in it for one store, made where it is missing.
    pub(crate) fn part(self: &Arc<Self>, name: &'static str) -> Result<Part> {
        if !self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(name) {
            return Err(Error::unavailable(
                "the store is open already: use the one that is, or drop it first",
            )
            .with("path", self.join(name).display()));
        }
        let part = Part { data: Arc::clone(self), name };
        self.directory(name)?;
        Ok(part)
    }

    /// The database of the platform's records.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.join("state.redb")
    }

    /// The database of encrypted secrets.
    #[must_use]
    pub fn secrets(&self) -> PathBuf {
        self.join("secrets.redb")
    }

    /// The directory of the keys that secrets are encrypted with.
    #[must_use]
    pub fn secret_keys(&self) -> PathBuf {
        self.join("secret-keys")
    }

    /// The directory of the audit log.
    #[must_use]
    pub fn audit(&self) -> PathBuf {
        self.join("audit")
    }

    /// The directory of volumes, by tenant.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        self.join("volumes")
    }

    /// The directory of tenants.
    #[must_use]
    pub fn tenants(&self) -> PathBuf {
        self.join("tenants")
    }
}

/// Makes the directory with all above it, and gives its absolute path.
fn make(path: &Path) -> Result<PathBuf> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    if path.exists() && !path.is_dir() {
        return Err(Error::invalid("the data directory's path is a file: move it or use another path")
            .with("path", path.display()));
    }
    made.map_err(|cause| failed("make the data directory", path, cause))?;
    let path = path.canonicalize().map_err(|cause| failed("find the data directory", path, cause))?;
    if path.to_str().is_none() {
        return Err(Error::invalid("the data directory's path is not UTF-8: use another path")
            .with("path", path.display()));
    }
    file::sync_dir(file::parent(&path))?;
    Ok(path)
}

fn close_to_others(path: &Path) -> Result<()> {
    let closed = path.metadata().and_then(|found| match found.permissions().mode() & 0o777 {
        0o700 => Ok(()),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
    });
    closed.map_err(|cause| failed("close the data directory to others", path, cause))
}

/// Keeps a mistyped path from filling somebody's home directory, or from changing who may read it.
fn refuse_foreign(path: &Path) -> Result<()> {
    if path.join(FORMAT_FILE).exists() {
        return Ok(());
    }
    let own = |name: &str| name == LOCK || name == "format.new";
    match file::names(path)?.into_iter().find(|name| !own(name)) {
        None => Ok(()),
        Some(found) => {
            Err(Error::invalid("the directory holds something else: name an empty or a missing directory")
                .with("path", path.display())
                .with("found", found))
        }
    }
}

fn lock(path: &Path) -> Result<File> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(|cause| failed("open the lock", path, cause))?;
    let began = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                // One that was dropped in this very process may still be at it.
                if holder == std::process::id().to_string() && began.elapsed() < LETTING_GO {
                    std::thread::park_timeout(Duration::from_millis(5));
                    continue;
                }
                return Err(Error::new(
                    ErrorKind::Unavailable,
                    "another process owns the data directory: stop it or use another directory",
                )
                .with("path", file::parent(path).display())
                .with("pid", if holder.is_empty() { "unknown" } else { &holder }));
            }
            Err(TryLockError::Error(cause)) => return Err(failed("lock the data directory", path, cause)),
        }
    }
    let noted =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
    noted.map_err(|cause| failed("write the lock", path, cause))?;
    Ok(file)
}

/// Who holds the lock. That is only for people to read; the refusal stands without it.
fn holder(file: &mut File) -> String {
    let mut holder = String::new();
    let _unknown = file.rewind().and_then(|()| file.take(20).read_to_string(&mut holder));
    holder.trim().to_owned()
}

fn read_format(path: &Path) -> Result<Option<u32>> {
    let path = path.join(FORMAT_FILE);
    let Some(content) = file::read(&path)? else { return Ok(None) };
    let found = std::str::from_utf8(&content).ok().and_then(|text| text.strip_prefix("paas-data "));
    match found.and_then(|text| text.trim_end().parse().ok()) {
        Some(found) if found > 0 => Ok(Some(found)),
        _ => Err(Error::invalid("the data directory's format file is damaged: it should read `paas-data 1`")
            .with("path", path.display())
            .with_source(io::Error::from(io::ErrorKind::InvalidData))),
    }
}

fn write_format(path: &Path, format: u32) -> Result<()> {
    file::replace(&path.join(FORMAT_FILE), format!("paas-data {format}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_directory_is_made_private_and_opens_again() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let data = DataDir::open(&path).await.unwrap();
        assert_eq!(mode(&path), 0o700);
        assert!(data.path().is_absolute());
        data.directory("x").unwrap();
        assert_eq!(mode(&data.directory("x").unwrap()), 0o700);
        drop(data);
        DataDir::open(&path).await.unwrap();
    }

    #[tokio::test]
    async fn one_owner_at_a_time_and_the_other_is_named() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let _held = DataDir::open(&path).await.unwrap();
        let error = DataDir::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(error.context("pid"), Some(std::process::id().to_string().as_str()));
        assert!(error.to_string().contains("stop it or use another directory"), "{error}");
    }

    #[tokio::test]
    async fn a_newer_layout_is_refused_with_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        drop(DataDir::open(&path).await.unwrap());
        write_format(&path, 7).unwrap();
        let error = DataDir::open(&path).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!((error.context("found"), error.context("newest known")), (Some("7"), Some("1")));
        assert_eq!(read_format(&path).unwrap(), Some(7));
    }

    #[test]
    fn an_older_layout_is_migrated_step_by_step_and_goes_on_after_a_failure() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        drop(DataDir::open_with(path, 1, &[]).unwrap());
        fn first(path: &Path) -> Result<()> {
            file::replace(&path.join("first"), b"1")
        }
        fn fails(_: &Path) -> Result<()> {
            Err(Error::unavailable("crash"))
        }
        fn second(path: &Path) -> Result<()> {
            file::replace(&path.join("second"), b"2")
        }
        assert!(DataDir::open_with(path, 3, &[first, fails]).is_err());
        assert_eq!(read_format(path).unwrap(), Some(2));
        let data = DataDir::open_with(path, 3, &[fails, second]).unwrap();
        assert_eq!(read_format(path).unwrap(), Some(3));
        assert!(data.join("first").exists() && data.join("second").exists());
    }

    #[tokio::test]
    async fn wrong_paths_are_refused_before_anything_is_written() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("file");
        fs::write(&path, "x").unwrap();
        for path in [path.clone(), path.join("below")] {
            let error = DataDir::open(&path).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
            assert!(error.to_string().contains("file"), "{error}");
        }
        let error = DataDir::open(root.path()).await.unwrap_err();
        assert!(error.to_string().contains("holds something else") && error.context("found") == Some("file"));
        assert_eq!(file::names(root.path()).unwrap(), ["file"]);
        // Nothing in the kernel's process tree can be made, not even by root.
        let error = DataDir::open("/proc/paas-data").await.unwrap_err();
        assert!(error.to_string().contains("/proc/paas-data"), "{error}");
    }

    #[tokio::test]
    async fn a_damaged_format_file_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        drop(DataDir::open(&path).await.unwrap());
        for content in ["", "paas-data", "paas-data x\n", "paas-data 0\n"] {
            fs::write(path.join(FORMAT_FILE), content).unwrap();
            let error = DataDir::open(&path).await.unwrap_err();
            assert!(error.to_string().contains("damaged"), "{content:?}: {error}");
        }
    }
}
