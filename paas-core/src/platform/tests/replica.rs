//! Leaders that follow each other, meet, or have a store in trouble.

use std::sync::atomic::Ordering;

use super::rig::{Rig, follower, named};
use super::*;
use crate::engine::EngineConfig;
use crate::model::AppName;

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_the_next_leader_need_not_wait() {
    for next in ["single", "other"] {
        let rig = Rig::new();
        let world = rig.world(EngineConfig::default()).await;
        world.deploy(&one(&service("1", &[]))).await.unwrap();
        world.platform.shutdown().await;
        assert_eq!(
            world.platform.0.engine.remembered(),
            0,
            "what others change from now on is not told here"
        );
        let world = rig.world(named(next)).await;
        let began = tokio::time::Instant::now();
        world.deploy(&one(&service("2", &[]))).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(2), "{next}: {:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_same_replica_need_not_wait() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    drop(world);
    let world = rig.world(EngineConfig::default()).await;
    let began = tokio::time::Instant::now();
    world.deploy(&one(&service("2", &[]))).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// A term begins anew only where it has to: each makes a leader read everything, and write what it changes once more.
#[tokio::test(start_paused = true)]
async fn a_renewal_that_fails_or_is_not_answered_ends_no_term() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    world.deploy(&one(&service("0", &[]))).await.unwrap();
    let epoch = rig.state.epoch();
    for trouble in [&rig.state.refused_renewals, &rig.state.lost_renewals] {
        trouble.store(2, Ordering::SeqCst);
        tokio::time::sleep(LONG).await;
        assert_eq!(trouble.load(Ordering::SeqCst), 0);
        assert_eq!(rig.state.epoch(), epoch);
    }
    // Things happen while a renewal is on its way.
    rig.state.renewal_ms.store(3_000, Ordering::SeqCst);
    for version in 1..20 {
        world.deploy(&one(&service(&format!("{version}"), &[]))).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(rig.state.epoch(), epoch);
}

#[tokio::test(start_paused = true)]
async fn a_term_that_cannot_be_renewed_ends() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    let epoch = rig.state.epoch();
    rig.state.refused_renewals.store(5, Ordering::SeqCst);
    tokio::time::sleep(LONG).await;
    assert_eq!(rig.state.refused_renewals.load(Ordering::SeqCst), 0);
    assert_eq!(rig.state.epoch(), epoch + 1);
}

/// Somebody deletes it to have another replica lead, or restores a backup without it: terms go on after those before.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_deleted_keeps_nobody_from_leading() {
    let rig = Rig::new();
    for version in ["1", "2"] {
        let world = rig.world(EngineConfig::default()).await;
        world.deploy(&one(&service(version, &[]))).await.unwrap();
    }
    let scope = Scope::testing(Resource::Platform);
    let lease = rig.state.lease();
    rig.state.inner.delete(&scope, &lease.key, lease.version).await.unwrap();
    let world = rig.world(EngineConfig::default()).await;
    let began = tokio::time::Instant::now();
    world.deploy(&one(&service("3", &[]))).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn forgetting_an_app_leaves_the_name_of_its_successor() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    rig.state.fail_app_delete.store(true, Ordering::SeqCst);
    let removal = world.shop().await.remove().await.unwrap();
    removal.finished_within(LONG).await.unwrap();
    while rig.state.fail_app_delete.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Removed, as far as people see; they release it again.
    let handle = world.platform.deploy(&world.user, &one(&service("2", &[]))).await.unwrap();
    handle.finished_within(LONG).await.unwrap();
    tokio::time::sleep(LONG).await;
    let production = world.platform.production(&world.user).await.unwrap();
    println!(
        "apps: {:?}",
        production.apps().await.unwrap().iter().map(|a| (a.id.clone(), a.name.clone())).collect::<Vec<_>>()
    );
    production.app(&AppName::new("shop").unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_apps_missing_revision_stops_nobody_else() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    let scope = Scope::testing(Resource::Platform);
    let lost = rig.state.inner.records().into_iter().find(|r| r.key.kind.as_str() == "revision").unwrap();
    rig.state.inner.delete(&scope, &lost.key, lost.version).await.unwrap();
    drop(world);
    let world = rig.world(EngineConfig::default()).await;
    let mut other = one(&service("1", &[]));
    other.app = "other".parse().unwrap();
    world.deploy(&other).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slow_store_does_not_keep_the_leader_from_leading() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    // 30 apps with 20 kept revisions each.
    for app in 0..30 {
        for version in 0..20 {
            let mut spec = one(&service(&format!("{version}"), &[]));
            spec.app = format!("shop-{app}").parse().unwrap();
            world.deploy(&spec).await.unwrap();
        }
    }
    drop(world);
    rig.state.latency_ms.store(30, Ordering::SeqCst);
    let world = rig.world(EngineConfig::default()).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn gc_keeps_a_revision_that_is_released_again_meanwhile() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    for version in 0..=crate::model::limit::REVISIONS + 1 {
        world.deploy(&one(&service(&format!("{version}"), &[]))).await.unwrap();
    }
    // Version 0 is trimmed; it is garbage in an hour.
    rig.state.slow_gc.store(true, Ordering::SeqCst);
    for _ in 0..7 {
        rig.state.gc_waits.notified().await;
    }
    // The collector has listed, an hour has gone by: now somebody releases version 0 again.
    world.deploy(&one(&service("0", &[]))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let again = world.deploy(&one(&service("new", &[]))).await;
    assert!(again.is_ok(), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn two_replicas_of_the_default_name_do_not_take_turns() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    let _second = rig.platform(EngineConfig::default()).await;
    let before = rig.state.inner.writes();
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    tokio::time::sleep(LONG).await;
    let writes = rig.state.inner.writes() - before;
    assert!(writes < 400, "{writes} writes, where only a lease is to be kept");
    let epoch = rig.state.epoch();
    assert!(epoch <= 2, "epoch {epoch}");
}

#[tokio::test(start_paused = true)]
async fn deploys_without_a_leader_do_not_break_the_app() {
    let rig = Rig::new();
    let world = rig.world(follower()).await;
    let mut count = 0;
    let refused = loop {
        match world.platform.deploy(&world.user, &one(&service("1", &[]))).await {
            Ok(_) if count < 3_000 => count += 1,
            Ok(_) => panic!("{count} deploys were accepted that nobody carries out"),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    let leader = rig.world(named("leader")).await;
    tokio::time::sleep(LONG).await;
    let status = leader.shop().await.status().await.unwrap();
    assert_eq!(status.promoted, Some(RevisionNumber(1)));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_stands_still_is_not_read() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(20)).await;
    rig.state.reads.store(0, Ordering::SeqCst);
    // It is looked at every 30 s.
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(rig.state.reads.load(Ordering::SeqCst), 0);
    world.deploy(&one(&service("2", &[]))).await.unwrap();
    assert!(rig.state.reads.load(Ordering::SeqCst) > 0);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_is_made_while_all_are_listed_is_listened_for() {
    let rig = Rig::new();
    rig.state.slow_apps.store(true, Ordering::SeqCst);
    // It is ready long after the list, which lacks the app, has arrived, and before the next look at everything.
    rig.scheduler.behave_by_default(Behaviour::healthy().with_startup(Duration::from_secs(15)));
    let world = rig.world(EngineConfig::default()).await;
    while rig.state.slow_apps.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let began = tokio::time::Instant::now();
    let deployed = world.platform.deploy(&world.user, &one(&service("1", &[]))).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "the list has arrived too early");
    deployed.finished_within(LONG).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_cannot_be_read_is_not_told_as_something_missing() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    let (platform, user) = (&world.platform, &world.user);
    let (acme, production) = ("acme".parse().unwrap(), "production".parse().unwrap());
    for kind in [ErrorKind::Unavailable, ErrorKind::Denied] {
        *rig.state.unreadable.lock().unwrap() = Some(kind);
        for found in [platform.production(user).await, platform.environment(user, &acme, &production).await] {
            assert_eq!(found.unwrap_err().kind(), kind);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_cannot_write_down_is_explained_all_the_same() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    let explained = async || world.shop().await.explain().await.unwrap();
    assert_eq!(explained().await.trouble, None);
    let operation = world.platform.deploy(&world.user, &one(&service("2", &[]))).await.unwrap();
    rig.state.full.store(true, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60)).await;
    let text = explained().await.to_string();
    assert!(text.contains("cannot go on with it: cannot write") && text.contains("disk full"), "{text}");
    rig.state.full.store(false, Ordering::SeqCst);
    operation.finished_within(LONG).await.unwrap();
    assert_eq!(explained().await.trouble, None);
}
