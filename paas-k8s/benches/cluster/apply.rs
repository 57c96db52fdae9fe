//! How many applies a second there are, against those of a plain client.

use std::sync::Arc;
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use paas_core::memory::MemorySecretStore;
use paas_core::model::{
    ByteSize, CpuQuantity, Environment, EnvironmentName, Limits, RevisionNumber, Source, Template, Tenant,
    TenantName, Timestamp, Workload,
};
use paas_core::port::{Scheduler, Tenancy};
use paas_k8s::{KubeScheduler, KubeTenancy, SchedulerConfig};
use paas_testkit::World;
use serde_json::{Value, json};

use crate::Outcome;
use crate::line::{Goal, rounds};
use crate::stage::{client, connect, remove, roomy, unique};
use crate::wire::Applied;

const ROUNDS: usize = 7;
/// How many objects each side writes to.
const OBJECTS: usize = 64;
const WRITES: usize = 128;

pub(crate) fn template(replicas_limits: u32) -> Template {
    let mut template = Template::new(vec![Source::Image("testbed.local/instance:1".into())]);
    template.port = Some(8080);
    template.limits =
        Limits { cpu: Some(CpuQuantity { millis: replicas_limits }), memory: Some(ByteSize(32 << 20)) };
    template
}

/// Makes the namespace of a tenant.
pub(crate) async fn room(tenancy: &KubeTenancy, world: &World) -> Outcome {
    let tenant = Tenant::new(world.tenant.clone(), TenantName::new("acme")?, Timestamp(0));
    let environment =
        Environment::new(world.environment.clone(), world.tenant.clone(), EnvironmentName::production());
    tenancy.apply(&world.platform(), &tenant, &[environment]).await?;
    Ok(())
}

/// Applies a second of ours; each is of a workload with another revision, so that one object is written and no pod.
async fn ours(
    scheduler: &KubeScheduler,
    world: &World,
    workloads: &[Workload],
    at_once: usize,
    round: u64,
) -> Outcome<f64> {
    let began = Instant::now();
    let writes = (0..WRITES).map(|number| {
        let mut workload = workloads[number % OBJECTS].clone();
        workload.revision = RevisionNumber(2 + round * WRITES as u64 + number as u64);
        async move { scheduler.apply(&world.scope(), &workload).await.map(drop) }
    });
    stream::iter(writes).buffer_unordered(at_once).try_collect::<Vec<()>>().await?;
    Ok(WRITES as f64 / began.elapsed().as_secs_f64())
}

/// Applies a second of a plain client, of the same documents under other names.
async fn plain(api: &Api<Deployment>, objects: &[Value], at_once: usize, round: u64) -> Outcome<f64> {
    let params = PatchParams::apply("peer");
    let began = Instant::now();
    let writes = (0..WRITES).map(|number| {
        let mut object = objects[number % OBJECTS].clone();
        let changed = round * WRITES as u64 + number as u64;
        object["metadata"]["annotations"]["paas-sdk.dev/applied"] = json!(format!("peer-{changed}"));
        let (api, params) = (api.clone(), params.clone());
        async move {
            let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            api.patch(&name, &params, &Patch::Apply(&object)).await.map(drop)
        }
    });
    stream::iter(writes).buffer_unordered(at_once).try_collect::<Vec<()>>().await?;
    Ok(WRITES as f64 / began.elapsed().as_secs_f64())
}

/// The same Deployments, in another's name.
fn copies(applied: Vec<Applied>) -> Vec<Value> {
    let deployments = applied.into_iter().filter(|own| own.path.contains("/deployments/"));
    let copy = deployments.map(|Applied { mut object, .. }| {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        object["metadata"]["name"] = json!(format!("peer-{name}"));
        object["metadata"]["labels"]["paas-sdk.dev/platform"] = json!("peer");
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        object
    });
    copy.collect()
}

async fn scheduler(
    client: &Client,
    name: &str,
) -> Outcome<(KubeScheduler, Vec<Workload>, World, Vec<Value>)> {
    let (connection, _, wire) = connect(client, name).await?;
    let world = World::new();
    room(&KubeTenancy::new(connection.clone()).with_config(roomy()), &world).await?;
    let secrets = Arc::new(MemorySecretStore::default());
    let scheduler = KubeScheduler::open(connection, secrets, SchedulerConfig::default()).await?;
    wire.keep_applied();
    let mut workloads = Vec::new();
    for _ in 0..OBJECTS {
        let workload = world.workload(template(10), 0)?;
        scheduler.apply(&world.scope(), &workload).await?;
        workloads.push(workload);
    }
    let copies = copies(wire.take_applied());
    Ok((scheduler, workloads, world, copies))
}

pub(crate) async fn measure() -> Outcome {
    let (name, client) = (unique("apply"), client().await?);
    let (scheduler, workloads, world, copies) = scheduler(&client, &name).await?;
    assert_eq!(copies.len(), OBJECTS);
    let namespace = paas_k8s::namespace(&name, &world.tenant, &world.environment);
    let api: Api<Deployment> = Api::namespaced(client.clone(), &namespace);
    // The first of each makes them.
    plain(&api, &copies, 8, 1_000).await?;
    let mut round = 0;
    for at_once in [1, 8, 32] {
        let mut all = Vec::new();
        for _ in 0..ROUNDS {
            round += 1;
            let own = ours(&scheduler, &world, &workloads, at_once, round).await?;
            all.push((own, plain(&api, &copies, at_once, round).await?));
        }
        rounds(&format!("applies a second, {at_once} at once"), &all, Goal::RatioAtLeast(0.9));
    }
    drop(scheduler);
    remove(&client, &name).await
}
