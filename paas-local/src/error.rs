//! One place that says what a failure of the file system or of redb means to the caller.

use std::io;
use std::path::Path;

pub(crate) use paas_core::backend::file_error as file;
use paas_core::{Error, ErrorKind};

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
    use rustix::io::Errno;

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
