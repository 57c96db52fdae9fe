use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::Instant;

use super::*;
use crate::ErrorKind;
use crate::model::{
    AppId, AppName, ByteSize, Command, EnvironmentId, EnvironmentName, Epoch, InstanceState, Mount, Restart,
    RevisionNumber, Role, ServiceId, Slot, Source, Template, TenantId, TenantName, Timestamp, VolumeName,
    WorkloadLabels,
};

fn scheduler() -> MemoryScheduler {
    MemoryScheduler::new(Clock::runtime(Timestamp(1_000)))
}

fn platform() -> Scope {
    Scope::testing(Resource::Platform)
}

fn key(role: Role) -> WorkloadKey {
    let tenant = TenantId::new("t-1").unwrap();
    let (environment, app) = (EnvironmentId::new("e-1").unwrap(), AppId::new("a-1").unwrap());
    WorkloadKey::new(tenant, environment, app, ServiceId::new("s-1").unwrap(), role)
}

fn workload(replicas: u32) -> Workload {
    let labels = WorkloadLabels::new(
        TenantName::new("acme").unwrap(),
        EnvironmentName::new("production").unwrap(),
        AppName::new("shop").unwrap(),
        ServiceName::new("web").unwrap(),
    );
    let mut template = Template::new(vec![Source::Run(Command::new(["web"]).unwrap())]);
    template.port = Some(8080);
    Workload::new(key(Role::Slot(Slot::Blue)), labels, RevisionNumber(1), template, replicas)
}

fn states(scheduler: &MemoryScheduler) -> Vec<InstanceState> {
    scheduler.instances().into_iter().map(|(_, instance)| instance.state).collect()
}

async fn after(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hint_comes_at_the_moment_of_readiness() {
    let scheduler = scheduler();
    let mut hints = scheduler.watch(&platform()).await.unwrap();
    scheduler.apply(&platform(), &workload(1)).await.unwrap();
    let began = Instant::now();
    hints.next().await.unwrap();
    assert_eq!(states(&scheduler), [InstanceState::Starting]);
    hints.next().await.unwrap();
    assert_eq!(began.elapsed(), Duration::from_millis(10));
    assert_eq!(states(&scheduler), [InstanceState::Ready]);
}

#[tokio::test(start_paused = true)]
async fn a_crashed_instance_starts_again_in_its_place_with_growing_pauses() {
    let scheduler = scheduler();
    scheduler.apply(&platform(), &workload(1)).await.unwrap();
    after(20).await;
    let (_, before) = scheduler.instances().remove(0);
    scheduler.crash(&before.id, 7).unwrap();
    assert_eq!(states(&scheduler), [InstanceState::BackingOff]);
    after(99).await;
    assert_eq!(states(&scheduler), [InstanceState::BackingOff]);
    after(1).await;
    assert_eq!(states(&scheduler), [InstanceState::Starting]);
    scheduler.crash(&before.id, 7).unwrap();
    after(199).await;
    assert_eq!(states(&scheduler), [InstanceState::BackingOff]);
    after(11).await;
    let (_, again) = scheduler.instances().remove(0);
    assert_eq!((again.state, again.restarts), (InstanceState::Ready, 2));
    assert_eq!((&again.id, &again.endpoint), (&before.id, &before.endpoint));
    assert_eq!(again.last_exit.unwrap().code, Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_pauses_for_30_seconds_at_most() {
    let scheduler = scheduler();
    scheduler.behave_by_default(Behaviour::exits(1).with_last_lines(["no database"]));
    scheduler.apply(&platform(), &workload(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    // 100 ms doubles nine times in 51.1 s; then 30 s and 1 ms each.
    let (_, instance) = scheduler.instances().remove(0);
    assert_eq!(instance.restarts, 9 + 118);
    assert_eq!(instance.last_exit.unwrap().last_lines, ["no database"]);
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_handed_over_only_once_the_old_instance_has_ended() {
    let scheduler = scheduler();
    scheduler.behave_by_default(Behaviour::healthy().with_stop(Duration::from_secs(1)));
    let mut workload = workload(1);
    let size: ByteSize = "1GiB".parse().unwrap();
    workload.template.mounts.push(Mount::new(VolumeName::new("data").unwrap(), None, size));
    scheduler.apply(&platform(), &workload).await.unwrap();
    after(20).await;
    workload.retire = vec![scheduler.instances()[0].1.id.clone()];
    scheduler.apply(&platform(), &workload).await.unwrap();
    after(999).await;
    assert_eq!(states(&scheduler), [InstanceState::Stopping]);
    after(11).await;
    assert_eq!(states(&scheduler), [InstanceState::Ready]);
    assert_eq!(scheduler.volume_conflicts(), []);

    let green = Workload { key: key(Role::Slot(Slot::Green)), ..workload };
    scheduler.apply(&platform(), &green).await.unwrap();
    assert_eq!(scheduler.volume_conflicts().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_once_and_stays_listed_until_it_is_removed() {
    let scheduler = scheduler();
    let mut task = workload(1);
    task.template.restart = Restart::Never;
    for _ in 0..3 {
        scheduler.apply(&platform(), &task).await.unwrap();
        after(1_000).await;
    }
    assert_eq!(states(&scheduler), [InstanceState::Exited]);
    assert_eq!(scheduler.started(), 1);
    assert!(scheduler.instances()[0].1.last_exit.as_ref().unwrap().is_success());
    scheduler.remove(&platform(), &task.key).await.unwrap();
    assert_eq!(scheduler.workloads(), []);
}

#[tokio::test(start_paused = true)]
async fn a_read_of_a_later_term_raises_the_bar() {
    let scheduler = scheduler();
    let term = |epoch| platform().in_epoch(Epoch(epoch));
    scheduler.list(&term(2), &Selector::All).await.unwrap();
    let refused = scheduler.apply(&term(1), &workload(1)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    scheduler.apply(&term(2), &workload(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_cannot_start_says_why_and_is_replaced_once_it_can() {
    let scheduler = scheduler();
    scheduler.behave_by_default(Behaviour::cannot_start("no such program: web"));
    scheduler.apply(&platform(), &workload(1)).await.unwrap();
    let (_, broken) = scheduler.instances().remove(0);
    assert_eq!(broken.state, InstanceState::Exited);
    assert_eq!(broken.message.as_deref(), Some("no such program: web"));
    scheduler.behave_by_default(Behaviour::healthy());
    let mut repaired = workload(1);
    repaired.retire = vec![broken.id];
    scheduler.apply(&platform(), &repaired).await.unwrap();
    after(20).await;
    assert_eq!(states(&scheduler), [InstanceState::Ready]);
}
