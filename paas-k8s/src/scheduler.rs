//! Runs workloads as pods.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use paas_core::Result;
use paas_core::backend::Fence;
use paas_core::model::{Digest, InstanceId, Scope, Workload, WorkloadKey, WorkloadStatus};
use paas_core::port::{Backend, Hints, Scheduler, SchedulerCapabilities, SecretStore, Selector};
use serde_json::Value;

use crate::Connection;
use crate::follow::Follower;

mod cache;
mod exec;
mod manifest;
mod output;
mod part;
mod pod;
mod secret;
mod sync;
mod vault;
mod warning;
mod write;

pub(crate) use output::{Output, Outputs, Writer};

/// What a company decides about its pods.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// How long an instance serves on after it was asked to end, so that everybody who routes to it has learned of it.
    /// Rounded up to whole seconds; it comes on top of the service's own grace. 10 seconds unless said otherwise: a busy
    /// cluster takes some to tell all of its nodes.
    pub drain: Duration,
    /// The names of the Secrets with which images are pulled, of the type `kubernetes.io/dockerconfigjson`. A pod reads them
    /// in its own namespace, so whoever runs the platform puts them into that of each environment
    /// ([`namespace`](crate::namespace)); the platform neither makes nor reads them. One that is missing keeps no pod from
    /// starting whose image is there or free for everybody.
    pub pull_secrets: Vec<String>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self { drain: Duration::from_secs(10), pull_secrets: Vec::new() }
    }
}

/// A scheduler for images on a cluster.
///
/// A slot of a service is a Deployment, or a StatefulSet where it has volumes; a task is a Job. What it tells comes from
/// watches of our own objects, so reading it costs no call; a write is a server-side apply with one field manager, on
/// condition of the version last observed. The cluster rolls a changed template by itself, also while the platform is
/// away. Namespaces come from [`KubeTenancy`](crate::KubeTenancy).
#[derive(Debug)]
pub struct KubeScheduler {
    connection: Connection,
    secrets: Arc<dyn SecretStore>,
    config: SchedulerConfig,
    cache: Arc<cache::Cache>,
    fence: Fence,
    followers: Vec<Follower>,
    vaults: Arc<vault::Vaults>,
}

impl KubeScheduler {
    /// Lists what is there and begins to watch it.
    ///
    /// # Errors
    /// `Unavailable` where the API server cannot be reached, `Denied` where it does not let us list and watch.
    pub async fn open(
        connection: Connection,
        secrets: Arc<dyn SecretStore>,
        config: SchedulerConfig,
    ) -> Result<Self> {
        let cache = Arc::new(cache::Cache::default());
        let followers = sync::follow(&connection, &cache).await?;
        let (fence, vaults) = (Fence::default(), Arc::default());
        Ok(Self { connection, secrets, config, cache, fence, followers, vaults })
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }
}

#[async_trait]
impl Backend for KubeScheduler {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self) -> Result<()> {
        Follower::check(&self.followers)?;
        self.vaults.check()?;
        self.connection.check().await
    }
}

/// The workload and the instance that a pod of a platform is.
pub(crate) fn instance(pod: &Pod) -> Option<(WorkloadKey, InstanceId)> {
    pod::Instance::of(pod).map(|instance| (instance.key, instance.status.id))
}

/// The objects of a workload that nothing runs yet.
pub(crate) struct Rendered {
    /// What runs it.
    pub(crate) owner: Value,
    /// What stands beside that.
    pub(crate) companions: Vec<Value>,
    /// The name of the object that holds the values of its secrets.
    pub(crate) secret: Option<String>,
}

/// What a workload comes to that was not there before.
pub(crate) fn render(workload: &Workload, platform: &str, config: &SchedulerConfig) -> Result<Rendered> {
    let secret = secret::name(workload);
    let context = manifest::Context { platform, config, secret: secret.as_deref(), known: None };
    let owner = manifest::owner(workload, &context)?;
    let beside = manifest::kind(workload).companions().iter();
    let companions = beside.map(|kind| manifest::companion(*kind, &workload.key, platform).0).collect();
    Ok(Rendered { owner, companions, secret })
}

/// What a cluster can do.
pub(crate) fn capabilities() -> SchedulerCapabilities {
    let mut capabilities = SchedulerCapabilities::new(&["image"]);
    capabilities.volumes = true;
    capabilities.fenced = true;
    capabilities.limits = true;
    capabilities.native_rolling = true;
    capabilities
}

#[async_trait]
impl Scheduler for KubeScheduler {
    fn capabilities(&self) -> SchedulerCapabilities {
        capabilities()
    }

    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        self.fence.admit(scope)?;
        capabilities().admit(workload)?;
        self.write_companions(workload, scope.epoch()).await?;
        let secret = self.write_secret(scope, workload).await?;
        let own = self.cache.instances(&workload.key).into_iter();
        self.retire(own.filter(|instance| workload.retire.contains(&instance.status.id))).await?;
        // Others were asked in between: somebody else may lead by now.
        self.fence.admit(scope)?;
        self.write(workload, scope.epoch(), secret.as_deref()).await?;
        Ok(workload.digest())
    }

    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        self.fence.see(scope);
        Ok(self.cache.list(&selector.resource()))
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.fence.see(scope);
        let hints = self.cache.feed.hints(scope);
        // Whoever begins to lead has to know what there is.
        self.follow_all_secrets().await;
        Ok(hints)
    }

    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        self.fence.admit(scope)?;
        // Nobody may read some any more, and yet there may be some.
        self.follow_secrets(&self.namespace(key)).await?;
        self.delete(key, scope.epoch()).await
    }
}
