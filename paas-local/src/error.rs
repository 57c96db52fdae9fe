//! One place that says what a failure of the file system or of redb means to the caller.

use std::io;
use std::path::Path;

use paas_core::{Error, ErrorKind};
use rustix::io::Errno;

/// What a failed file operation means: what was tried, where, and what to do about it.
pub(crate) fn file(doing: &'static str, path: &Path, cause: io::Error) -> Error {
    let errno = cause.raw_os_error().map(Errno::from_raw_os_error);
    let (kind, message) = match errno {
        Some(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => {
            (ErrorKind::Unavailable, "disk full: free some space, nothing stored before is lost")
        }
        Some(Errno::ROFS) => {
            (ErrorKind::Unavailable, "the file system is read-only: remount it writable or use another path")
        }
        Some(Errno::ACCESS | Errno::PERM) => {
            (ErrorKind::Denied, "no permission: let the user of this program read and write the path")
        }
        Some(Errno::MFILE | Errno::NFILE) => {
            (ErrorKind::Unavailable, "too many open files: raise the limit of open files")
        }
        Some(Errno::NOTDIR) => (ErrorKind::Invalid, "a part of the path is a file, not a directory"),
        Some(Errno::NOENT) => (ErrorKind::NotFound, "the file is missing"),
        _ => (ErrorKind::Unavailable, "the file system failed"),
    };
    Error::new(kind, message).with("doing", doing).with("path", path.display()).with_source(cause)
}

/// What a failure of redb means.
pub(crate) fn database(path: &Path, cause: redb::Error) -> Error {
    use redb::Error as E;
    let (kind, message) = match cause {
        // A file that never was a database; redb says so with an I/O error without a number.
        E::Io(cause) if cause.kind() == io::ErrorKind::InvalidData => {
            return damaged(path).with_source(cause);
        }
        E::Io(cause) => return file("use the database", path, cause),
        E::Corrupted(_) | E::RepairAborted | E::TransactionPoisoned => {
            return damaged(path).with_source(cause);
        }
        E::DatabaseAlreadyOpen | E::LockProtocolMismatch => {
            (ErrorKind::Unavailable, "the database is open already: stop whatever holds it")
        }
        E::UpgradeRequired(_) => {
            (ErrorKind::Invalid, "the database has an old file format: open it once with an older release")
        }
        E::PreviousIo | E::DatabaseClosed => (
            ErrorKind::Unavailable,
            "the database was closed after a failure and opens again at the next call",
        ),
        _ => (ErrorKind::Internal, "the database failed"),
    };
    Error::new(kind, message).with("path", path.display()).with_source(cause)
}

/// A database that cannot be read.
pub(crate) fn damaged(path: &Path) -> Error {
    Error::internal("the database is damaged: put it back from a backup").with("path", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_error_says_what_where_and_what_to_do() {
        let table = [
            (Errno::NOSPC, ErrorKind::Unavailable, "disk full"),
            (Errno::DQUOT, ErrorKind::Unavailable, "disk full"),
            (Errno::ROFS, ErrorKind::Unavailable, "remount it writable"),
            (Errno::ACCESS, ErrorKind::Denied, "let the user of this program"),
            (Errno::MFILE, ErrorKind::Unavailable, "raise the limit"),
            (Errno::NOTDIR, ErrorKind::Invalid, "not a directory"),
            (Errno::IO, ErrorKind::Unavailable, "file system failed"),
        ];
        for (errno, kind, text) in table {
            let error = file("open it", Path::new("/data/x"), errno.into());
            assert_eq!(error.kind(), kind, "{errno:?}");
            let shown = error.to_string();
            assert!(
                shown.contains(text) && shown.contains("/data/x") && shown.contains("open it"),
                "{shown}"
            );
        }
    }

    #[test]
    fn a_database_error_keeps_its_meaning() {
        let path = Path::new("/data/state.redb");
        let kind = |cause| database(path, cause).kind();
        assert_eq!(kind(redb::Error::Io(Errno::NOSPC.into())), ErrorKind::Unavailable);
        assert_eq!(kind(redb::Error::Corrupted("x".into())), ErrorKind::Internal);
        assert_eq!(kind(redb::Error::DatabaseAlreadyOpen), ErrorKind::Unavailable);
        assert_eq!(kind(redb::Error::UpgradeRequired(2)), ErrorKind::Invalid);
    }
}
