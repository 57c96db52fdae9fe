//! Tells people.

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Notification, Resource, Scope};

/// Brings notifications to where somebody reads them.
///
/// Unstable until two unlike backends pass its suite.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Notifier: Backend {
    /// Tells of an alert. `Ok` means that whoever brings it on has taken it. The same one, by its id, may be told again: after a
    /// crash nobody knows whether it was. Idempotent, as far as whoever takes it knows its id.
    ///
    /// # Errors
    /// `Invalid` where it will never be taken; any other, and it is told again later.
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
