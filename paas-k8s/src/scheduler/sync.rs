//! How the cluster's objects come into the cache.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ObjectMeta, PartialObjectMeta};
use paas_core::Result;

use super::cache::Cache;
use super::part::{Kind, Part};
use super::pod::Instance;
use super::warning::{Warnings, Words};
use crate::Connection;
use crate::follow::{Follower, Shelf, version};
use crate::watch::{Metadata, Objects};

struct Instances(Arc<Cache>);
struct Parts(Arc<Cache>, Kind);
struct Tasks(Arc<Cache>);

impl Shelf<Pod> for Instances {
    fn put(&self, pod: Pod) {
        match Instance::of(&pod) {
            Some(instance) => self.0.put_instance(instance),
            // Another has taken its place.
            None => self.remove(pod.metadata.uid.as_deref().unwrap_or_default(), version(&pod.metadata)),
        }
    }

    fn remove(&self, uid: &str, version: u64) {
        self.0.remove_instance(uid, version);
    }

    fn keep(&self, uids: &HashSet<String>, version: u64) {
        self.0.keep_instances(uids, version);
    }

    fn reset(&self) {
        self.0.feed.reset();
    }
}

impl Cache {
    /// What an object is now; `None` where it is no workload's, and may have been one's before.
    pub(super) fn take(&self, meta: &ObjectMeta, part: Option<Part>) {
        match part {
            Some(part) => self.put_part(part),
            None => self.remove_part(meta.uid.as_deref().unwrap_or_default(), version(meta)),
        }
    }
}

impl<K> Shelf<PartialObjectMeta<K>> for Parts {
    fn put(&self, object: PartialObjectMeta<K>) {
        self.0.take(&object.metadata, Part::of(self.1, &object.metadata));
    }

    fn remove(&self, uid: &str, version: u64) {
        self.0.remove_part(uid, version);
    }

    fn keep(&self, uids: &HashSet<String>, version: u64) {
        self.0.keep_parts(self.1, uids, version);
    }

    fn reset(&self) {
        self.0.feed.reset();
    }
}

impl Shelf<Job> for Tasks {
    fn put(&self, job: Job) {
        self.0.take(&job.metadata, Part::of_task(&job));
    }

    fn remove(&self, uid: &str, version: u64) {
        self.0.remove_part(uid, version);
    }

    fn keep(&self, uids: &HashSet<String>, version: u64) {
        self.0.keep_parts(Kind::Job, uids, version);
    }

    fn reset(&self) {
        self.0.feed.reset();
    }
}

/// Follows all that workloads are made of. Instances come after what owns them: without an owner they count as stopping.
/// What is warned of comes last: it is kept only where it is about something known.
pub(super) async fn follow(connection: &Connection, cache: &Arc<Cache>) -> Result<Vec<Follower>> {
    let selector = connection.selector();
    let parts = |kind| Parts(Arc::clone(cache), kind);
    let deployments = Metadata(connection.cluster::<Deployment>());
    let sets = Metadata(connection.cluster::<StatefulSet>());
    let budgets = Metadata(connection.cluster::<PodDisruptionBudget>());
    let traffic = Metadata(connection.cluster::<NetworkPolicy>());
    let jobs = Objects(connection.cluster::<Job>());
    let pods = Objects(connection.cluster::<Pod>());
    Ok(vec![
        Follower::start(budgets, parts(Kind::Budget), &selector).await?,
        Follower::start(traffic, parts(Kind::Traffic), &selector).await?,
        Follower::start(deployments, parts(Kind::Deployment), &selector).await?,
        Follower::start(sets, parts(Kind::StatefulSet), &selector).await?,
        Follower::start(jobs, Tasks(Arc::clone(cache)), &selector).await?,
        Follower::start(pods, Instances(Arc::clone(cache)), &selector).await?,
        Follower::start(Warnings(connection.cluster()), Words(Arc::clone(cache)), "").await?,
    ])
}
