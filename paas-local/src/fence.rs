//! Refuses leaders whose term is over.

use std::sync::atomic::{AtomicU64, Ordering};

use paas_core::model::{Epoch, Scope};
use paas_core::{Error, Result};

/// The highest term seen in any call. It is not stored: the data directory has one owner, so whoever held an earlier
/// term under an earlier owner is gone.
#[derive(Debug, Default)]
pub(crate) struct Fence(AtomicU64);

impl Fence {
    /// A read: raises the bar.
    pub(crate) fn see(&self, scope: &Scope) {
        if let Some(Epoch(epoch)) = scope.epoch() {
            self.0.fetch_max(epoch, Ordering::SeqCst);
        }
    }

    /// Refuses a write below the bar. Calls that no leader makes have no term and pass.
    pub(crate) fn admit(&self, own: Option<Epoch>) -> Result<()> {
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
