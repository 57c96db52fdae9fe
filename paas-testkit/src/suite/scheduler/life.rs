//! From the start of an instance to its end.

use paas_core::model::{InstanceState, Role, Slot, Source, Template};
use paas_core::{ErrorKind, Result};

use super::{
    Bed, SchedulerFixture, apply, forgotten, has_process, ids, instances, ready, settled, started, status,
};
use crate::bench::refused;
use crate::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<dyn SchedulerFixture>> {
    cases![dyn SchedulerFixture:
        it_declares_what_the_backend_reports,
        what_is_not_declared_is_refused,
        a_source_that_cannot_run_here_is_unsupported_and_starts_nothing,
        an_applied_workload_becomes_ready,
        a_ready_instance_with_a_port_has_an_endpoint_in_its_slot,
        no_two_instances_have_one_address,
        one_that_is_never_ready_stays_unready,
        one_that_ends_backs_off_and_tells_how_it_ended,
        one_that_was_killed_starts_again_in_its_place,
        a_killed_instance_leaves_others_alone,
        one_that_ignores_the_request_to_end_is_gone_after_its_grace,
        a_removed_workload_has_nothing_applied_while_its_instances_stop,
        a_task_runs_to_its_end_and_stays_listed,
        a_failed_task_tells_its_exit_code,
        applying_a_task_again_starts_nothing,
        a_removed_task_is_forgotten,
        a_volume_has_one_writer_while_its_instance_is_replaced needs volumes,
        a_volume_has_one_writer_while_its_instance_starts_again needs volumes,
    ]
}

async fn it_declares_what_the_backend_reports(bed: Bed) -> Result<()> {
    bed.port.check().await?;
    assert_eq!(bed.fixture.capabilities(), bed.port.capabilities());
    Ok(())
}

async fn what_is_not_declared_is_refused(bed: Bed) -> Result<()> {
    let capabilities = bed.port.capabilities();
    let mut undeclared = Vec::new();
    if !capabilities.sources.contains(&"image") {
        undeclared.push(Template::new(vec![Source::Image("registry.example.com/shop:1".into())]));
    }
    if !capabilities.sources.contains(&"build") {
        undeclared.push(Template::new(vec![Source::Build("./shop".into())]));
    }
    if !capabilities.volumes {
        undeclared.push(bed.fixture.with_volume());
    }
    for template in undeclared {
        let workload = bed.world.workload(template, 1)?;
        refused(bed.port.apply(&bed.world.scope(), &workload).await, ErrorKind::Unsupported);
        assert_eq!(status(&bed, &workload.key).await?, None);
    }
    Ok(())
}

async fn a_source_that_cannot_run_here_is_unsupported_and_starts_nothing(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(Template::new(Vec::new()), 1)?;
    refused(bed.port.apply(&bed.world.scope(), &workload).await, ErrorKind::Unsupported);
    assert_eq!(status(&bed, &workload.key).await?, None);
    Ok(())
}

async fn an_applied_workload_becomes_ready(bed: Bed) -> Result<()> {
    let (workload, instances) = started(&bed, bed.fixture.serving(), 2).await?;
    assert_eq!(super::ordinals(&instances), [0, 1]);
    assert!(instances.iter().all(|i| i.template == workload.template.digest()));
    assert!(instances.iter().all(|i| i.revision == workload.revision && i.restarts == 0));
    Ok(())
}

async fn a_ready_instance_with_a_port_has_an_endpoint_in_its_slot(bed: Bed) -> Result<()> {
    for slot in Slot::BOTH {
        let key = bed.world.key(Role::Slot(slot));
        let workload = bed.world.workload_of(key, bed.fixture.serving(), 1)?;
        apply(&bed, &workload).await?;
        let instances = ready(&bed, &workload.key, 1).await?;
        let endpoint = instances[0].endpoint.as_ref();
        assert!(endpoint.is_some_and(|e| e.slot == slot && e.instance == instances[0].id), "{endpoint:?}");
    }
    Ok(())
}

async fn no_two_instances_have_one_address(bed: Bed) -> Result<()> {
    let (_, first) = started(&bed, bed.fixture.serving(), 2).await?;
    let (_, second) = started(&bed, bed.fixture.serving(), 2).await?;
    let addresses: std::collections::BTreeSet<_> =
        first.iter().chain(&second).filter_map(|i| i.endpoint.as_ref()).map(|e| e.address).collect();
    assert_eq!(addresses.len(), 4);
    Ok(())
}

async fn one_that_is_never_ready_stays_unready(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(bed.fixture.never_ready(), 1)?;
    apply(&bed, &workload).await?;
    // Another one that becomes ready after it was started has had as much time.
    settled(&bed, &workload.key, "one instance", |instances| instances.len() == 1).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    let instances = instances(&bed, &workload.key).await?;
    assert_eq!(instances.iter().map(|i| i.state).collect::<Vec<_>>(), [InstanceState::Starting]);
    Ok(())
}

async fn one_that_ends_backs_off_and_tells_how_it_ended(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(bed.fixture.exiting(7), 1)?;
    apply(&bed, &workload).await?;
    let first = settled(&bed, &workload.key, "it ended once", |instances| {
        instances.first().is_some_and(|i| i.last_exit.is_some())
    })
    .await?;
    let exit = first[0].last_exit.clone().unwrap_or_default();
    assert_eq!((exit.code, exit.signal), (Some(7), None));
    assert_eq!(exit.last_lines, ["last words"]);
    let again = settled(&bed, &workload.key, "it was started again twice", |instances| {
        instances.first().is_some_and(|i| i.restarts >= 2)
    })
    .await?;
    assert_eq!(ids(&again), ids(&first));
    settled(&bed, &workload.key, "it waits before the next start", |instances| {
        instances.first().is_some_and(|i| i.state == InstanceState::BackingOff)
    })
    .await?;
    Ok(())
}

async fn one_that_was_killed_starts_again_in_its_place(bed: Bed) -> Result<()> {
    let (workload, before) = started(&bed, bed.fixture.serving(), 1).await?;
    bed.fixture.kill(&before[0].id).await?;
    let after = settled(&bed, &workload.key, "it is ready again", |instances| {
        instances.first().is_some_and(|i| i.is_ready() && i.restarts == 1)
    })
    .await?;
    assert_eq!(ids(&after), ids(&before));
    assert_eq!((after[0].ordinal, &after[0].template), (0, &before[0].template));
    assert!(after[0].last_exit.as_ref().is_some_and(|exit| !exit.is_success()));
    assert!(after[0].endpoint.is_some());
    Ok(())
}

async fn a_killed_instance_leaves_others_alone(bed: Bed) -> Result<()> {
    let (workload, before) = started(&bed, bed.fixture.serving(), 2).await?;
    bed.fixture.kill(&before[0].id).await?;
    let after = settled(&bed, &workload.key, "both are ready again", |instances| {
        instances.len() == 2 && instances.iter().all(|i| i.is_ready()) && instances[0].restarts == 1
    })
    .await?;
    assert_eq!(after[1], before[1]);
    Ok(())
}

async fn one_that_ignores_the_request_to_end_is_gone_after_its_grace(bed: Bed) -> Result<()> {
    let (workload, _) = started(&bed, bed.fixture.stubborn(), 1).await?;
    bed.port.remove(&bed.world.scope(), &workload.key).await?;
    forgotten(&bed, &workload.key).await
}

async fn a_removed_workload_has_nothing_applied_while_its_instances_stop(bed: Bed) -> Result<()> {
    let (workload, _) = started(&bed, bed.fixture.stubborn(), 1).await?;
    bed.port.remove(&bed.world.scope(), &workload.key).await?;
    let listed = super::status(&bed, &workload.key).await?;
    assert_eq!(listed.and_then(|status| status.applied), None);
    forgotten(&bed, &workload.key).await
}

async fn finished(bed: &Bed, code: i32) -> Result<paas_core::model::Workload> {
    let task = bed.world.task(bed.fixture.task(code))?;
    apply(bed, &task).await?;
    let ended = settled(bed, &task.key, "the task ended", |instances| {
        instances.first().is_some_and(|i| i.state == InstanceState::Exited)
    })
    .await?;
    assert_eq!(ended.len(), 1);
    let exit = ended[0].last_exit.clone().unwrap_or_default();
    assert_eq!((exit.code, exit.is_success()), (Some(code), code == 0));
    assert_eq!(ended[0].restarts, 0);
    Ok(task)
}

async fn a_task_runs_to_its_end_and_stays_listed(bed: Bed) -> Result<()> {
    let task = finished(&bed, 0).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    assert_eq!(instances(&bed, &task.key).await?.len(), 1);
    Ok(())
}

async fn a_failed_task_tells_its_exit_code(bed: Bed) -> Result<()> {
    finished(&bed, 3).await.map(drop)
}

async fn applying_a_task_again_starts_nothing(bed: Bed) -> Result<()> {
    let task = finished(&bed, 3).await?;
    let before = instances(&bed, &task.key).await?;
    apply(&bed, &task).await?;
    started(&bed, bed.fixture.serving(), 1).await?;
    assert_eq!(instances(&bed, &task.key).await?, before);
    Ok(())
}

async fn a_removed_task_is_forgotten(bed: Bed) -> Result<()> {
    let task = finished(&bed, 0).await?;
    bed.port.remove(&bed.world.scope(), &task.key).await?;
    forgotten(&bed, &task.key).await
}

async fn a_volume_has_one_writer_while_its_instance_is_replaced(bed: Bed) -> Result<()> {
    let (mut workload, before) = started(&bed, bed.fixture.with_volume(), 2).await?;
    workload.retire = before.iter().map(|i| i.id.clone()).collect();
    apply(&bed, &workload).await?;
    let after = settled(&bed, &workload.key, "both are replaced", |instances| {
        for ordinal in 0..2 {
            let writers = instances.iter().filter(|i| i.ordinal == ordinal && has_process(i));
            assert!(writers.count() <= 1, "{instances:?}");
        }
        instances.len() == 2
            && instances.iter().all(|i| i.is_ready() && before.iter().all(|old| old.id != i.id))
    })
    .await?;
    assert_eq!(super::ordinals(&after), [0, 1]);
    assert_eq!(bed.fixture.volume_conflicts(), 0);
    Ok(())
}

async fn a_volume_has_one_writer_while_its_instance_starts_again(bed: Bed) -> Result<()> {
    let (workload, before) = started(&bed, bed.fixture.with_volume(), 1).await?;
    bed.fixture.kill(&before[0].id).await?;
    settled(&bed, &workload.key, "it is ready again", |instances| {
        assert!(instances.len() <= 1, "{instances:?}");
        instances.first().is_some_and(|i| i.is_ready() && i.restarts == 1)
    })
    .await?;
    assert_eq!(bed.fixture.volume_conflicts(), 0);
    Ok(())
}
