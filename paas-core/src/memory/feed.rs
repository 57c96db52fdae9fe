//! Tells watchers of changes: bounded, and a slow reader is told so.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::model::{Resource, Scope};
use crate::port::{Hint, Hints};

/// A bounded broadcast. Its streams end when it is dropped.
#[derive(Debug)]
pub(super) struct Feed<T>(broadcast::Sender<T>);

impl<T: Clone + Send + 'static> Feed<T> {
    /// Keeps `capacity` items for a reader that is behind.
    pub(super) fn new(capacity: usize) -> Self {
        Self(broadcast::Sender::new(capacity.max(1)))
    }

    /// Tells everybody who watches now.
    pub(super) fn send(&self, item: T) {
        // Without a watcher there is nobody to tell.
        let _ = self.0.send(item);
    }

    /// What is sent from now on; `missed` stands for what a slow reader can have no more.
    pub(super) fn watch(&self, missed: fn() -> T) -> BoxStream<'static, T> {
        stream::unfold(self.0.subscribe(), move |mut receiver| async move {
            match receiver.recv().await {
                Ok(item) => Some((item, receiver)),
                Err(RecvError::Lagged(_)) => Some((missed(), receiver)),
                Err(RecvError::Closed) => None,
            }
        })
        .boxed()
    }
}

/// A feed of hints, each with what it is about.
pub(super) type HintFeed = Feed<(Resource, Hint)>;

/// The hints within a scope; a missed one shows in every scope.
pub(super) fn hints(feed: &HintFeed, scope: &Scope) -> Hints {
    let own = scope.resource().clone();
    feed.watch(|| (Resource::Platform, Hint::Reset))
        .filter_map(move |(about, hint)| {
            let told = hint == Hint::Reset || own.contains(&about);
            std::future::ready(told.then_some(hint))
        })
        .boxed()
}
