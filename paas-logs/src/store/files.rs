//! The files that searches read, some of which stay open for the next, and blocks of them.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use paas_core::Result;

use super::cache::Cache;
use crate::disk::{Disk, DiskFile};
use crate::error::failed;

/// So many stay open.
const OPEN: usize = 128;

/// Files that are open.
#[derive(Debug)]
pub(super) struct Files {
    disk: Arc<dyn Disk>,
    open: Mutex<HashMap<Arc<Path>, Arc<dyn DiskFile>>>,
    pub(super) cache: Cache,
}

impl Files {
    pub(super) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default(), cache: Cache::default() }
    }

    pub(super) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Removes a file, and its room is free once no search reads it any more.
    pub(super) fn remove(&self, path: &Path) -> Result<()> {
        self.forget(|own| own == path);
        self.disk.remove(path).map_err(|cause| failed("remove a file", path, cause))
    }

    /// Removes a folder with all its files.
    pub(super) fn remove_folder(&self, folder: &Path) -> Result<()> {
        self.forget(|own| own.starts_with(folder));
        self.disk.remove_folder(folder).map_err(|cause| failed("remove a folder", folder, cause))
    }

    /// Keeps nothing.
    pub(super) fn forget_all(&self) {
        self.forget(|_| true);
    }

    fn forget(&self, is_gone: impl Fn(&Path) -> bool) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).retain(|path, _| !is_gone(path));
        self.cache.forget(is_gone);
    }

    /// Opens a file; `None` where it is gone.
    pub(super) fn open(&self, path: &Arc<Path>) -> Result<Option<Arc<dyn DiskFile>>> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = lock().get(path) {
            return Ok(Some(Arc::clone(file)));
        }
        let file: Arc<dyn DiskFile> = match self.disk.open(path) {
            Ok(file) => file.into(),
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(failed("read a segment", path, cause)),
        };
        let mut open = lock();
        if open.len() >= OPEN {
            // Which one is left to chance: those that are read again and again come back.
            let any = open.keys().next().cloned();
            any.into_iter().for_each(|path| drop(open.remove(&path)));
        }
        open.insert(Arc::clone(path), Arc::clone(&file));
        Ok(Some(file))
    }
}
