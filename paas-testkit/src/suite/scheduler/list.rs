//! What is seen, and by whom.

use futures_util::StreamExt;
use paas_core::Result;
use paas_core::model::Resource;
use paas_core::port::{Hint, Selector};

use super::{Bed, SchedulerFixture, apply, started};
use crate::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<dyn SchedulerFixture>> {
    cases![dyn SchedulerFixture:
        an_app_without_workloads_has_an_empty_list,
        a_list_of_an_app_shows_nothing_of_others,
        a_list_of_everything_shows_all,
        an_app_is_not_found_under_another_tenant,
        instances_are_listed_by_ordinal,
        a_watch_tells_of_an_app_that_was_applied,
        a_watch_tells_when_an_instance_becomes_ready,
        a_watch_of_a_tenant_tells_nothing_of_others,
    ]
}

async fn an_app_without_workloads_has_an_empty_list(bed: Bed) -> Result<()> {
    assert_eq!(bed.port.list(&bed.world.scope(), &bed.world.selector()).await?, []);
    Ok(())
}

async fn a_list_of_an_app_shows_nothing_of_others(bed: Bed) -> Result<()> {
    let (own, _) = started(&bed, bed.fixture.serving(), 1).await?;
    for world in [bed.world.another_app(), bed.world.of_other()] {
        let workload = world.workload(bed.fixture.serving(), 1)?;
        bed.fixture.prepare(&world, &workload).await?;
        bed.port.apply(&world.scope(), &workload).await?;
    }
    let listed = bed.port.list(&bed.world.scope(), &bed.world.selector()).await?;
    assert_eq!(listed.into_iter().map(|status| status.key).collect::<Vec<_>>(), [own.key]);
    Ok(())
}

async fn a_list_of_everything_shows_all(bed: Bed) -> Result<()> {
    let mut keys = Vec::new();
    for world in [bed.world.another_app(), bed.world.of_other()] {
        let workload = world.workload(bed.fixture.serving(), 1)?;
        bed.fixture.prepare(&world, &workload).await?;
        bed.port.apply(&world.scope(), &workload).await?;
        keys.push(workload.key);
    }
    let listed = bed.port.list(&bed.world.platform(), &Selector::All).await?;
    assert!(keys.iter().all(|key| listed.iter().any(|status| status.key == *key)));
    Ok(())
}

async fn an_app_is_not_found_under_another_tenant(bed: Bed) -> Result<()> {
    started(&bed, bed.fixture.serving(), 1).await?;
    let (other, world) = (bed.world.other.clone(), &bed.world);
    let wrong = Selector::App(other.clone(), world.environment.clone(), world.app.clone());
    let scope = paas_core::model::Scope::testing(Resource::Tenant(other));
    assert_eq!(bed.port.list(&scope, &wrong).await?, []);
    Ok(())
}

async fn instances_are_listed_by_ordinal(bed: Bed) -> Result<()> {
    let (_, instances) = started(&bed, bed.fixture.serving(), 12).await?;
    assert_eq!(super::ordinals(&instances), (0..12).collect::<Vec<_>>());
    Ok(())
}

async fn a_watch_tells_of_an_app_that_was_applied(bed: Bed) -> Result<()> {
    let mut hints = bed.port.watch(&bed.world.scope()).await?;
    apply(&bed, &bed.world.workload(bed.fixture.serving(), 1)?).await?;
    let hint = bed.soon("a hint", hints.next()).await?;
    assert!(matches!(&hint, Some(Hint::Reset)) || hint == Some(Hint::App(bed.world.app.clone())));
    Ok(())
}

async fn a_watch_tells_when_an_instance_becomes_ready(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(bed.fixture.serving(), 1)?;
    apply(&bed, &workload).await?;
    let mut hints = bed.port.watch(&bed.world.scope()).await?;
    // Whoever looks only when told sees readiness without a delay of its own.
    bed.soon("a ready instance is told of", async {
        loop {
            let instances = super::instances(&bed, &workload.key).await?;
            if instances.iter().any(paas_core::model::InstanceStatus::is_ready) {
                return Ok(());
            }
            assert!(hints.next().await.is_some(), "the watch ended");
        }
    })
    .await?
}

async fn a_watch_of_a_tenant_tells_nothing_of_others(bed: Bed) -> Result<()> {
    let other = bed.world.of_other();
    let mut hints = bed.port.watch(&bed.world.scope()).await?;
    let others = other.workload(bed.fixture.serving(), 1)?;
    bed.fixture.prepare(&other, &others).await?;
    bed.port.apply(&other.scope(), &others).await?;
    apply(&bed, &bed.world.workload(bed.fixture.serving(), 1)?).await?;
    let hint = bed.soon("a hint", hints.next()).await?;
    assert_ne!(hint, Some(Hint::App(other.app)));
    Ok(())
}
