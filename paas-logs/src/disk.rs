//! What is needed of a file system, so that a test can be one that forgets.
//!
//! What is written is there after a crash once its file was synced, and a name once its folder was.

use std::fmt::Debug;
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

#[cfg(test)]
pub(crate) mod forgetful;
pub(crate) mod read_only;

/// A file system.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Makes a file that must not be there, for this user only.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, to be read.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, to be read and written.
    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// The names in a folder, in no order.
    fn names(&self, folder: &Path) -> io::Result<Vec<String>>;

    /// Makes a folder, for this user only, unless it is there.
    fn ensure_folder(&self, folder: &Path) -> io::Result<()>;

    /// Gives a file another name, of which whatever has it is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, unless it is gone.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder with all its files, unless it is gone.
    fn remove_folder(&self, folder: &Path) -> io::Result<()>;

    /// The names of a folder outlive a crash.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A file of it.
pub(crate) trait DiskFile: Debug + Send + Sync {
    /// Reads as many bytes from there on.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes bytes there.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// How long it is.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it off there.
    fn truncate(&self, length: u64) -> io::Result<()>;

    /// What was written outlives a crash.
    fn sync(&self) -> io::Result<()>;
}

/// The machine's own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Native;

impl Disk for Native {
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        Ok(Box::new(options.read(true).write(true).create_new(true).mode(0o600).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(std::fs::File::open(path)?))
    }

    fn open_to_write(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn names(&self, folder: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<std::fs::DirEntry>| {
            entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        std::fs::read_dir(folder)?.map(name).collect()
    }

    fn ensure_folder(&self, folder: &Path) -> io::Result<()> {
        match DirBuilder::new().mode(0o700).create(folder) {
            Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
            made => made,
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        unless_gone(std::fs::remove_file(path))
    }

    fn remove_folder(&self, folder: &Path) -> io::Result<()> {
        unless_gone(std::fs::remove_dir_all(folder))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        std::fs::File::open(folder)?.sync_all()
    }
}

fn unless_gone(outcome: io::Result<()>) -> io::Result<()> {
    outcome.or_else(|cause| if cause.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(cause) })
}

impl DiskFile for std::fs::File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
