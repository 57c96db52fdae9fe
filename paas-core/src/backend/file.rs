//! What a failed operation on a file means to who called for it.

use std::io;
use std::path::Path;

use crate::{Error, ErrorKind};

/// What `EMFILE` and `ENFILE` are on every Unix: the standard library has no kind for them.
const TOO_MANY_OPEN: [i32; 2] = [24, 23];

/// What a failed file operation means: what was tried, where, and what to do about it.
///
/// ```
/// use paas_core::backend::file_error;
/// let error = file_error("write the journal", "/data/journal".as_ref(), std::io::ErrorKind::StorageFull.into());
/// assert!(error.to_string().starts_with("disk full: free some space"));
/// ```
#[must_use]
pub fn file_error(doing: &'static str, path: &Path, cause: io::Error) -> Error {
    use io::ErrorKind as E;
    let (kind, message) = match cause.kind() {
        E::StorageFull | E::QuotaExceeded | E::FileTooLarge => {
            (ErrorKind::Unavailable, "disk full: free some space, nothing stored before is lost")
        }
        E::ReadOnlyFilesystem => {
            (ErrorKind::Unavailable, "the file system is read-only: remount it writable or use another path")
        }
        E::PermissionDenied => {
            (ErrorKind::Denied, "no permission: let the user of this program read and write the path")
        }
        E::NotADirectory => (ErrorKind::Invalid, "a part of the path is a file, not a directory"),
        E::NotFound => (ErrorKind::NotFound, "the file is missing"),
        _ if cause.raw_os_error().is_some_and(|number| TOO_MANY_OPEN.contains(&number)) => {
            (ErrorKind::Unavailable, "too many open files: raise the limit of open files")
        }
        _ => (ErrorKind::Unavailable, "the file system failed"),
    };
    Error::new(kind, message).with("doing", doing).with("path", path.display()).with_source(cause)
}
