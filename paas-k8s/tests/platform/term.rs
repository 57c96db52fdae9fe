//! Leaders whose term is over, and platforms that die.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use paas_core::memory::MemorySecretStore;
use paas_core::model::Epoch;
use paas_core::port::Scheduler;
use paas_core::{ErrorKind, Result};
use paas_k8s::{KubeScheduler, SchedulerConfig};
use paas_testkit::World as Names;

use super::{Case, World, app, cases, open, serving};
use crate::fixture::connect;
use crate::fixture::scheduler::Schedulers;
use paas_testkit::Fixture;
use paas_testkit::suite::scheduler::SchedulerFixture;

pub(super) const CASES: &[(&str, Case)] = cases![
    a_write_of_an_earlier_term_is_refused_by_what_the_cluster_holds,
    another_platform_goes_on_where_one_died
];

/// A scheduler as of another process: it has seen nothing of what others have.
async fn another() -> Result<KubeScheduler> {
    let connection = connect().await?;
    KubeScheduler::open(connection, Arc::new(MemorySecretStore::default()), SchedulerConfig::default()).await
}

async fn a_write_of_an_earlier_term_is_refused_by_what_the_cluster_holds() -> Result<()> {
    let (fixture, names) = (Schedulers::default(), Names::new());
    let mut workload = names.workload(fixture.serving(), 1)?;
    fixture.prepare(&names, &workload).await?;
    let (stale, leader) = (another().await?, another().await?);
    stale.apply(&names.scope().in_epoch(Epoch(1)), &workload).await?;
    leader.apply(&names.scope().in_epoch(Epoch(2)), &workload).await?;
    workload.replicas = Some(3);
    let late = stale.apply(&names.scope().in_epoch(Epoch(1)), &workload).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late:?}");
    let late = stale.remove(&names.scope().in_epoch(Epoch(1)), &workload.key).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "{late:?}");
    let listed = leader.list(&names.scope(), &names.selector()).await?;
    assert_eq!(listed.len(), 1);
    fixture.close().await;
    Ok(())
}

async fn another_platform_goes_on_where_one_died() -> Result<()> {
    let mut world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (lease, _) = world.only::<Lease>().await?;
    assert!(lease.spec.is_some_and(|spec| spec.holder_identity.is_some()));
    // Without a farewell.
    let next = open(&world.name).await?;
    drop(std::mem::replace(&mut world.platform, next));
    world.deploy(&app(&serving("2", 1))).await?;
    assert_eq!(world.shop().await?.revisions().await?.len(), 2);
    world.end().await
}
