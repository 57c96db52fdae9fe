//! Releases that trouble or people get in the way of.

use super::*;

async fn resource_of(shop: &AppHandle, name: &str) -> Resource {
    let Resource::App(t, e, a) = shop.resource() else { unreachable!() };
    let status = shop.status().await.unwrap();
    Resource::Service(t, e, a, status.service(name).unwrap().id.clone())
}

#[tokio::test(start_paused = true)]
async fn a_service_with_many_volumes_starts() {
    let world = World::new().await;
    let mut web = service("1", &[]);
    web.volumes.insert("data".parse().unwrap(), "1MiB".parse().unwrap());
    web.replicas = 40;
    world.deploy(&one(&web)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_domain_that_the_edge_refuses_is_told() {
    let world = World::new().await;
    let mut web = service("1", &[]);
    web.domain = vec!["shop.example.com".parse().unwrap()];
    world.deploy(&one(&web)).await.unwrap();
    let route = world.router.service_of("shop.example.com", "/").unwrap();
    let explained = async || world.shop().await.explain().await.unwrap().to_string();
    assert!(explained().await.contains("all is well"));
    world.router.refuse(&route, Some("Accepted is False: no listener of this name"));
    let text = explained().await;
    assert!(text.contains("1 of 1 services need attention"), "{text}");
    assert!(text.contains("its domains are not reached: Accepted is False: no listener"), "{text}");
    assert!(text.contains("-> whoever runs the edge"), "{text}");
    world.router.refuse(&route, None);
    assert!(explained().await.contains("all is well"));
}

#[tokio::test(start_paused = true)]
async fn instances_that_cannot_be_made_say_why_and_come_once_they_can() {
    let world = World::new().await;
    world.scheduler.behave(&name("web"), Behaviour::refused("exceeded quota: room"));
    let release = |version| one(&with(version, r#"{"strategy":"rolling","deadline":"20s"}"#));
    let operation = world.platform.deploy(&world.user, &release("1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let explained = world.shop().await.explain().await.unwrap().to_string();
    assert!(explained.contains("instances cannot be made: exceeded quota: room"), "{explained}");
    let error = operation.finished_within(LONG).await.unwrap_err();
    assert!(error.to_string().contains("exceeded quota: room"), "{error}");
    let operation = world.platform.deploy(&world.user, &release("2")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    world.scheduler.heal();
    operation.finished_within(LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn why_instances_could_not_be_made_is_not_told_of_those_that_are_there() {
    let scheduler = MemoryScheduler::new(Clock::runtime(Timestamp(1_000_000)));
    // For a moment longer than it is true.
    let late = Altered(scheduler.clone(), |workload| workload.message = Some("exceeded quota: room".into()));
    let world = World::on(&scheduler, Arc::new(late)).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    let explained = world.shop().await.explain().await.unwrap().to_string();
    assert!(explained.contains("all is well") && !explained.contains("quota"), "{explained}");
}

#[tokio::test(start_paused = true)]
async fn scaling_a_service_with_volumes_does_not_freeze_its_neighbours() {
    let world = World::new().await;
    let mut a = service("1", &[]);
    a.volumes.insert("data".parse().unwrap(), "1MiB".parse().unwrap());
    let app = AppSpec::new("shop")
        .unwrap()
        .with_service("a", &a)
        .unwrap()
        .with_service("web", &service("1", &[]))
        .unwrap();
    world.deploy(&app).await.unwrap();
    let shop = world.shop().await;
    shop.scale(&name("a"), 40).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    shop.scale(&name("web"), 3).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    let status = shop.status().await.unwrap();
    assert_eq!((status.service("a").unwrap().ready, status.service("web").unwrap().ready), (40, 3));
}

#[tokio::test(start_paused = true)]
async fn a_paused_release_does_not_fail_at_its_deadline() {
    let world = World::new().await;
    world.deploy(&one(&with("1", r#"{"strategy":"rolling","deadline":"20s"}"#))).await.unwrap();
    world.scheduler.behave_by_default(Behaviour::healthy().with_startup(Duration::from_secs(5)));
    let handle = world
        .platform
        .deploy(&world.user, &one(&with("2", r#"{"strategy":"rolling","deadline":"20s"}"#)))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    handle.signal(Signal::Pause).await.unwrap();
    tokio::time::sleep(Duration::from_secs(300)).await;
    handle.signal(Signal::Resume).await.unwrap_or_else(|e| println!("{e}"));
    handle.finished_within(LONG).await.unwrap();
}

/// A release of `web` in the middle of its last step: the candidate is ready, and the old instance cannot go, since a
/// request is open on it.
struct Shift {
    world: World,
    shop: AppHandle,
    web: crate::model::Resource,
    request: crate::memory::OpenRequest,
    handle: OperationHandle,
    candidate: crate::model::InstanceId,
}

impl Shift {
    async fn begun() -> Self {
        let world = World::new().await;
        let version = |version| one(&with(version, r#"{"strategy":"rolling","deadline":"20s"}"#));
        world.deploy(&version("1")).await.unwrap();
        let shop = world.shop().await;
        let web = resource_of(&shop, "web").await;
        let request = world.router.begin(&web, &[]).unwrap();
        let handle = world.platform.deploy(&world.user, &version("2")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(2)).await;
        let instances = world.scheduler.instances().into_iter();
        let candidate = instances.map(|(_, i)| i).find(|i| i.revision == RevisionNumber(2)).unwrap().id;
        Self { world, shop, web, request, handle, candidate }
    }
}

async fn assert_ends(handle: &OperationHandle, shop: &AppHandle) {
    let outcome = handle.finished_within(Duration::from_secs(24 * 3600)).await;
    let goes_on = matches!(&outcome, Err(error) if error.kind() == ErrorKind::Timeout);
    assert!(!goes_on, "{outcome:?}\n{}", shop.explain().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_candidate_fails_while_the_old_side_drains_ends() {
    let Shift { world, shop, request, handle, candidate, .. } = Shift::begun().await;
    // The old instance drains, as the request is open; now the candidate turns out to be bad.
    world.scheduler.behave_where(|w| w.revision == RevisionNumber(2), Behaviour::exits(1));
    world.scheduler.crash(&candidate, 1).unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(request);
    assert_ends(&handle, &shop).await;
}

#[tokio::test(start_paused = true)]
async fn a_release_whose_candidate_turns_unready_while_it_shifts_ends() {
    let Shift { world, shop, request, handle, candidate, .. } = Shift::begun().await;
    world.scheduler.make_unready(&candidate).unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    drop(request);
    assert_ends(&handle, &shop).await;
}

#[tokio::test(start_paused = true)]
async fn the_last_ready_instance_is_not_stopped_while_the_candidate_is_unready() {
    let Shift { world, web, request, handle, candidate, .. } = Shift::begun().await;
    world.scheduler.make_unready(&candidate).unwrap();
    let mut dark = 0;
    for _ in 0..1200 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        dark += u32::from(world.router.pick(&web, &[]).is_none());
    }
    drop(request);
    let outcome = handle.finished_within(LONG).await;
    assert!(dark < 5, "nobody answers for {} s; {outcome:?}", dark / 10);
}

#[tokio::test(start_paused = true)]
async fn a_release_behind_a_return_that_cannot_end_fails_in_time() {
    let world = World::new().await;
    let release = r#"{"strategy":"rolling","surge":"50%","deadline":"20s"}"#;
    let two = |v: &str| {
        let mut s = with(v, release);
        s.replicas = 2;
        one(&s)
    };
    world.deploy(&two("1")).await.unwrap();
    // From now on nothing of revision 1 can start (its image is gone), and revision 2 starts one instance only.
    world
        .scheduler
        .behave_where(|w| w.revision == RevisionNumber(1), Behaviour::cannot_start("no such image"));
    let handle = world.platform.deploy(&world.user, &two("2")).await.unwrap();
    while !world.scheduler.instances().iter().any(|(_, i)| i.revision == RevisionNumber(2) && i.is_ready()) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.scheduler.behave_where(|w| w.revision == RevisionNumber(2), Behaviour::never_ready());
    let failed = handle.finished_within(Duration::from_secs(120)).await.unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Failed);
    let fix = world.platform.deploy(&world.user, &two("3")).await.unwrap();
    let blocked = fix.finished_within(Duration::from_secs(120)).await.unwrap_err();
    assert!(blocked.to_string().contains("could not return to what ran before"), "{blocked}");
    // As told, what keeps it is taken away: then it goes.
    world.shop().await.scale(&name("web"), 1).await.unwrap();
    tokio::time::sleep(LONG).await;
    world.deploy(&two("3")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_aborted_rollback_over_a_start_leaves_nothing_stopped() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let shop = world.shop().await;
    shop.stop().await.unwrap().finished_within(LONG).await.unwrap();
    world.scheduler.behave(&name("db"), Behaviour::healthy().with_startup(Duration::from_secs(30)));
    shop.start().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let rollback = shop.rollback(RevisionNumber(1)).await.unwrap();
    rollback.signal(Signal::Abort).await.unwrap();
    tokio::time::sleep(LONG).await;
    let status = shop.status().await.unwrap();
    assert_eq!(
        (status.running, status.service("api").unwrap().ready, status.service("web").unwrap().ready),
        (true, 3, 1),
        "{}",
        shop.explain().await.unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn a_recreate_never_runs_old_instances_beside_new_ones() {
    let world = World::new().await;
    world.deploy(&one(&with("1", r#""blue-green""#))).await.unwrap();
    world.deploy(&one(&with("2", r#""blue-green""#))).await.unwrap();
    let handle = world.platform.deploy(&world.user, &one(&with("3", r#""recreate""#))).await.unwrap();
    let mut beside = Vec::new();
    for _ in 0..2000 {
        let i = world.scheduler.instances();
        if i.iter().any(|(_, i)| i.revision == RevisionNumber(3)) && i.iter().any(|(_, i)| i.revision.0 < 3) {
            beside = i.iter().map(|(k, i)| format!("{} rev {} {:?}", k.role, i.revision, i.state)).collect();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    handle.finished_within(LONG).await.unwrap();
    assert!(beside.is_empty(), "{beside:?}");
}

#[tokio::test(start_paused = true)]
async fn a_domain_moves_from_one_service_of_an_app_to_another() {
    let world = World::new().await;
    let app = |first: bool| {
        let (mut a, mut z) = (service("1", &[]), service("1", &[]));
        let owner = if first { &mut z } else { &mut a };
        owner.domain.push("shop.test".parse().unwrap());
        AppSpec::new("shop").unwrap().with_service("a", &a).unwrap().with_service("z", &z).unwrap()
    };
    world.deploy(&app(true)).await.unwrap();
    let outcome = world.deploy(&app(false)).await;
    assert!(outcome.is_ok(), "{outcome:?}\n{}", world.shop().await.explain().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn the_header_never_leads_to_what_ran_before_the_old_side() {
    let world = World::new().await;
    let release = r#"{"strategy":"blue-green","header":{"name":"x-canary","value":"1"}}"#;
    world.deploy(&one(&with("1", release))).await.unwrap();
    world.deploy(&one(&with("2", release))).await.unwrap();
    let shop = world.shop().await;
    let web = resource_of(&shop, "web").await;
    world.scheduler.behave_where(
        |w| w.template.command.is_some(),
        Behaviour::healthy().with_startup(Duration::from_secs(60)),
    );
    let mut next = with("3", release);
    next.before_release = Some("./migrate".parse().unwrap());
    world.platform.deploy(&world.user, &one(&next)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let request = world.router.begin(&web, &[("x-canary", "1")]).unwrap();
    let id = request.endpoint().instance.clone();
    let revision = world.scheduler.instances().into_iter().find(|(_, i)| i.id == id).unwrap().1.revision;
    assert_eq!(revision, RevisionNumber(2));
}

#[tokio::test(start_paused = true)]
async fn the_volumes_of_a_removed_app_can_be_listed_and_removed() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let shop = world.shop().await;
    let volume = shop.volumes().await.unwrap()[0].volume.clone();
    shop.remove().await.unwrap().finished_within(LONG).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let (platform, user, tenant) = (&world.platform, &world.user, &volume.tenant);
    let orphans = platform.orphaned_volumes(user, tenant).await.unwrap();
    assert_eq!(orphans.iter().map(|status| &status.volume.id).collect::<Vec<_>>(), [&volume.id]);
    let confirmation = Confirmation::of(volume.id.as_str());
    platform.remove_orphaned_volume(user, tenant, &volume.id, &confirmation).await.unwrap();
    assert!(platform.orphaned_volumes(user, tenant).await.unwrap().is_empty());
    let gone = platform.remove_orphaned_volume(user, tenant, &volume.id, &confirmation).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn plan_says_that_giving_up_a_volume_is_a_downtime() {
    let world = World::new().await;
    let mut web = service("1", &[]);
    web.volumes.insert("data".parse().unwrap(), "1MiB".parse().unwrap());
    world.deploy(&one(&web)).await.unwrap();
    let production = world.platform.production(&world.user).await.unwrap();
    let plan = production.plan(&one(&service("2", &[]))).await.unwrap().to_string();
    assert!(plan.contains("does not answer"), "{plan}");
}

#[tokio::test(start_paused = true)]
async fn a_release_of_a_service_with_no_replicas_starts_none() {
    let world = World::new().await;
    let release = r#"{"canary":["10%"],"every":"60s"}"#;
    world.deploy(&one(&with("1", release))).await.unwrap();
    world.shop().await.scale(&name("web"), 0).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let started = world.scheduler.started();
    world.deploy(&one(&with("2", release))).await.unwrap();
    assert_eq!(world.scheduler.started(), started);
}

#[tokio::test(start_paused = true)]
async fn failed_releases_push_out_no_revision_that_was_released() {
    let world = World::new().await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    world.deploy(&one(&service("2", &[]))).await.unwrap();
    world.scheduler.behave_where(|w| w.revision.0 > 2, Behaviour::cannot_start("no such program"));
    for version in 3..30 {
        world.deploy(&one(&service(&version.to_string(), &[]))).await.unwrap_err();
    }
    let shop = world.shop().await;
    let kept = shop.revisions().await.unwrap();
    assert_eq!(kept.len(), crate::model::limit::REVISIONS);
    assert_eq!(kept.iter().filter(|known| known.released).count(), 2);
    shop.rollback(RevisionNumber(1)).await.unwrap().finished_within(LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_domain_leaves_no_app_behind() {
    let world = World::new().await;
    let mut web = service("1", &[]);
    web.domain.push("shop.example.com".parse().unwrap());
    world.deploy(&one(&web)).await.unwrap();
    let thief = AppSpec::new("thief").unwrap().with_service("web", &web).unwrap();
    assert_eq!(world.deploy(&thief).await.unwrap_err().kind(), ErrorKind::Conflict);
    let production = world.platform.production(&world.user).await.unwrap();
    assert_eq!(production.apps().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_name_of_a_removed_app_is_free_once_its_removal_has_finished() {
    let world = World::new().await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    world.shop().await.remove().await.unwrap().finished_within(LONG).await.unwrap();
    world.deploy(&one(&service("2", &[]))).await.unwrap();
}

/// Each takes the place of the one before, and changes nothing else.
#[tokio::test(start_paused = true)]
async fn operations_that_change_nothing_do_not_fill_the_record() {
    let world = World::new().await;
    let release = r#"{"strategy":"blue-green","approve":true}"#;
    world.deploy(&one(&with("1", release))).await.unwrap();
    let next = one(&with("2", release));
    for number in 0..40 {
        let deployed = world.platform.deploy(&world.user, &next).await;
        deployed.unwrap_or_else(|error| panic!("{number}: {error:?}"));
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let stopped = world.shop().await.stop().await.unwrap();
    stopped.finished_within(LONG).await.unwrap();
    assert_eq!(world.shop().await.operations().await.unwrap().len(), 42);
}
