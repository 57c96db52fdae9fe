//! Files that survive a crash: what is written here is on the disk, name and content, when the call returns.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use paas_core::{Error, Result};

use crate::error::file as failed;

/// Runs blocking work beside the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(cause) => Err(Error::internal("a storage task ended early").with_source(cause)),
    }
}

/// Makes names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<()> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|cause| failed("sync the directory", path, cause))
}

/// The directory that holds a path.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes a directory that only this user can enter, unless it is there.
pub(crate) fn ensure_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => sync_dir(parent(path)),
        Err(cause) if cause.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(cause) => Err(failed("make the directory", path, cause)),
    }
}

/// Makes a file that must not exist, readable by this user only.
pub(crate) fn create_new(path: &Path, content: &[u8]) -> Result<()> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|cause| failed("write the file", path, cause))?;
    sync_dir(parent(path))
}

/// Replaces a file: after a crash it holds the old content or the new one.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    match fs::remove_file(&draft) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            return Err(failed("remove a left-over draft", &draft, cause));
        }
        _ => {}
    }
    let replaced = create_new(&draft, content).and_then(|()| {
        fs::rename(&draft, path).map_err(|cause| failed("replace the file", path, cause))?;
        sync_dir(parent(path))
    });
    if replaced.is_err() {
        // The draft is of no use any more; the error that matters is the first one.
        let _ = fs::remove_file(&draft);
    }
    replaced
}

/// The content of a file, or `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(failed("read the file", path, cause)),
    }
}

/// The names in a directory that are text, sorted; none where there is no directory.
pub(crate) fn names(path: &Path) -> Result<Vec<String>> {
    let listed = |cause| failed("list the directory", path, cause);
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(listed(cause)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(listed)?.file_name().into_string().ok());
    }
    names.sort_unstable();
    Ok(names)
}

/// A name that nobody else uses.
pub(crate) fn unique() -> Result<String> {
    let bits = getrandom::u64().map_err(|cause| {
        Error::unavailable("the operating system gives no random bytes").with_source(io::Error::other(cause))
    })?;
    Ok(format!("{bits:016x}"))
}
