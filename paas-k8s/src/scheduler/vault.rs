//! Where the values of secrets are that pods read, followed by namespace: whoever may follow secrets everywhere may read all
//! that a cluster has. An environment's are followed only while workloads there read some.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use paas_core::Result;
use tokio::sync::OnceCell;

use super::KubeScheduler;
use super::cache::Cache;
use super::part::{Kind, Part};
use crate::follow::{Follower, Shelf};
use crate::label;
use crate::watch::Metadata;

/// How many namespaces are begun with at once.
const AT_ONCE: usize = 16;

/// What is followed, by namespace.
#[derive(Debug, Default)]
pub(super) struct Vaults(Mutex<HashMap<String, Arc<OnceCell<Follower>>>>);

impl Vaults {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Arc<OnceCell<Follower>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether those that were begun with still follow.
    pub(super) fn check(&self) -> Result<()> {
        Follower::check(self.all().values().filter_map(|vault| vault.get()))
    }

    /// Follows none any more where there is none, and nobody to read one.
    fn leave(&self, cache: &Cache) {
        // Looked at under the lock: whoever has made one since asks for it to be followed after that.
        let mut all = self.all();
        let wanted = cache.vaults();
        all.retain(|namespace, _| wanted.contains(namespace));
    }
}

impl KubeScheduler {
    /// Knows what there is in a namespace, and from now on what becomes of it.
    pub(super) async fn follow_secrets(&self, namespace: &str) -> Result<()> {
        let vault = Arc::clone(self.vaults.all().entry(namespace.to_owned()).or_default());
        let begin = || {
            // No values come with it.
            let source = Metadata(self.connection.within::<Secret>(namespace));
            let (cache, vaults) = (Arc::clone(&self.cache), Arc::downgrade(&self.vaults));
            let shelf = Secrets { cache, vaults, namespace: namespace.to_owned() };
            let selector = format!("{},{}", self.connection.selector(), label::SERVICE);
            async move { Follower::start(source, shelf, &selector).await }
        };
        vault.get_or_try_init(begin).await.map(drop)
    }

    /// Follows those of all namespaces where there are some, or workloads read some. Where that cannot be begun yet, a
    /// workload's next write begins it.
    pub(super) async fn follow_all_secrets(&self) {
        let begun = stream::iter(self.cache.vaults()).map(|namespace| async move {
            if let Err(error) = self.follow_secrets(&namespace).await {
                tracing::warn!(namespace, ?error, "cannot follow what holds the values of secrets");
            }
        });
        begun.buffer_unordered(AT_ONCE).collect::<()>().await;
    }
}

struct Secrets {
    cache: Arc<Cache>,
    vaults: Weak<Vaults>,
    namespace: String,
}

impl Secrets {
    /// The last one may be gone, and with it what there was to follow.
    fn leave(&self) {
        if let Some(vaults) = self.vaults.upgrade() {
            vaults.leave(&self.cache);
        }
    }
}

impl Shelf<PartialObjectMeta<Secret>> for Secrets {
    fn put(&self, object: PartialObjectMeta<Secret>) {
        self.cache.take(&object.metadata, Part::of(Kind::Secret, &object.metadata));
    }

    fn remove(&self, uid: &str, version: u64) {
        self.cache.remove_part(uid, version);
        self.leave();
    }

    fn keep(&self, uids: &HashSet<String>, version: u64) {
        self.cache.keep_secrets(&self.namespace, uids, version);
        self.leave();
    }

    fn reset(&self) {
        self.cache.feed.reset();
    }
}
