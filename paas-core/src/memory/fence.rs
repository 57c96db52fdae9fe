//! Refuses leaders whose term is over.

use crate::model::{Epoch, Scope};
use crate::{Error, Result};

/// The highest term seen in any call.
#[derive(Debug, Default)]
pub(super) struct Fence(Option<Epoch>);

impl Fence {
    /// A read: raises the bar.
    pub(super) fn see(&mut self, scope: &Scope) {
        self.0 = self.0.max(scope.epoch());
    }

    /// A write: raises the bar, or is refused below it. Calls that no leader makes have no term and pass.
    pub(super) fn admit(&mut self, scope: &Scope) -> Result<()> {
        self.see(scope);
        match (scope.epoch(), self.0) {
            (Some(own), Some(bar)) if own < bar => {
                Err(Error::conflict("a leader of a later term has been seen")
                    .with("epoch", own)
                    .with("seen", bar))
            }
            _ => Ok(()),
        }
    }
}
