//! Writes that reach the cluster late.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, PartialObjectMeta, Patch, PatchParams};
use kube::{Api, ResourceExt};
use paas_core::memory::MemorySecretStore;
use paas_core::model::{Epoch, Scope, Template, Workload, WorkloadKey};
use paas_core::port::Scheduler;
use paas_core::{ErrorKind, Result};
use paas_k8s::{Connection, ConnectionConfig, KubeScheduler, SchedulerConfig};
use paas_testkit::suite::scheduler::SchedulerFixture;
use paas_testkit::{Fixture, World};
use serde_json::json;

use crate::fixture::PLATFORM;
use crate::fixture::rooms::{broken, client};
use crate::fixture::scheduler::Schedulers;
use crate::platform::{Case, cases, until};
use crate::proxy::{Fault, Proxy, Rule, WATCHES, WRITES};

pub(super) const CASES: &[(&str, Case)] = cases![
    a_deployment_that_was_removed_is_not_made_by_a_late_write,
    a_task_that_was_removed_is_not_made_by_a_late_write,
    a_volumes_owner_that_was_removed_is_not_made_by_a_late_write,
    what_stands_beside_a_workload_is_not_made_by_a_late_write,
    a_leader_that_knows_of_no_other_is_refused_by_the_server,
];

async fn scheduler(proxy: Option<&Proxy>) -> Result<KubeScheduler> {
    let file = proxy.map(Proxy::kubeconfig);
    let mut config = ConnectionConfig::default().platform(PLATFORM);
    config.kubeconfig = file.as_ref().map(|file| file.path().to_owned());
    let connection = Connection::connect(config).await?;
    KubeScheduler::open(connection, Arc::new(MemorySecretStore::default()), SchedulerConfig::default()).await
}

/// Which objects of a kind there are of a workload.
async fn found<K>(key: &WorkloadKey) -> Result<Vec<PartialObjectMeta<K>>>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let all: Api<K> = Api::all(client().await?);
    let own = ListParams::default().labels(&format!("paas-sdk.dev/service={}", key.service));
    Ok(all.list_metadata(&own).await.map_err(broken)?.items)
}

/// Somebody opens a workload's pods to everybody, and the scheduler sees it.
async fn opened(scheduler: &KubeScheduler, world: &World, workload: &Workload) -> Result<()> {
    let policy = found::<NetworkPolicy>(&workload.key).await?.remove(0);
    let own: Api<NetworkPolicy> = Api::namespaced(client().await?, &policy.namespace().unwrap());
    let open = Patch::Merge(json!({ "spec": { "ingress": [{}] } }));
    own.patch(&policy.name_any(), &PatchParams::default(), &open).await.map_err(broken)?;
    let seen = || async {
        let status = scheduler.list(&world.scope(), &world.selector()).await?.pop();
        Ok(status.filter(|status| status.applied != Some(workload.digest())))
    };
    until("it is seen", seen).await.map(drop)
}

/// A leader's write of a kind is on its way for so long that the next leader has removed the workload meanwhile.
async fn comes_late<K>(kinds: &'static [&'static str], template: Template, is_opened: bool) -> Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let (fixture, world) = (Schedulers::default(), World::new());
    let proxy = Proxy::start(client().await?).await;
    let (late, leader) = (scheduler(Some(&proxy)).await?, scheduler(None).await?);
    let mut workload = world.workload(template, 1)?;
    fixture.prepare(&world, &workload).await?;
    let (scope, next) = (world.scope().in_epoch(Epoch(1)), world.scope().in_epoch(Epoch(2)));
    late.apply(&scope, &workload).await?;
    if is_opened {
        opened(&late, &world, &workload).await?;
    } else {
        workload.revision.0 += 1;
    }
    let known = || async { Ok(leader.list(&world.scope(), &world.selector()).await?.pop()) };
    until("the next leader knows of it", known).await?;
    proxy.set([Rule::new(WRITES, Fault::Hold).about(kinds).times(1)]);
    let (outcome, removed) = tokio::join!(late.apply(&scope, &workload), async {
        proxy.keeps().await;
        let removed = remove::<K>(&leader, &next, &workload.key).await;
        proxy.let_go();
        removed
    });
    removed?;
    let left = found::<K>(&workload.key).await?;
    assert!(left.is_empty(), "{:?}", left.iter().map(ResourceExt::name_any).collect::<Vec<_>>());
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Conflict);
    fixture.close().await;
    Ok(())
}

/// Removes a workload, and waits until it has no object of this kind.
async fn remove<K>(leader: &KubeScheduler, scope: &Scope, key: &WorkloadKey) -> Result<()>
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let is_gone = || async {
        leader.remove(scope, key).await?;
        Ok(found::<K>(key).await?.is_empty().then_some(()))
    };
    until("it is gone", is_gone).await.map(drop)
}

async fn a_deployment_that_was_removed_is_not_made_by_a_late_write() -> Result<()> {
    comes_late::<Deployment>(&["deployments"], Schedulers::default().serving(), false).await
}

async fn a_task_that_was_removed_is_not_made_by_a_late_write() -> Result<()> {
    comes_late::<Job>(&["jobs"], Schedulers::default().task(0), false).await
}

async fn a_volumes_owner_that_was_removed_is_not_made_by_a_late_write() -> Result<()> {
    comes_late::<StatefulSet>(&["statefulsets"], Schedulers::default().with_volume(), false).await
}

async fn what_stands_beside_a_workload_is_not_made_by_a_late_write() -> Result<()> {
    comes_late::<NetworkPolicy>(&["networkpolicies"], Schedulers::default().serving(), true).await
}

/// The calls about Deployments since the last look that would have changed something, and what they were answered.
fn writes(proxy: &Proxy) -> Vec<(&'static str, u16)> {
    let calls = proxy.take_calls().into_iter();
    let writes = calls.filter(|call| call.is_write() && call.resource == "deployments");
    writes.map(|call| (call.verb, call.status)).collect()
}

/// Nothing is told to a scheduler any more: what it knows stays as it is.
async fn deafen(proxy: &Proxy) -> Result<()> {
    proxy.take_calls();
    proxy.set([Rule::new(WATCHES, Fault::Hang)]);
    proxy.cut();
    let is_deaf = || async {
        let calls = proxy.calls();
        Ok(calls.iter().any(|call| call.verb == "watch" && call.resource == "deployments").then_some(()))
    };
    until("its watch is opened anew and tells nothing", is_deaf).await.map(drop)
}

async fn a_leader_that_knows_of_no_other_is_refused_by_the_server() -> Result<()> {
    let (fixture, world) = (Schedulers::default(), World::new());
    let proxy = Proxy::start(client().await?).await;
    let (stale, leader) = (scheduler(Some(&proxy)).await?, scheduler(None).await?);
    let mut workload = world.workload(fixture.serving(), 1)?;
    fixture.prepare(&world, &workload).await?;
    let (scope, next) = (world.scope().in_epoch(Epoch(1)), world.scope().in_epoch(Epoch(2)));
    stale.apply(&scope, &workload).await?;
    deafen(&proxy).await?;
    let known = || async { Ok(leader.list(&world.scope(), &world.selector()).await?.pop()) };
    until("the next leader knows of it", known).await?;
    leader.apply(&next, &workload).await?;
    let before = found::<Deployment>(&workload.key).await?.remove(0);
    writes(&proxy);
    workload.replicas = Some(3);
    let late = stale.apply(&scope, &workload).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late:?}");
    assert_eq!(writes(&proxy), [("patch", 409)], "the server itself was asked");
    let late = stale.remove(&scope, &workload.key).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late:?}");
    assert_eq!(writes(&proxy), [("delete", 409)]);
    let after = found::<Deployment>(&workload.key).await?.remove(0);
    assert_eq!(after.metadata.generation, before.metadata.generation, "nothing was changed");
    fixture.close().await;
    Ok(())
}
