//! What is kept of a cluster's objects: bytes in use, as the allocator counts them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use paas_core::memory::MemorySecretStore;
use paas_core::model::Resource;
use paas_core::model::Scope;
use paas_core::port::{Scheduler, Selector};
use paas_k8s::{Connection, KubeScheduler, KubeTenancy, SchedulerConfig};
use paas_testkit::World;

use crate::apply::{room, template};
use crate::line::{Goal, line};
use crate::seen::{Calls, Verb};
use crate::stage::{client, connect, remove, roomy, unique, until};
use crate::{MEMORY, Outcome, nodes, others};

const NODES: usize = 1_000;
const WORKLOADS: usize = 1_000;
const REPLICAS: u32 = 10;
const TENANTS: usize = 10;
const OTHERS: usize = 10_000;
/// How many calls are made at once.
const AT_ONCE: usize = 16;

async fn open(connection: &Connection) -> Outcome<KubeScheduler> {
    let secrets = Arc::new(MemorySecretStore::default());
    Ok(KubeScheduler::open(connection.clone(), secrets, SchedulerConfig::default()).await?)
}

async fn ready(scheduler: &KubeScheduler) -> Outcome<usize> {
    let listed = scheduler.list(&Scope::testing(Resource::Platform), &Selector::All).await?;
    Ok(listed.iter().map(|workload| workload.ready().count()).sum())
}

/// Makes all workloads, and waits until all of their pods are ready.
async fn fill(connection: &Connection) -> Outcome {
    let scheduler = open(connection).await?;
    let tenancy = KubeTenancy::new(connection.clone()).with_config(roomy());
    for _ in 0..TENANTS {
        let world = World::new();
        room(&tenancy, &world).await?;
        let workloads = (0..WORKLOADS / TENANTS).map(|_| world.workload(template(10), REPLICAS));
        let workloads: Vec<_> = workloads.collect::<paas_core::Result<_>>()?;
        let scope = world.scope();
        let applied = workloads.iter().map(|workload| scheduler.apply(&scope, workload));
        stream::iter(applied).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    }
    all_ready(&scheduler).await
}

/// Waits until all pods are ready, for as long as there are more from time to time.
async fn all_ready(scheduler: &KubeScheduler) -> Outcome {
    let mut seen = 0;
    while seen < WORKLOADS * REPLICAS as usize {
        seen = until("more pods are ready", || async {
            let now = ready(scheduler).await?;
            Ok((now > seen).then_some(now))
        })
        .await?;
    }
    Ok(())
}

/// Bytes in use, once nothing comes any more.
async fn in_use() -> f64 {
    tokio::time::sleep(Duration::from_secs(3)).await;
    MEMORY.current_usage() as f64
}

/// Cuts all watches so that everything is listed again; the most bytes that were in use meanwhile.
async fn relist(calls: &Calls, wire: &crate::wire::Wire) -> Outcome<f64> {
    let from = std::time::Instant::now();
    MEMORY.reset_peak_usage();
    wire.cut();
    until("everything is listed again", || async {
        let calls = calls.since(from);
        // Of each kind a watch is refused, and opened anew after the list. These are the longest lists.
        let watches = |kind| {
            let of_kind = calls.iter().filter(move |call| call.path.ends_with(kind));
            of_kind.filter(|call| call.verb == Verb::Watch).count()
        };
        Ok((watches("/pods") >= 2 && watches("/events") >= 2).then_some(()))
    })
    .await?;
    in_use().await;
    Ok(MEMORY.peak_usage() as f64)
}

pub(crate) async fn measure() -> Outcome {
    let (name, client) = (unique("memory"), client().await?);
    nodes::make(&client, NODES).await?;
    let (connection, calls, wire) = connect(&client, &name).await?;
    fill(&connection).await?;
    let before = in_use().await;
    let scheduler = open(&connection).await?;
    let objects = WORKLOADS + ready(&scheduler).await?;
    let steady = in_use().await;
    let each = (steady - before) / 1_024.0 / objects as f64;
    line(
        &format!("{objects} watched objects on {NODES} nodes: KiB for each"),
        each,
        None,
        Goal::AtMost(12.0),
    );
    let peak = relist(&calls, &wire).await?;
    let grown = (peak - before) / (steady - before);
    line("all of them listed again: most memory by steady", grown, None, Goal::AtMost(1.3));
    let settled = in_use().await;
    others::make(&name, OTHERS).await?;
    let added = (in_use().await - settled) / 1_024.0;
    let title = format!("{OTHERS} Deployments of others, a warning each: KiB more");
    line(&title, added.max(0.0), None, Goal::AtMost(100.0));
    let peak = relist(&calls, &wire).await?;
    let grown = (peak - before) / (steady - before);
    line("all listed again beside them: most memory by steady", grown, None, Goal::AtMost(1.3));
    drop(scheduler);
    others::remove(&client, &name).await?;
    remove(&client, &name).await?;
    nodes::remove(&client).await
}
