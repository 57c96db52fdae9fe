//! On a scheduler that rolls by itself.

use super::*;
use crate::port::RouterCapabilities;

fn rolling(clock: &Clock) -> MemoryScheduler {
    let mut capabilities = MemoryScheduler::new(clock.clone()).capabilities();
    capabilities.native_rolling = true;
    MemoryScheduler::with_capabilities(clock.clone(), capabilities)
}

async fn native() -> World {
    let scheduler = rolling(&Clock::runtime(Timestamp(1_000_000)));
    World::on(&scheduler, Arc::new(scheduler.clone())).await
}

fn slots(world: &World) -> Vec<crate::model::Role> {
    world.scheduler.workloads().into_iter().map(|workload| workload.key.role).collect()
}

fn three(version: &str, release: &str) -> ServiceSpec {
    ServiceSpec { replicas: 3, ..with(version, release) }
}

#[tokio::test(start_paused = true)]
async fn a_rolling_release_stays_in_its_slot() {
    let world = native().await;
    world.deploy(&one(&three("1", r#""rolling""#))).await.unwrap();
    let calls = world.scheduler.calls("apply");
    let operation = world.deploy(&one(&three("2", r#""rolling""#))).await.unwrap();
    assert_eq!(operation.state, OperationState::Succeeded);
    assert_eq!(slots(&world), [crate::model::Role::Slot(Slot::Blue)]);
    // What was replaced may take its time to end.
    tokio::time::sleep(LONG).await;
    assert_eq!(world.ready(), BTreeMap::from([("2".into(), 3)]));
    // The scheduler does the steps: one call is all it takes.
    assert_eq!(world.scheduler.calls("apply"), calls + 1);
}

#[tokio::test(start_paused = true)]
async fn what_never_becomes_ready_is_rolled_back_in_its_slot() {
    let world = native().await;
    world.deploy(&one(&three("1", r#""rolling""#))).await.unwrap();
    let is_second = |workload: &crate::model::Workload| {
        workload.template.env.get("VERSION").is_some_and(|version| version == "2")
    };
    world.scheduler.behave_where(is_second, Behaviour::never_ready());
    let error = world.deploy(&one(&three("2", r#""rolling""#))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    tokio::time::sleep(LONG).await;
    assert_eq!(world.ready(), BTreeMap::from([("1".into(), 3)]));
}

#[tokio::test(start_paused = true)]
async fn a_roll_goes_on_while_the_platform_is_away() {
    let world = native().await;
    world.deploy(&one(&three("1", r#""rolling""#))).await.unwrap();
    let calls = world.scheduler.calls("apply");
    let running = world.platform.deploy(&world.user, &one(&three("2", r#""rolling""#))).await.unwrap();
    while world.scheduler.calls("apply") == calls {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(running);
    let World { platform, scheduler, .. } = world;
    drop(platform);
    tokio::time::sleep(LONG).await;
    let instances = scheduler.instances();
    let version = |(_, instance): &(_, crate::model::InstanceStatus)| instance.revision.0;
    assert_eq!(instances.iter().map(version).collect::<Vec<_>>(), [2, 2, 2]);
    assert_eq!(scheduler.calls("apply"), calls + 1);
}

#[tokio::test(start_paused = true)]
async fn a_release_with_pauses_uses_both_slots() {
    let world = native().await;
    world.deploy(&one(&three("1", r#""rolling""#))).await.unwrap();
    world.deploy(&one(&three("2", r#"{ "canary": ["50%"], "every": "1s" }"#))).await.unwrap();
    assert_eq!(slots(&world).last(), Some(&crate::model::Role::Slot(Slot::Green)));
}

#[tokio::test(start_paused = true)]
async fn a_canary_of_a_domain_is_refused_where_the_router_does_not_share_requests_out() {
    let clock = Clock::runtime(Timestamp(1_000_000));
    let router = MemoryRouter::with_capabilities(RouterCapabilities::none());
    let platform = compose(&clock)
        .scheduler(Arc::new(rolling(&clock)))
        .router(Arc::new(router.clone()))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()));
    let platform = platform.build().await.unwrap();
    let operator = Principal::operator("ops");
    let tenant = platform.ensure_tenant(&operator, TenantName::new("acme").unwrap()).await.unwrap();
    let user = Principal::user("ann", tenant.id);
    let mut canary = three("1", r#"{ "canary": ["50%"], "every": "1s" }"#);
    canary.domain = vec!["shop.example.com".parse().unwrap()];

    let production = platform.production(&user).await.unwrap();
    let plan = production.plan(&one(&canary)).await.unwrap().to_string();
    assert!(plan.contains("the release would be refused"), "{plan}");
    let error = platform.deploy(&user, &one(&canary)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("service: web"), "{error}");
    assert_eq!(router.calls("apply"), 0);
    assert_eq!(production.apps().await.unwrap(), []);

    // What goes over at once, and what nobody outside asks, needs no shares.
    canary.release = Some(serde_json::from_str(r#""blue-green""#).unwrap());
    platform.deploy(&user, &one(&canary)).await.unwrap().finished_within(LONG).await.unwrap();
    let inside = three("2", r#"{ "canary": ["50%"], "every": "1s" }"#);
    platform.deploy(&user, &one(&inside)).await.unwrap().finished_within(LONG).await.unwrap();
    let rolling =
        ServiceSpec { domain: canary.domain, ..three("3", r#"{ "strategy": "rolling", "every": "1s" }"#) };
    let plan = production.plan(&one(&rolling)).await.unwrap().to_string();
    assert!(plan.contains("the greater side"), "{plan}");
    platform.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_smaller_count_is_the_schedulers_to_reach() {
    let world = native().await;
    world.deploy(&one(&three("1", r#""rolling""#))).await.unwrap();
    world.shop().await.scale(&name("web"), 1).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(world.ready(), BTreeMap::from([("1".into(), 1)]));
}

#[tokio::test(start_paused = true)]
async fn a_volume_keeps_its_one_writer() {
    let world = native().await;
    let spec = |version: &str| {
        let mut spec = three(version, r#""ordered""#);
        spec.volumes.insert("data".parse().unwrap(), "1GiB".parse().unwrap());
        spec
    };
    world.deploy(&one(&spec("1"))).await.unwrap();
    world.deploy(&one(&spec("2"))).await.unwrap();
    assert_eq!(world.ready(), BTreeMap::from([("2".into(), 3)]));
    assert_eq!(world.scheduler.volume_conflicts(), []);
}

#[tokio::test(start_paused = true)]
async fn a_router_that_knows_nothing_of_draining_needs_a_scheduler_that_drains() {
    let clock = Clock::runtime(Timestamp(1_000_000));
    let built = async |scheduler: MemoryScheduler| {
        let router = MemoryRouter::with_capabilities(RouterCapabilities::none());
        let builder = compose(&clock).scheduler(Arc::new(scheduler)).router(Arc::new(router));
        let builder = builder.volumes(Arc::new(MemoryVolumeStore::new()));
        builder.state(Arc::new(MemoryStateStore::new())).build().await
    };
    let error = built(MemoryScheduler::new(clock.clone())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("drain"), "{error}");
    built(rolling(&clock)).await.unwrap().shutdown().await;
}
