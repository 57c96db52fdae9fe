//! Gives log lines from where they are born.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{LogItem, LogSelector, Scope};

/// Reads the output of instances, before it is stored anywhere.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LogSource: Backend {
    /// The lines of a selection, each origin's in order, without loss or doubling: what cannot be given any more
    /// shows as a [`LogItem::Gap`]. Instances that start later are followed too. With `follow`, the stream ends only
    /// with the backend or the reader; else after the last line that was there.
    ///
    /// A line is never cut between two batches unless it is longer than 1 MiB.
    ///
    /// # Errors
    /// `Unavailable` where nothing can be read now.
    async fn lines(
        &self,
        scope: &Scope,
        selector: LogSelector,
    ) -> Result<BoxStream<'static, Result<LogItem>>>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: LogSource + ?Sized> LogSource for Guarded<L> {
    async fn lines(
        &self,
        scope: &Scope,
        selector: LogSelector,
    ) -> Result<BoxStream<'static, Result<LogItem>>> {
        let call = call!(self, scope, "log_source", "lines", ReadLogs, selector.resource.clone(), idempotent);
        self.guard.run(call, || self.inner.lines(scope, selector.clone())).await
    }
}
