//! What somebody else changes of an app at rest.

use super::rig::Rig;
use super::*;
use crate::engine::{EngineConfig, EngineEvent};

/// The services that are told to have drifted, until nothing happens any more.
async fn drifted(events: &mut tokio::sync::broadcast::Receiver<EngineEvent>) -> Vec<Resource> {
    let mut told = Vec::new();
    while let Ok(Ok(event)) = tokio::time::timeout(LONG, events.recv()).await {
        if let EngineEvent::Drift(resource) = event {
            told.push(resource);
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_takes_away_is_told_and_put_back() {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    let mut events = world.platform.events();
    world.deploy(&one(&service("1", &[]))).await.unwrap();
    world.deploy(&one(&service("2", &[]))).await.unwrap();
    assert_eq!(drifted(&mut events).await, [], "a release is no drift");
    let scope = Scope::testing(Resource::Platform);
    let [workload] = &rig.scheduler.workloads()[..] else { panic!("one workload") };
    rig.scheduler.remove(&scope, &workload.key).await.unwrap();
    assert_eq!(drifted(&mut events).await, [workload.key.resource()]);
    assert_eq!(rig.scheduler.workloads()[0].applied, workload.applied);
    rig.router.remove(&scope, &workload.key.resource()).await.unwrap();
    assert_eq!(drifted(&mut events).await, [workload.key.resource()]);
    assert!(rig.router.route(&workload.key.resource()).is_some());
}
