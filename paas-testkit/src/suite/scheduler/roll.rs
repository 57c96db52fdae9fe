//! What rolls natively goes over to another template by itself.

use paas_core::Result;
use paas_core::model::{InstanceStatus, RevisionNumber};

use super::{Bed, SchedulerFixture, apply, ids, instances, ready, settled, started};
use crate::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<dyn SchedulerFixture>> {
    cases![dyn SchedulerFixture:
        another_template_replaces_all_instances needs native_rolling,
        a_roll_has_as_many_ready_as_asked_for_at_all_times needs native_rolling,
        a_roll_that_never_becomes_ready_leaves_what_serves needs native_rolling,
        a_roll_with_volumes_has_one_writer_each needs native_rolling & volumes,
        a_roll_of_what_crashes_comes_to_its_end needs native_rolling & volumes,
    ]
}

async fn another_template_replaces_all_instances(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.serving(), 2).await?;
    workload.template.incarnation += 1;
    workload.revision = RevisionNumber(2);
    apply(&bed, &workload).await?;
    let digest = workload.template.digest();
    let after = settled(&bed, &workload.key, "all are of the new template", |instances| {
        instances.len() == 2 && instances.iter().all(|i| i.is_ready() && i.template == digest)
    })
    .await?;
    assert!(after.iter().all(|i| i.revision == RevisionNumber(2) && before.iter().all(|old| old.id != i.id)));
    Ok(())
}

async fn a_roll_has_as_many_ready_as_asked_for_at_all_times(bed: Bed) -> Result<()> {
    let (mut workload, _) = started(&bed, bed.fixture.serving(), 2).await?;
    workload.template.incarnation += 1;
    apply(&bed, &workload).await?;
    let digest = workload.template.digest();
    settled(&bed, &workload.key, "all are of the new template", |instances| {
        assert!(instances.iter().filter(|i| i.is_ready()).count() >= 2, "{instances:?}");
        instances.len() == 2 && instances.iter().all(|i| i.template == digest)
    })
    .await
    .map(drop)
}

async fn a_roll_that_never_becomes_ready_leaves_what_serves(bed: Bed) -> Result<()> {
    let (before, serving) = started(&bed, bed.fixture.serving(), 2).await?;
    let mut broken = before.clone();
    broken.template = bed.fixture.never_ready();
    apply(&bed, &broken).await?;
    let digest = broken.template.digest();
    settled(&bed, &before.key, "a new one was started", |all| all.iter().any(|i| i.template == digest))
        .await?;
    // Another one that becomes ready after it was started has had as much time.
    started(&bed, bed.fixture.serving(), 1).await?;
    let ready_now = instances(&bed, &before.key).await?.into_iter().filter(InstanceStatus::is_ready);
    assert_eq!(ids(&ready_now.collect::<Vec<_>>()), ids(&serving));
    apply(&bed, &before).await?;
    assert_eq!(ids(&ready(&bed, &before.key, 2).await?), ids(&serving));
    Ok(())
}

async fn a_roll_with_volumes_has_one_writer_each(bed: Bed) -> Result<()> {
    let (mut workload, _) = started(&bed, bed.fixture.with_volume(), 2).await?;
    workload.template.incarnation += 1;
    apply(&bed, &workload).await?;
    let digest = workload.template.digest();
    settled(&bed, &workload.key, "all are of the new template", |instances| {
        for ordinal in 0..2 {
            let writers = instances.iter().filter(|i| i.ordinal == ordinal && super::has_process(i));
            assert!(writers.count() <= 1, "{instances:?}");
        }
        instances.len() == 2 && instances.iter().all(|i| i.is_ready() && i.template == digest)
    })
    .await?;
    assert_eq!(bed.fixture.volume_conflicts(), 0);
    Ok(())
}

async fn a_roll_of_what_crashes_comes_to_its_end(bed: Bed) -> Result<()> {
    let sound = bed.fixture.with_volume();
    let mut crashing = bed.fixture.exiting(1);
    crashing.mounts.clone_from(&sound.mounts);
    let mut workload = bed.world.workload(crashing, 2)?;
    apply(&bed, &workload).await?;
    settled(&bed, &workload.key, "both have crashed", |instances| {
        instances.len() == 2 && instances.iter().all(|i| i.last_exit.is_some())
    })
    .await?;
    workload.template = sound;
    apply(&bed, &workload).await?;
    ready(&bed, &workload.key, 2).await.map(drop)
}
