//! What is wrong with a file, told to people.

use std::path::Path;

use paas_core::Error;
pub(crate) use paas_core::backend::file_error as failed;

use crate::codec::Damage;

/// Its content is not what was written.
pub(crate) fn damaged(path: &Path, damage: Damage) -> Error {
    Error::internal("a file of the log store is damaged: stop the store, then verify and repair it")
        .with("path", path.display().to_string())
        .with("damage", damage.0)
}
