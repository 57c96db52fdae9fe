//! Where built things and running state are: outside the checkout.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Result;

/// The file that says what a folder was built from.
const STAMP: &str = "stamp";

/// The testbed's own folder: `PAAS_TESTBED`, or `paas-testbed` in the user's cache.
pub(crate) fn root() -> Result<PathBuf> {
    if let Some(own) = std::env::var_os("PAAS_TESTBED") {
        return Ok(own.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(Path::new(&std::env::var_os("HOME")?).join(".cache"));
    let cache = cache.or_else(home).ok_or("neither PAAS_TESTBED, XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("paas-testbed"))
}

/// A folder below the root, made where it is missing.
pub(crate) fn folder(name: &str) -> Result<PathBuf> {
    let folder = root()?.join(name);
    fs::create_dir_all(&folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    Ok(folder)
}

/// Builds something once: it is there once its folder has the stamp. A build that was interrupted starts over.
pub(crate) fn built(name: &str, stamp: &str, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = folder(name)?;
    if !has(name, stamp)? {
        build(&folder)?;
        fs::write(folder.join(STAMP), stamp)?;
    }
    Ok(folder)
}

/// Whether it is there.
pub(crate) fn has(name: &str, stamp: &str) -> Result<bool> {
    Ok(fs::read_to_string(root()?.join(name).join(STAMP)).is_ok_and(|known| known == stamp))
}
