//! What the folder of a tenant's life has, by the names in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use paas_core::Result;

use super::keep::{self, Kept};
use crate::disk::Disk;
use crate::error::failed;

/// The files of a life, by the numbers of their segments.
#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) kept: Kept,
    pub(super) sealed: BTreeMap<u64, PathBuf>,
    pub(super) open: BTreeMap<u64, PathBuf>,
    /// What counts no more: it was forgotten, or sealed, or begun and not finished.
    pub(super) stale: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn list(disk: &dyn Disk, folder: &Path) -> Result<Self> {
        let kept = keep::read(disk, folder)?;
        let names = disk.names(folder).map_err(|cause| failed("list segments", folder, cause))?;
        let mut own = Self { kept, ..Self::default() };
        for name in names {
            let path = folder.join(&name);
            match part(&name) {
                Some((number, "sealed")) if own.kept.has_forgotten(number) => own.stale.push(path),
                Some((number, "sealed")) => drop(own.sealed.insert(number, path)),
                Some((number, "open")) => drop(own.open.insert(number, path)),
                Some((_, "new")) => own.stale.push(path),
                _ => {}
            }
        }
        let (last, sealed) = (own.kept.last, &own.sealed);
        let old: Vec<u64> =
            own.open.keys().copied().filter(|open| *open <= last || sealed.contains_key(open)).collect();
        own.stale.extend(old.iter().filter_map(|number| own.open.remove(number)));
        Ok(own)
    }

    /// The number of the last segment that there is, or was.
    pub(super) fn last(&self) -> u64 {
        self.sealed.keys().chain(self.open.keys()).copied().max().unwrap_or(0).max(self.kept.last)
    }
}

/// The number of a segment, and what its file is.
pub(super) fn part(name: &str) -> Option<(u64, &str)> {
    let (number, kind) = name.split_once('.')?;
    Some((number.parse().ok()?, kind))
}
