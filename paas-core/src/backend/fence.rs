//! Refuses leaders whose term is over.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Epoch, Scope};
use crate::{Error, Result};

/// The highest term seen in any call. It is not stored: whoever has the backend to itself has outlived the terms of
/// those who had it before.
#[derive(Debug, Default)]
pub struct Fence(AtomicU64);

impl Fence {
    /// A read: raises the bar.
    pub fn see(&self, scope: &Scope) {
        if let Some(Epoch(epoch)) = scope.epoch() {
            self.0.fetch_max(epoch, Ordering::SeqCst);
        }
    }

    /// A write: raises the bar, or is refused below it. Calls that no leader makes have no term and pass.
    ///
    /// # Errors
    /// `Conflict` where a later term has been seen.
    pub fn admit(&self, scope: &Scope) -> Result<()> {
        self.admit_epoch(scope.epoch())
    }

    /// As [`Fence::admit`], where only the term is left of the scope.
    ///
    /// # Errors
    /// `Conflict` where a later term has been seen.
    pub fn admit_epoch(&self, own: Option<Epoch>) -> Result<()> {
        let Some(own) = own else { return Ok(()) };
        let bar = Epoch(self.0.fetch_max(own.0, Ordering::SeqCst));
        if own < bar {
            return Err(Error::conflict("a leader of a later term has been seen")
                .with("epoch", own)
                .with("seen", bar));
        }
        Ok(())
    }
}
