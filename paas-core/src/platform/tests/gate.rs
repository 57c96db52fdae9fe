//! Releases that end by what is written.

use bytes::Bytes;

use super::*;
use crate::memory::MemoryLogStore;
use crate::model::{LogBatch, LogOrigin, LogPosition, LogStream};
use crate::port::LogStore;

/// A world whose lines are kept there.
async fn world(store: &MemoryLogStore) -> World {
    let scheduler = MemoryScheduler::new(Clock::runtime(Timestamp(1_000_000)));
    let store = Arc::new(store.clone());
    World::of(&scheduler, Arc::new(scheduler.clone()), |builder| builder.log_store(store)).await
}

/// A release in one held step that five lines end.
const CANARY: &str =
    r#"{"canary":["50%"],"every":"1h","abort_if":[{"log":"ERROR","count":5,"within":"1m"}]}"#;

/// Instances of a revision write lines.
async fn write(world: &World, store: &MemoryLogStore, revision: u64, lines: &str) {
    let instances = world.scheduler.instances();
    let own = instances.iter().find(|(_, instance)| instance.revision == RevisionNumber(revision));
    let (key, instance) = own.expect("the revision has an instance");
    let origin = LogOrigin::new(&key.resource(), instance.revision, instance.id.clone(), LogStream::Stdout);
    let now = world.platform.0.clock.now();
    let position = LogPosition::offset(1, now.0);
    let batch = LogBatch::new(origin.unwrap(), Bytes::from(lines.to_owned()), now, position);
    store.append(&Scope::testing(Resource::Platform), &[batch]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_writes_errors_goes_back() {
    let store = MemoryLogStore::new();
    let world = world(&store).await;
    world.deploy(&one(&with("1", CANARY))).await.unwrap();
    let operation = world.platform.deploy(&world.user, &one(&with("2", CANARY))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Of the old revision, and too few within the time.
    write(&world, &store, 1, &"ERROR x\n".repeat(10)).await;
    write(&world, &store, 2, "ERROR 1\nERROR 2\nERROR 3\n").await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    write(&world, &store, 2, "ERROR 4\nERROR 5\nERROR 6\nfine\n").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(world.ready().get("2"), Some(&1));
    write(&world, &store, 2, "ERROR 7\nERROR 8\n").await;
    let failed = operation.finished_within(Duration::from_secs(20)).await.unwrap_err();
    let text = failed.to_string();
    assert!(text.contains("5 lines match `\"error\"` within 1m"), "{text}");
    assert_eq!(world.ready().get("1"), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn a_platform_that_keeps_no_lines_says_that_the_rule_never_fires() {
    let world = World::new().await;
    let production = world.platform.production(&world.user).await.unwrap();
    let plan = production.plan(&one(&with("1", CANARY))).await.unwrap();
    let warnings: Vec<_> = plan.warnings.iter().map(|warning| warning.text.as_str()).collect();
    assert!(warnings.iter().any(|text| text.contains("keeps no log lines")), "{warnings:?}");
}
