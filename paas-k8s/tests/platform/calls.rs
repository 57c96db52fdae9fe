//! How often the API server is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::api::{Patch, PatchParams};
use paas_core::Result;
use paas_core::engine::EngineConfig;
use paas_core::model::Secret;
use paas_k8s::{Connection, ConnectionConfig};
use serde_json::json;

use super::{Case, World, app, cases, config, open_over, serving, unique_name, until};
use crate::fixture::calls::{Call, Calls, Verb};
use crate::fixture::rooms::{broken, client};

pub(super) const CASES: &[(&str, Case)] = cases![
    a_changed_service_is_written_once,
    a_guard_that_was_edited_is_put_back_once,
    an_app_with_secrets_costs_no_call_that_one_without_does_not,
    an_app_that_stands_still_costs_no_call
];

/// How often every app is looked at. Every tenth time its record is read again.
const RESYNC: Duration = Duration::from_secs(1);
/// Nothing asked for so long: the platform has come to rest. What a release still waits for before it ends is shorter.
const REST: Duration = Duration::from_secs(15);
/// More than ten looks, fewer than twenty.
const STILL: Duration = Duration::from_secs(15);

/// A connection whose calls are seen.
pub(super) async fn connection(name: &str) -> Result<(Connection, Arc<Calls>)> {
    let (client, calls) = Calls::of(client().await?);
    Ok((Connection::from_client(client, ConnectionConfig::default().platform(name)).await?, calls))
}

/// An engine that looks often.
pub(super) fn engine() -> EngineConfig {
    let mut engine = EngineConfig::default();
    engine.resync = RESYNC;
    engine
}

/// A platform whose calls are seen.
async fn seen() -> Result<(World, Arc<Calls>)> {
    let name = unique_name();
    let (connection, calls) = connection(&name).await?;
    let platform = open_over(&connection, config().await?, engine()).await?;
    Ok((World::of(name, platform).await?, calls))
}

fn is_list_of_records(call: &Call) -> bool {
    call.verb == Verb::Read && call.path.ends_with("/configmaps")
}

/// What was asked for but for watches and the look at all records.
fn asked(calls: &Calls, from: Instant) -> Vec<Call> {
    let all = calls.since(from).into_iter();
    all.filter(|call| call.verb != Verb::Watch && !is_list_of_records(call)).collect()
}

pub(super) async fn rests(calls: &Calls) -> Result<()> {
    let began = Instant::now();
    let is_over = || async {
        let now = Instant::now();
        Ok((now - began > REST && asked(calls, now - REST).is_empty()).then_some(()))
    };
    until("the platform rests", is_over).await.map(drop)
}

async fn an_app_that_stands_still_costs_no_call() -> Result<()> {
    let (world, calls) = seen().await?;
    world.deploy(&app(&serving("1", 2))).await?;
    rests(&calls).await?;
    let from = Instant::now();
    until("it was looked at often enough", || async { Ok((from.elapsed() > STILL).then_some(())) }).await?;
    let more = asked(&calls, from);
    assert!(more.is_empty(), "{more:?}");
    let lists = calls.since(from).iter().filter(|call| is_list_of_records(call)).count();
    assert!((1..=4).contains(&lists), "{lists} looks at all records");
    world.end().await
}

async fn a_guard_that_was_edited_is_put_back_once() -> Result<()> {
    let (world, calls) = seen().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    rests(&calls).await?;
    let from = Instant::now();
    let (_, quotas) = world.only::<ResourceQuota>().await?;
    let edit = Patch::Merge(json!({ "spec": { "hard": { "pods": "9999" } } }));
    quotas.patch("paas", &PatchParams::default(), &edit).await.map_err(broken)?;
    until("it is put back", || async {
        let spec = quotas.get("paas").await.map_err(broken)?.spec.unwrap();
        Ok((spec.hard.unwrap()["pods"].0 == "200").then_some(()))
    })
    .await?;
    rests(&calls).await?;
    let asked = asked(&calls, from);
    let (written, read): (Vec<&Call>, Vec<&Call>) = asked.iter().partition(|call| call.verb == Verb::Write);
    // Two policies, two accounts, the quota, the limits, the binding and the namespace.
    assert_eq!(written.len(), 8, "{written:?}");
    assert!(written.iter().all(|call| !call.is_of_records()), "{written:?}");
    // The tenant, its environments, and the namespace.
    assert!(read.len() <= 3, "{read:?}");
    world.end().await
}

async fn a_changed_service_is_written_once() -> Result<()> {
    let (world, calls) = seen().await?;
    world.deploy(&app(&serving("1", 2))).await?;
    rests(&calls).await?;
    let from = Instant::now();
    world.deploy(&app(&serving("2", 2))).await?;
    rests(&calls).await?;
    let asked = asked(&calls, from);
    let written: Vec<&Call> =
        asked.iter().filter(|call| call.verb == Verb::Write && !call.is_of_records()).collect();
    assert!(written.len() == 1 && written[0].path.contains("/deployments/"), "{written:?}");
    world.end().await
}

/// What a release with secrets asks for beside the records: the values, where the object that holds them is made, and it.
async fn an_app_with_secrets_costs_no_call_that_one_without_does_not() -> Result<()> {
    let (world, calls) = seen().await?;
    let tenant = world.user.tenant().cloned().unwrap();
    world.platform.put_secret(&world.user, &tenant, &"TOKEN".parse()?, Secret::new("s3cret")?).await?;
    let with_secret = |version| {
        let mut web = serving(version, 1);
        web.secrets.push("TOKEN".parse().unwrap());
        app(&web)
    };
    world.deploy(&with_secret("1")).await?;
    rests(&calls).await?;
    let from = Instant::now();
    world.deploy(&with_secret("2")).await?;
    rests(&calls).await?;
    let room = world.only::<Deployment>().await?.0.metadata.namespace.unwrap();
    let asked = asked(&calls, from);
    let there: Vec<&Call> = asked.iter().filter(|call| call.path.contains(&room)).collect();
    assert!(there.len() == 1 && there[0].path.contains("/deployments/"), "{there:?}");
    world.end().await
}
