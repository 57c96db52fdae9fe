//! Things that are costly to make, and used by one thread at a time.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use paas_core::{Error, Result};

/// Kept for whoever comes next.
const KEPT: usize = 4;

/// A pool of them.
pub(super) struct Pool<T> {
    free: Mutex<Vec<T>>,
    make: fn() -> std::io::Result<T>,
}

impl<T> Pool<T> {
    pub(super) fn new(make: fn() -> std::io::Result<T>) -> Self {
        Self { free: Mutex::default(), make }
    }

    /// Works with one of them, a new one if all are in use.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        let lock = || self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let free = lock().pop();
        let own = free.map_or_else(self.make, Ok);
        let mut own =
            own.map_err(|cause| Error::unavailable("no memory to compress lines").with_source(cause))?;
        let outcome = work(&mut own);
        let mut free = lock();
        if free.len() < KEPT {
            free.push(own);
        }
        outcome
    }
}

impl<T> fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pool")
    }
}
