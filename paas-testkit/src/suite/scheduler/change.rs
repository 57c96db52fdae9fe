//! From one desired state to another.

use paas_core::Result;
use paas_core::model::{InstanceId, InstanceStatus, RevisionNumber, Role, Slot, WorkloadKey};

use super::{
    Bed, SchedulerFixture, apply, forgotten, ids, instances, ordinals, ready, settled, started, status,
};
use crate::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<dyn SchedulerFixture>> {
    cases![dyn SchedulerFixture:
        applying_the_same_workload_twice_changes_nothing,
        the_digest_that_apply_gives_is_the_one_that_the_status_repeats,
        more_replicas_leave_running_instances_alone,
        fewer_replicas_stop_the_highest_ordinals unless native_rolling,
        fewer_replicas_stop_unready_instances_first unless native_rolling,
        no_replicas_leave_the_workload_listed,
        another_template_leaves_running_instances_alone unless native_rolling,
        a_new_instance_gets_the_new_template unless native_rolling,
        one_that_starts_again_keeps_its_template unless native_rolling,
        another_revision_of_the_same_template_leaves_running_instances_alone,
        a_retired_instance_is_replaced,
        a_retired_instance_that_is_one_too_many_is_not_replaced,
        retiring_one_leaves_others_alone,
        retiring_a_name_that_is_gone_changes_nothing,
        retiring_an_instance_of_another_workload_changes_nothing,
        retiring_twice_replaces_once,
        no_two_living_instances_share_an_ordinal_while_replaced,
        the_two_slots_of_a_service_are_apart,
        removing_stops_all_instances_and_forgets,
        a_removed_workload_stays_listed_until_its_last_instance_has_ended,
        removing_a_missing_workload_is_ok,
        removing_one_workload_leaves_others_alone,
        a_removed_workload_may_be_applied_again,
    ]
}

async fn applying_the_same_workload_twice_changes_nothing(bed: Bed) -> Result<()> {
    let (workload, before) = started(&bed, bed.fixture.serving(), 2).await?;
    apply(&bed, &workload).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    assert_eq!(instances(&bed, &workload.key).await?, before);
    Ok(())
}

async fn the_digest_that_apply_gives_is_the_one_that_the_status_repeats(bed: Bed) -> Result<()> {
    let mut workload = bed.world.workload(bed.fixture.serving(), 1)?;
    bed.fixture.prepare(&bed.world, &workload).await?;
    for replicas in [1, 2] {
        workload.replicas = Some(replicas);
        let digest = bed.port.apply(&bed.world.scope(), &workload).await?;
        assert_eq!(digest, workload.digest());
        let applied = status(&bed, &workload.key).await?.and_then(|status| status.applied);
        assert_eq!(applied, Some(digest));
    }
    Ok(())
}

async fn more_replicas_leave_running_instances_alone(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.replicas = Some(3);
    apply(&bed, &workload).await?;
    let after = ready(&bed, &workload.key, 3).await?;
    assert_eq!(after[0], before[0]);
    assert_eq!(ordinals(&after), [0, 1, 2]);
    Ok(())
}

async fn fewer_replicas_stop_the_highest_ordinals(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 3).await?;
    workload.replicas = Some(1);
    apply(&bed, &workload).await?;
    assert_eq!(ready(&bed, &workload.key, 1).await?, before[..1]);
    Ok(())
}

async fn fewer_replicas_stop_unready_instances_first(bed: Bed) -> Result<()> {
    let mut workload = bed.world.workload(bed.fixture.never_ready(), 1)?;
    apply(&bed, &workload).await?;
    settled(&bed, &workload.key, "one instance", |instances| instances.len() == 1).await?;
    workload.template = bed.fixture.serving();
    workload.replicas = Some(2);
    apply(&bed, &workload).await?;
    settled(&bed, &workload.key, "the second is ready", |instances| {
        instances.len() == 2 && instances[1].is_ready()
    })
    .await?;
    workload.replicas = Some(1);
    apply(&bed, &workload).await?;
    assert_eq!(ordinals(&ready(&bed, &workload.key, 1).await?), [1]);
    Ok(())
}

async fn no_replicas_leave_the_workload_listed(bed: Bed) -> Result<()> {
    let (mut workload, _) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.replicas = Some(0);
    apply(&bed, &workload).await?;
    ready(&bed, &workload.key, 0).await?;
    let applied = status(&bed, &workload.key).await?.and_then(|status| status.applied);
    assert_eq!(applied, Some(workload.digest()));
    Ok(())
}

async fn another_template_leaves_running_instances_alone(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 2).await?;
    workload.template.incarnation += 1;
    apply(&bed, &workload).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    assert_eq!(instances(&bed, &workload.key).await?, before);
    Ok(())
}

async fn a_new_instance_gets_the_new_template(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.template.incarnation += 1;
    workload.revision = RevisionNumber(2);
    workload.replicas = Some(2);
    apply(&bed, &workload).await?;
    let after = ready(&bed, &workload.key, 2).await?;
    assert_eq!(after[0], before[0]);
    assert_eq!((&after[1].template, after[1].revision), (&workload.template.digest(), RevisionNumber(2)));
    Ok(())
}

async fn one_that_starts_again_keeps_its_template(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.template.incarnation += 1;
    apply(&bed, &workload).await?;
    bed.fixture.kill(&before[0].id).await?;
    let after = settled(&bed, &workload.key, "it is ready again", |instances| {
        instances.first().is_some_and(|i| i.is_ready() && i.restarts == 1)
    })
    .await?;
    assert_eq!((&after[0].id, &after[0].template), (&before[0].id, &before[0].template));
    Ok(())
}

async fn another_revision_of_the_same_template_leaves_running_instances_alone(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.revision = RevisionNumber(9);
    apply(&bed, &workload).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    let after = instances(&bed, &workload.key).await?;
    assert_eq!(ids(&after), ids(&before));
    assert!(after[0].is_ready() && after[0].restarts == 0);
    Ok(())
}

/// Waits until the named instances are gone and `count` are ready.
async fn replaced(
    bed: &Bed,
    key: &WorkloadKey,
    gone: &[InstanceId],
    count: usize,
) -> Result<Vec<InstanceStatus>> {
    settled(bed, key, "the retired are gone and all are ready", |instances| {
        instances.len() == count && instances.iter().all(|i| i.is_ready() && !gone.contains(&i.id))
    })
    .await
}

async fn a_retired_instance_is_replaced(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.template.incarnation += 1;
    workload.retire = vec![before[0].id.clone()];
    apply(&bed, &workload).await?;
    let after = replaced(&bed, &workload.key, &workload.retire, 1).await?;
    assert_eq!(after[0].template, workload.template.digest());
    Ok(())
}

async fn a_retired_instance_that_is_one_too_many_is_not_replaced(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 3).await?;
    workload.replicas = Some(2);
    workload.retire = vec![before[0].id.clone()];
    apply(&bed, &workload).await?;
    let after = replaced(&bed, &workload.key, &workload.retire, 2).await?;
    assert_eq!(ids(&after), ids(&before[1..]));
    Ok(())
}

async fn retiring_one_leaves_others_alone(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 3).await?;
    workload.retire = vec![before[1].id.clone()];
    apply(&bed, &workload).await?;
    let after = replaced(&bed, &workload.key, &workload.retire, 3).await?;
    assert!(after.contains(&before[0]) && after.contains(&before[2]), "{after:?}");
    Ok(())
}

async fn retiring_a_name_that_is_gone_changes_nothing(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.retire = vec![bed.world.instance()];
    apply(&bed, &workload).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    assert_eq!(instances(&bed, &workload.key).await?, before);
    Ok(())
}

async fn retiring_an_instance_of_another_workload_changes_nothing(bed: Bed) -> Result<()> {
    let (others, before) = started(&bed, bed.fixture.serving(), 1).await?;
    let (mut workload, _) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.retire = vec![before[0].id.clone()];
    apply(&bed, &workload).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    assert_eq!(instances(&bed, &others.key).await?, before);
    Ok(())
}

async fn retiring_twice_replaces_once(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    workload.retire = vec![before[0].id.clone()];
    apply(&bed, &workload).await?;
    apply(&bed, &workload).await?;
    let once = replaced(&bed, &workload.key, &workload.retire, 1).await?;
    apply(&bed, &workload).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    assert_eq!(instances(&bed, &workload.key).await?, once);
    Ok(())
}

async fn no_two_living_instances_share_an_ordinal_while_replaced(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 3).await?;
    workload.retire = before.iter().map(|i| i.id.clone()).collect();
    apply(&bed, &workload).await?;
    settled(&bed, &workload.key, "all are replaced", |instances| {
        let living: Vec<u32> =
            instances.iter().filter(|i| super::has_process(i)).map(|i| i.ordinal).collect();
        let distinct: std::collections::BTreeSet<&u32> = living.iter().collect();
        assert_eq!(distinct.len(), living.len(), "{instances:?}");
        instances.len() == 3 && instances.iter().all(|i| i.is_ready() && !workload.retire.contains(&i.id))
    })
    .await?;
    Ok(())
}

async fn the_two_slots_of_a_service_are_apart(bed: Bed) -> Result<()> {
    let (blue, before) = started(&bed, bed.fixture.serving(), 1).await?;
    let mut key = blue.key.clone();
    key.role = Role::Slot(Slot::Green);
    let mut green = bed.world.workload_of(key, bed.fixture.serving(), 2)?;
    green.revision = RevisionNumber(2);
    apply(&bed, &green).await?;
    ready(&bed, &green.key, 2).await?;
    assert_eq!(instances(&bed, &blue.key).await?, before);
    bed.port.remove(&bed.world.scope(), &green.key).await?;
    forgotten(&bed, &green.key).await?;
    assert_eq!(instances(&bed, &blue.key).await?, before);
    Ok(())
}

async fn removing_stops_all_instances_and_forgets(bed: Bed) -> Result<()> {
    let (workload, _) = started(&bed, bed.fixture.serving(), 2).await?;
    bed.port.remove(&bed.world.scope(), &workload.key).await?;
    forgotten(&bed, &workload.key).await
}

async fn a_removed_workload_stays_listed_until_its_last_instance_has_ended(bed: Bed) -> Result<()> {
    let (workload, before) = started(&bed, bed.fixture.stubborn(), 1).await?;
    bed.port.remove(&bed.world.scope(), &workload.key).await?;
    let stopping = instances(&bed, &workload.key).await?;
    assert_eq!(ids(&stopping), ids(&before));
    assert!(!stopping[0].is_ready(), "{stopping:?}");
    forgotten(&bed, &workload.key).await
}

async fn removing_a_missing_workload_is_ok(bed: Bed) -> Result<()> {
    let (workload, _) = started(&bed, bed.fixture.serving(), 1).await?;
    for _ in 0..2 {
        bed.port.remove(&bed.world.scope(), &workload.key).await?;
    }
    forgotten(&bed, &workload.key).await?;
    bed.port.remove(&bed.world.scope(), &workload.key).await?;
    bed.port.remove(&bed.world.scope(), &bed.world.key(Role::Slot(Slot::Blue))).await
}

async fn removing_one_workload_leaves_others_alone(bed: Bed) -> Result<()> {
    let (kept, before) = started(&bed, bed.fixture.serving(), 1).await?;
    let (removed, _) = started(&bed, bed.fixture.serving(), 1).await?;
    bed.port.remove(&bed.world.scope(), &removed.key).await?;
    forgotten(&bed, &removed.key).await?;
    assert_eq!(instances(&bed, &kept.key).await?, before);
    Ok(())
}

async fn a_removed_workload_may_be_applied_again(bed: Bed) -> Result<()> {
    let (workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    bed.port.remove(&bed.world.scope(), &workload.key).await?;
    apply(&bed, &workload).await?;
    let gone: Vec<InstanceId> = before.into_iter().map(|i| i.id).collect();
    replaced(&bed, &workload.key, &gone, 1).await.map(drop)
}
