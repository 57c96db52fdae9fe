//! A folder that belongs to one process at a time, and work on it that waits for the disk.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;

use paas_core::{Error, Result};

use crate::error::failed;

/// Makes the folder unless it is there, and makes sure that no other process has it, for as long as the file is open.
pub(crate) fn take(folder: &Path) -> Result<File> {
    std::fs::create_dir_all(folder).map_err(|cause| failed("make the folder", folder, cause))?;
    let path = folder.join("lock");
    let broken = |cause| failed("lock the folder", &path, cause);
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).open(&path).map_err(broken)?;
    locked(folder, file.try_lock())?;
    Ok(file)
}

/// Makes sure that no process has the folder to write, and changes nothing.
pub(crate) fn take_shared(folder: &Path) -> Result<Option<File>> {
    let path = folder.join("lock");
    match File::open(&path) {
        Ok(file) => locked(folder, file.try_lock_shared()).map(|()| Some(file)),
        // Of a copy somebody may have left it out.
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed("lock the folder", &path, cause)),
    }
}

fn locked(folder: &Path, outcome: std::result::Result<(), TryLockError>) -> Result<()> {
    outcome.map_err(|cause| match cause {
        TryLockError::WouldBlock => {
            let error = Error::unavailable("another process has this folder open, or this one has it twice");
            error.with("folder", folder.display())
        }
        TryLockError::Error(cause) => failed("lock the folder", &folder.join("lock"), cause),
    })
}

/// Works in a thread that may wait.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(cause) => Err(Error::internal("a task in a folder of logs ended early").with_source(cause)),
    }
}
