//! Tells people.

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Notification, Resource, Scope};

/// Brings notifications to where somebody reads them.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Notifier: Backend {
    /// Tells of an alert. `Ok` means that whoever brings it on has taken it, with all that it says. The same one, by its id, may be
    /// told again: after a crash nobody knows whether it was. Idempotent, as far as whoever takes it knows its id. Many may be told
    /// at once, and one that is not taken holds up no other. A call that is given up may have told it, and harms no later one.
    ///
    /// # Errors
    /// `Invalid` where it will never be taken; any other, and it is told again later, not before the error's `retry_after`, which is
    /// what whoever takes it asks for. `Timeout` where no answer comes within the backend's deadline, if it has one of its own.
    async fn notify(&self, scope: &Scope, notification: &Notification) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<N: Notifier + ?Sized> Notifier for Guarded<N> {
    async fn notify(&self, scope: &Scope, notification: &Notification) -> Result<()> {
        // It may hold lines of the scope's resource, and nobody else is told.
        let call = call!(self, scope, "notifier", "notify", ReadLogs, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.notify(scope, notification)).await
    }
}
