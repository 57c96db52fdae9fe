//! What is wrong with a file, told to people.

use std::path::Path;

use paas_core::Error;
pub(crate) use paas_core::backend::file_error as failed;

use crate::codec::Damage;

/// Its content is not what was written.
pub(crate) fn damaged(path: &Path, damage: Damage) -> Error {
    Error::internal("a file of logs is damaged; a log store can be verified and repaired once it is stopped")
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
