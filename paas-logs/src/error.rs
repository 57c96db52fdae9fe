//! What is wrong with a file, told to people.

use std::io;
use std::path::Path;

use paas_core::Error;

use crate::codec::Damage;

/// It cannot be read or written.
pub(crate) fn failed(what: &str, path: &Path, cause: io::Error) -> Error {
    Error::unavailable(format!("cannot {what}")).with("path", path.display().to_string()).with_source(cause)
}

/// Its content is not what was written.
pub(crate) fn damaged(path: &Path, damage: Damage) -> Error {
    Error::internal("a file of the log store is damaged")
        .with("path", path.display().to_string())
        .with("damage", damage.0)
}
