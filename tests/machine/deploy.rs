//! Releases that fail, and what their error says.

use std::time::Duration;

use paas::ErrorKind;
use paas::model::ServiceSpec;
use tokio::time::Instant;

use crate::cases;
use crate::program::Behaviour;
use crate::world::{DEADLINE, Home, World, app, web, within};

cases![
    a_service_that_never_becomes_ready_fails_and_the_old_one_serves_on,
    a_service_that_exits_zero_fails_and_the_old_one_serves_on,
    a_failed_release_tells_the_exit_code_and_the_last_lines,
    a_missing_executable_fails_at_once_and_is_named,
    a_first_release_that_fails_leaves_nothing_and_the_next_succeeds,
    a_newer_release_takes_the_place_of_one_that_goes_on,
];

/// Releases `broken` over a revision that serves, and gives the error.
async fn fails_over_a_good_one(broken: &ServiceSpec) -> paas::Error {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    let mut good = web(Behaviour::Serve, "one");
    good.replicas = 2;
    world.deploy(&app(&good)).await.unwrap();
    let load = world.load();
    load.more(20).await;
    let before = world.instances("web").await;
    let error = world.fails(&app(broken)).await;
    load.all_by(&["one"]).await;
    let status = world.status().await;
    assert_eq!(status.promoted.map(|revision| revision.0), Some(1));
    let after = world.instances("web").await;
    let ids = |instances: &[paas::model::InstanceStatus]| {
        instances.iter().map(|instance| (instance.id.clone(), instance.restarts)).collect::<Vec<_>>()
    };
    assert_eq!(ids(&after), ids(&before), "the old instances were not touched, and nothing else is left");
    world.end().await;
    error
}

async fn a_service_that_never_becomes_ready_fails_and_the_old_one_serves_on() {
    let mut broken = web(Behaviour::Unready, "two");
    broken.release = Some(within(Duration::from_secs(1)));
    let text = fails_over_a_good_one(&broken).await.to_string();
    assert!(text.contains("web: 0 of 1 instances were ready after 1 s"), "{text}");
    assert!(text.contains("/ready") && text.contains("503"), "{text}");
}

async fn a_service_that_exits_zero_fails_and_the_old_one_serves_on() {
    let error = fails_over_a_good_one(&web(Behaviour::Exit(0), "two")).await;
    let text = error.to_string();
    assert_eq!(error.context("exit code"), Some("0"), "{text}");
    assert!(text.contains("exit code 0") && text.contains("| starting"), "{text}");
}

async fn a_failed_release_tells_the_exit_code_and_the_last_lines() {
    let error = fails_over_a_good_one(&web(Behaviour::Exit(42), "two")).await;
    let text = error.to_string();
    assert_eq!(error.context("exit code"), Some("42"), "{text}");
    assert!(text.contains("exit code 42") && text.contains("| starting"), "{text}");
    // What is no text, or would change a terminal, is written out.
    assert!(text.contains("| fatal: no database \u{fffd}\\0\\u{1b}[31m"), "{text}");
}

async fn a_missing_executable_fails_at_once_and_is_named() {
    let mut broken = web(Behaviour::Serve, "two");
    broken.run = ServiceSpec::run(["/nowhere/to-be-found"]).unwrap().run;
    let begun = Instant::now();
    let text = fails_over_a_good_one(&broken).await.to_string();
    assert!(
        text.contains("the executable does not exist") && text.contains("/nowhere/to-be-found"),
        "{text}"
    );
    // Far from the two minutes that instances have to become ready.
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
}

async fn a_first_release_that_fails_leaves_nothing_and_the_next_succeeds() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    let error = world.fails(&app(&web(Behaviour::Exit(1), "one"))).await;
    assert_eq!(error.context("exit code"), Some("1"), "{error}");
    assert_eq!(world.instances("web").await, []);
    assert_eq!(world.status().await.promoted, None);
    world.deploy(&app(&web(Behaviour::Serve, "two"))).await.unwrap();
    world.load().all_by(&["two"]).await;
    world.end().await;
}

async fn a_newer_release_takes_the_place_of_one_that_goes_on() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    let load = world.load();
    let stuck = world.environment.deploy(&app(&web(Behaviour::Unready, "two"))).await.unwrap();
    crate::world::eventually("the second revision is on its way", async || {
        (world.instances("web").await.len() == 2).then_some(())
    })
    .await;
    load.more(20).await;
    world.deploy(&app(&web(Behaviour::Serve, "three"))).await.unwrap();
    let superseded = stuck.finished_within(DEADLINE).await.unwrap_err();
    assert_eq!(superseded.kind(), ErrorKind::Conflict, "{superseded}");
    load.all_by(&["one", "three"]).await;
    assert!(load.of("three") > 0);
    assert_eq!(world.status().await.promoted.map(|revision| revision.0), Some(3));
    world.end().await;
}
