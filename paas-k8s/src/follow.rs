//! Keeps something as the cluster is: one list and one watch for each kind of object, of ours only.

use std::collections::{HashSet, VecDeque};

use paas_core::{Error, Result};
use tokio::task::JoinHandle;

use crate::error::failed;
use crate::watch::{self, Change, Source, Watch};

/// Where objects of a kind are kept.
pub(crate) trait Shelf<O>: Send + Sync + 'static {
    /// It was made or changed; it may be older than what is known.
    fn put(&self, object: O);

    /// It is gone for good.
    fn remove(&self, uid: &str);

    /// A list is complete: there is nothing but these, and what is newer than the list.
    fn keep(&self, uids: &HashSet<String>, version: u64);

    /// Changes may have been missed, and are caught up with.
    fn reset(&self);
}

/// The uids deleted last: the answer to a write may come after the end of what was written was told.
#[derive(Debug, Default)]
pub(crate) struct Dead {
    order: VecDeque<String>,
    uids: HashSet<String>,
}

impl Dead {
    /// As many as may end while one answer is on its way.
    const MOST: usize = 4_096;

    pub(crate) fn add(&mut self, uid: &str) {
        if !self.uids.insert(uid.to_owned()) {
            return;
        }
        self.order.push_back(uid.to_owned());
        if self.order.len() > Self::MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }

    pub(crate) fn has(&self, uid: &str) -> bool {
        self.uids.contains(uid)
    }
}

/// A task that follows a kind of object; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Follower(JoinHandle<()>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follower {
    /// Takes in all that there is, then follows it.
    pub(crate) async fn start<S: Source>(
        source: S,
        shelf: impl Shelf<S::Object>,
        selector: &str,
    ) -> Result<Self> {
        let version = fill(&source, &shelf, selector).await.map_err(|cause| failed(cause, "list"))?;
        let watch = Watch::after(source, selector.to_owned(), version);
        let selector = selector.to_owned();
        let task = tokio::spawn(async move { keep(watch, shelf, &selector).await });
        Ok(Self(task))
    }

    /// Whether these still follow: else what is known is what was, for ever.
    pub(crate) fn check(all: &[Self]) -> Result<()> {
        if all.iter().any(|own| own.0.is_finished()) {
            return Err(Error::unavailable("the cluster is not followed any more: open the backend again"));
        }
        Ok(())
    }
}

async fn keep<S: Source>(mut watch: Watch<S>, shelf: impl Shelf<S::Object>, selector: &str) {
    loop {
        match watch.next().await {
            Change::Put(object) => shelf.put(object),
            Change::Deleted(object) => shelf.remove(S::meta(&object).uid.as_deref().unwrap_or_default()),
            Change::Reset => match fill(watch.source(), &shelf, selector).await {
                Ok(version) => {
                    watch.resume(version);
                    shelf.reset();
                }
                Err(error) => {
                    tracing::debug!(%error, "the objects cannot be listed again yet");
                    watch.forget().await;
                }
            },
        }
    }
}

/// Takes in all that there is, and drops what there is no more.
async fn fill<S: Source>(source: &S, shelf: &impl Shelf<S::Object>, selector: &str) -> kube::Result<String> {
    let mut uids = HashSet::new();
    let version = watch::list(source, selector, |object| {
        uids.extend(S::meta(&object).uid.clone());
        shelf.put(object);
    })
    .await?;
    shelf.keep(&uids, version.parse().unwrap_or(0));
    Ok(version)
}
