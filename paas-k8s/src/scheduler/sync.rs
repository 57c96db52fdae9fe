//! Keeps the cache as the cluster is: one list and one watch for each kind of object, of ours only.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use paas_core::Result;
use tokio::task::AbortHandle;

use super::cache::Cache;
use super::owner::{Kind, Owner};
use super::pod::Instance;
use crate::Connection;
use crate::error::failed;
use crate::watch::{self, Change, Metadata, Objects, Source, Watch};

/// The tasks that watch; dropped, they end.
#[derive(Debug)]
pub(super) struct Sync(Vec<AbortHandle>);

impl Drop for Sync {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// How a kind of object goes into the cache.
trait Shelf<O>: Send + std::marker::Sync + 'static {
    fn put(&self, cache: &Cache, object: O);
    fn keep(&self, cache: &Cache, uids: &HashSet<String>, version: u64);
}

struct Instances;
struct Owners(Kind);

impl Shelf<Pod> for Instances {
    fn put(&self, cache: &Cache, pod: Pod) {
        match Instance::of(&pod) {
            Some(instance) => cache.put_instance(instance),
            // Another has taken its place.
            None => cache.remove(pod.metadata.uid.as_deref().unwrap_or_default()),
        }
    }

    fn keep(&self, cache: &Cache, uids: &HashSet<String>, version: u64) {
        cache.keep_instances(uids, version);
    }
}

impl<K> Shelf<kube::api::PartialObjectMeta<K>> for Owners {
    fn put(&self, cache: &Cache, object: kube::api::PartialObjectMeta<K>) {
        if let Some(owner) = Owner::of(self.0, &object.metadata) {
            cache.put_owner(owner);
        }
    }

    fn keep(&self, cache: &Cache, uids: &HashSet<String>, version: u64) {
        cache.keep_owners(self.0, uids, version);
    }
}

impl Sync {
    /// Lists everything once, then watches. Instances come after what owns them: without an owner they count as stopping.
    pub(super) async fn start(connection: &Connection, cache: &Arc<Cache>) -> Result<Self> {
        let selector = connection.selector();
        let mut sync = Self(Vec::new());
        let deployments = Metadata(connection.all::<Deployment>());
        sync.follow(deployments, Owners(Kind::Deployment), &selector, cache).await?;
        let sets = Metadata(connection.all::<StatefulSet>());
        sync.follow(sets, Owners(Kind::StatefulSet), &selector, cache).await?;
        sync.follow(Metadata(connection.all::<Job>()), Owners(Kind::Job), &selector, cache).await?;
        sync.follow(Objects(connection.all::<Pod>()), Instances, &selector, cache).await?;
        Ok(sync)
    }

    async fn follow<S: Source>(
        &mut self,
        source: S,
        shelf: impl Shelf<S::Object>,
        selector: &str,
        cache: &Arc<Cache>,
    ) -> Result<()> {
        let version = fill(&source, &shelf, selector, cache).await.map_err(|cause| failed(cause, "list"))?;
        let watch = Watch::after(source, selector.to_owned(), version);
        let (selector, cache) = (selector.to_owned(), Arc::clone(cache));
        let task = tokio::spawn(async move { keep(watch, shelf, &selector, &cache).await });
        self.0.push(task.abort_handle());
        Ok(())
    }
}

async fn keep<S: Source>(mut watch: Watch<S>, shelf: impl Shelf<S::Object>, selector: &str, cache: &Cache) {
    loop {
        match watch.next().await {
            Change::Put(object) => shelf.put(cache, object),
            Change::Deleted(object) => cache.remove(S::meta(&object).uid.as_deref().unwrap_or_default()),
            Change::Reset => {
                match fill(watch.source(), &shelf, selector, cache).await {
                    Ok(version) => watch.resume(version),
                    Err(error) => {
                        tracing::debug!(%error, "the objects cannot be listed again yet");
                        watch.forget().await;
                        continue;
                    }
                }
                cache.feed.reset();
            }
        }
    }
}

/// Takes in all that there is, and drops what there is no more.
async fn fill<S: Source>(
    source: &S,
    shelf: &impl Shelf<S::Object>,
    selector: &str,
    cache: &Cache,
) -> kube::Result<String> {
    let mut uids = HashSet::new();
    let version = watch::list(source, selector, |object| {
        uids.extend(S::meta(&object).uid.clone());
        shelf.put(cache, object);
    })
    .await?;
    shelf.keep(cache, &uids, version.parse().unwrap_or(0));
    Ok(version)
}
