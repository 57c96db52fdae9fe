//! Holds log lines between those who bring them and those who work on them.

use std::fmt::Debug;

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{LogBatch, LogGroup, LogItem, Resource, Scope};

/// Takes lines in, and gives all of them to each group of consumers, at least once.
///
/// Each group goes through the lines by itself, as fast as it can. One queue serves all tenants: whose a line is stands in its
/// origin.
///
/// Lines are kept until every group has committed them, and may go then; where there is no group, until their room is
/// needed. A queue has only so much room, and either refuses what does not fit or drops its oldest lines.
///
/// Lines may come in other batches than they were published in, but whole, each with its position, time and level.
///
/// Unstable until two unlike backends pass its suite.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LogQueue: Backend {
    /// Hands lines in. `Ok` means that all of them survive a crash and come to every group. Idempotent but for doubles: lines
    /// that are handed in again come again, and are told by origin and position.
    ///
    /// An origin's lines come to a group in the order in which they were handed in, one call after the other. Where a call
    /// failed or was given up, what comes again may also come after what is newer.
    ///
    /// # Errors
    /// Where it fails, some of the batches may be in the queue: hand all of them in again. `Throttled` where there is no room,
    /// with the time after which to try again; it does not wait until there is. `Invalid` where a batch is larger than the
    /// queue takes; each takes 1 MiB of lines.
    async fn publish(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()>;

    /// Begins to consume as one of a group. The group is there from its first subscription on, however many crashes come, and
    /// begins with the oldest line that is in the queue.
    ///
    /// Consumers of a group share its lines, or one has all of them while the others wait: an origin's lines come to one of
    /// them at a time. What a consumer did not commit comes to another once it is dropped.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn subscribe(&self, scope: &Scope, group: &LogGroup) -> Result<Box<dyn LogConsumer>>;

    /// Forgets a group that has no consumers: what only it has not committed may go. If it comes back it is a new one. Idempotent;
    /// a group that is not there is forgotten already.
    ///
    /// # Errors
    /// `Conflict` while it has a consumer.
    async fn remove(&self, scope: &Scope, group: &LogGroup) -> Result<()>;
}

/// One of a group, who takes lines from a [`LogQueue`]. Whoever drops it without a commit gives back what it took.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LogConsumer: Debug + Send {
    /// The next lines, once there are any: waits for as long as that takes. May be given up at any moment: what it would have
    /// given comes with the next call.
    ///
    /// What was dropped before the group committed it comes as a [`LogItem::Gap`] without an origin, in the place of what is
    /// missing, and is committed like lines.
    ///
    /// # Errors
    /// Nothing is lost where it fails: the next call tries again at the same place. `Internal` where what stands there is
    /// damaged, and the queue does not pass over it by itself.
    async fn next(&mut self) -> Result<LogItem>;

    /// Tells that the work on all that `next` gave so far is done. `Ok` means that none of it comes to the group again,
    /// whatever crashes, unless it was published twice. Idempotent.
    ///
    /// # Errors
    /// Where it fails, it may be committed or not: try again. `Conflict` where another of the group has these lines now, and
    /// they come to it.
    async fn commit(&mut self) -> Result<()>;
}

/// A consumer waits for as long as its queue is empty, so it is handed out as it is: neither timed out nor retried.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: LogQueue + ?Sized> LogQueue for Guarded<L> {
    async fn publish(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()> {
        let call = call!(self, scope, "log_queue", "publish", Administer, super::owner(batches), idempotent);
        self.guard.run(call, || self.inner.publish(scope, batches)).await
    }

    async fn subscribe(&self, scope: &Scope, group: &LogGroup) -> Result<Box<dyn LogConsumer>> {
        let call = call!(self, scope, "log_queue", "subscribe", ReadLogs, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.subscribe(scope, group)).await
    }

    async fn remove(&self, scope: &Scope, group: &LogGroup) -> Result<()> {
        let call = call!(self, scope, "log_queue", "remove", Administer, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.remove(scope, group)).await
    }
}
