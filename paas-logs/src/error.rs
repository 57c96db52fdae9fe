//! What is wrong with a file, told to people.

use std::io;
use std::path::Path;

use paas_core::Error;

use crate::codec::Damage;

/// It cannot be read or written: what was tried, where, and what to do about it.
pub(crate) fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    let error = Error::unavailable(format!("cannot {what}")).with("path", path.display().to_string());
    let error = match advice(cause.kind()) {
        Some(advice) => error.with("advice", advice),
        None => error,
    };
    error.with_source(cause)
}

fn advice(kind: io::ErrorKind) -> Option<&'static str> {
    use io::ErrorKind as Kind;
    Some(match kind {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
            "the disk is full: free some space, nothing acknowledged is lost, and it goes on by itself"
        }
        Kind::ReadOnlyFilesystem => {
            "the file system is read-only: remount it writable, or use another folder"
        }
        Kind::PermissionDenied => "let the user of this program read and write the folder",
        Kind::NotADirectory => "a part of the path is a file: use another folder",
        _ => return None,
    })
}

/// Its content is not what was written.
pub(crate) fn damaged(path: &Path, damage: Damage) -> Error {
    Error::internal("a file of logs is damaged")
        .with("path", path.display().to_string())
        .with("damage", damage.0)
}

/// What stands at a place of it is not what was written, and it is not passed over silently.
pub(crate) fn damaged_at(path: &Path, damage: Damage, offset: u64) -> Error {
    damaged(path, damage).with("offset", offset).with(
        "advice",
        "put the file back from a copy; or stop what has the folder open, move the file away, and start it again: what is \
         missing then shows as a gap",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_where_and_what_to_do() {
        let table = [
            (io::ErrorKind::StorageFull, "free some space"),
            (io::ErrorKind::QuotaExceeded, "free some space"),
            (io::ErrorKind::ReadOnlyFilesystem, "remount it writable"),
            (io::ErrorKind::PermissionDenied, "let the user"),
            (io::ErrorKind::NotADirectory, "another folder"),
        ];
        for (kind, advice) in table {
            let error = failed("write it", Path::new("/logs/x"), kind.into());
            assert!(error.to_string().starts_with("cannot write it (path: /logs/x"), "{error}");
            assert!(error.context("advice").is_some_and(|own| own.contains(advice)), "{error}");
        }
        assert_eq!(failed("read it", Path::new("x"), io::ErrorKind::Other.into()).context("advice"), None);
    }
}
