//! Tells watchers of changes: bounded, and a slow reader is told so.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tokio::sync::broadcast::{self, error::RecvError};

use crate::model::{AppId, Resource, Scope};
use crate::port::{Hint, Hints};

/// A bounded broadcast. Its streams end when it is dropped.
#[derive(Debug)]
pub struct Feed<T>(broadcast::Sender<T>);

impl<T: Clone + Send + 'static> Feed<T> {
    /// Keeps `capacity` items (at least one) for a reader that is behind.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(broadcast::Sender::new(capacity.max(1)))
    }

    /// Tells everybody who watches now.
    pub fn send(&self, item: T) {
        // Without a watcher there is nobody to tell.
        let _ = self.0.send(item);
    }

    /// What is sent from now on; `missed` stands for what a slow reader can have no more.
    pub fn watch(&self, missed: fn() -> T) -> BoxStream<'static, T> {
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
#[derive(Debug)]
pub struct HintFeed(Feed<(Resource, Hint)>);

impl HintFeed {
    /// Keeps `capacity` hints (at least one) for a reader that is behind.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self(Feed::new(capacity))
    }

    /// Tells that something of an app changed.
    pub fn tell(&self, about: Resource, app: &AppId) {
        self.0.send((about, Hint::App(app.clone())));
    }

    /// Tells that anything may have changed.
    pub fn reset(&self) {
        self.0.send((Resource::Platform, Hint::Reset));
    }

    /// The hints within a scope from now on; a missed one shows in every scope.
    #[must_use]
    pub fn hints(&self, scope: &Scope) -> Hints {
        let own = scope.resource().clone();
        self.all()
            .filter_map(move |(about, hint)| {
                let told = hint == Hint::Reset || own.contains(&about);
                std::future::ready(told.then_some(hint))
            })
            .boxed()
    }

    /// Every hint from now on, for the backend itself.
    #[must_use]
    pub fn watch_all(&self) -> Hints {
        self.all().map(|(_, hint)| hint).boxed()
    }

    fn all(&self) -> BoxStream<'static, (Resource, Hint)> {
        self.0.watch(|| (Resource::Platform, Hint::Reset))
    }
}
