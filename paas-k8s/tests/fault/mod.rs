//! Whole platforms on a real cluster, with trouble between the two.

mod death;
mod late;
mod pod;
mod refusal;
mod server;
mod watch;

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use paas_core::model::{AppSpec, Operation, OperationState};
use paas_core::platform::OperationHandle;
use paas_core::{Error, ErrorKind, Result};
use paas_testkit::Proof;
use tokio::time::Instant;

use crate::fixture::FULL;
use crate::fixture::rooms::{broken, client};
use crate::platform::{SOON, World, long, named, until};
use crate::proxy::Proxy;

pub(crate) fn trials() -> impl Iterator<Item = (String, Proof)> {
    let is_full = std::env::var_os(FULL).is_some();
    let longer = if is_full { [death::LONG_CASES, watch::LONG_CASES].concat() } else { Vec::new() };
    let always = [death::CASES, late::CASES, pod::CASES, refusal::CASES, server::CASES, watch::CASES];
    named("fault", always.concat()).chain(long("fault", longer))
}

/// The cases that take nodes away.
pub(crate) fn trials_with_fake_nodes() -> impl Iterator<Item = (String, Proof)> {
    named("nodes", pod::ON_FAKE_NODES.to_vec())
}

/// Between two times that somebody asks.
const PAUSE: Duration = Duration::from_millis(100);

/// A platform behind a proxy.
struct Stage {
    proxy: Proxy,
    world: World,
}

impl Stage {
    async fn new() -> Result<Self> {
        let proxy = Proxy::start(client().await?).await;
        let world = World::by(Some(proxy.kubeconfig().path())).await?;
        Ok(Self { proxy, world })
    }

    /// Begins a deploy, as somebody does who tries again where the platform could not be reached.
    async fn begin(&self, app: &AppSpec) -> Result<OperationHandle> {
        patiently(async || self.world.platform.deploy(&self.world.user, app).await).await
    }

    /// Deploys, and waits until it has succeeded.
    async fn deploy(&self, app: &AppSpec) -> Result<Operation> {
        let operation = self.begin(app).await?;
        finish(&operation).await
    }

    /// Nothing is there twice: what runs the only service, and what leads to it.
    async fn expect_nothing_doubled(&self, replicas: i32) -> Result<()> {
        // The cluster counts a moment after pods have become ready.
        until("as many instances as asked for, all ready", || async {
            let (deployment, _) = self.world.only::<Deployment>().await?;
            let status = deployment.status.unwrap_or_default();
            let all = (status.replicas, status.ready_replicas) == (Some(replicas), Some(replicas));
            Ok(all.then_some(()))
        })
        .await?;
        let sets: Api<ReplicaSet> = Api::all(self.world.client.clone());
        let sets = sets.list(&self.world.labels()).await.map_err(broken)?.items;
        let running =
            sets.iter().filter(|set| set.spec.as_ref().is_some_and(|spec| spec.replicas != Some(0)));
        assert_eq!(running.count(), 1);
        let services: Api<Service> = Api::all(self.world.client.clone());
        assert_eq!(services.list(&self.world.labels()).await.map_err(broken)?.items.len(), 3);
        Ok(())
    }

    async fn end(self) -> Result<()> {
        self.proxy.set([]);
        self.world.end().await
    }
}

/// Asks again while the platform cannot be reached: what fails for good is told at once.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let until = Instant::now() + SOON;
    loop {
        match ask().await {
            Err(error) if error.is_retryable() && Instant::now() < until => tokio::time::sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

async fn finish(operation: &OperationHandle) -> Result<Operation> {
    let ended = patiently(async || operation.finished_within(SOON).await).await?;
    if ended.state == OperationState::Succeeded {
        return Ok(ended);
    }
    Err(Error::new(ErrorKind::Failed, "it has not succeeded").with("state", format!("{:?}", ended.state)))
}
