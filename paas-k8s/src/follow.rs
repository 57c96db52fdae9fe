//! Keeps something as the cluster is: one list and one watch for each kind of object, of ours only.

use std::collections::HashSet;

use kube::api::ObjectMeta;
use paas_core::{Error, Result};
use tokio::task::JoinHandle;

use crate::error::failed;
use crate::watch::{self, Behind, Change, Source, Watch};

/// Where objects of a kind are kept.
pub(crate) trait Shelf<O>: Send + Sync + 'static {
    /// It was made or changed; it may be older than what is known.
    fn put(&self, object: O);

    /// As of this version it is gone, or is none of these any more: one whose label was taken off may get it back.
    fn remove(&self, uid: &str, version: u64);

    /// A list is complete: there is nothing but these, and what is newer than the list.
    fn keep(&self, uids: &HashSet<String>, version: u64);

    /// Changes may have been missed, and are caught up with.
    fn reset(&self);
}

/// A task that follows a kind of object; dropped, it ends.
#[derive(Debug)]
pub(crate) struct Follower {
    task: JoinHandle<()>,
    behind: Behind,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
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
        let (selector, behind) = (selector.to_owned(), watch.behind().clone());
        let task = tokio::spawn(async move { keep(watch, shelf, &selector).await });
        Ok(Self { task, behind })
    }

    /// Whether these still follow: else what is known is what was.
    ///
    /// # Errors
    /// Why one does not.
    pub(crate) fn check<'a>(all: impl IntoIterator<Item = &'a Self>) -> Result<()> {
        all.into_iter().try_for_each(|own| {
            if own.task.is_finished() {
                let ended = "the cluster is not followed any more: open the backend again";
                return Err(Error::unavailable(ended));
            }
            own.behind.check()
        })
    }
}

async fn keep<S: Source>(mut watch: Watch<S>, shelf: impl Shelf<S::Object>, selector: &str) {
    loop {
        match watch.next().await {
            Change::Put(object) => shelf.put(object),
            Change::Deleted(object) => {
                let meta = S::meta(&object);
                shelf.remove(meta.uid.as_deref().unwrap_or_default(), version(meta));
            }
            Change::Reset => match fill(watch.source(), &shelf, selector).await {
                Ok(version) => {
                    watch.resume(version);
                    shelf.reset();
                }
                Err(error) => {
                    tracing::debug!(%error, "the objects cannot be listed again yet");
                    watch.forget(error).await;
                }
            },
        }
    }
}

/// The version of an object as it was told of: where none is said, it is the last.
pub(crate) fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use paas_core::ErrorKind;
    use serde_json::json;

    use super::*;
    use crate::connection::tests::served;
    use crate::watch::Metadata;

    struct Nothing;

    impl<O> Shelf<O> for Nothing {
        fn put(&self, _: O) {}
        fn remove(&self, _: &str, _: u64) {}
        fn keep(&self, _: &HashSet<String>, _: u64) {}
        fn reset(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_watch_any_more_is_told_so() {
        let connection = served(|request| {
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                let refusal = json!({ "kind": "Status", "status": "Failure", "message": "no", "code": 403 });
                return (403, refusal);
            }
            let kind = json!({ "kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1" });
            let mut list = json!({ "metadata": { "resourceVersion": "7" }, "items": [] });
            list.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
            (200, list)
        });
        let source = Metadata(connection.within::<Secret>("room"));
        let follower = Follower::start(source, Nothing, "a=b").await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        Follower::check([&follower]).unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        let error = Follower::check([&follower]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(error.to_string().contains("apply the rules"), "{error}");
    }
}
