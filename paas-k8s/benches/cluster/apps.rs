//! Many apps deployed, against `kubectl apply --server-side` and a plain client with the same documents.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use paas_core::model::AppSpec;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::line::{Goal, line, rounds};
use crate::seen::{Call, Verb};
use crate::stage::{Stage, processor_time, serving, until};
use crate::wire::Applied;
use crate::{Outcome, nodes, stage};

const ROUNDS: usize = 5;
const APPS: usize = 100;
const SERVICES: usize = 3;
/// As many as the engine looks at at once.
const AT_ONCE: usize = 16;
/// A node takes 110 pods.
const NODES: usize = 50;

fn app(number: usize) -> AppSpec {
    (0..SERVICES).fold(AppSpec::new(format!("app-{number}")).unwrap(), |app, service| {
        app.with_service(format!("s-{service}"), &serving("1", 1)).unwrap()
    })
}

/// What one round took, in seconds.
struct Round {
    written: f64,
    ready: f64,
    processor: Duration,
    documents: Vec<Value>,
    calls: Vec<Call>,
}

async fn ours(stage: &Stage, round: usize) -> Outcome<Round> {
    stage.wire.keep_applied();
    let (began, used) = (Instant::now(), processor_time());
    let apps = (round * APPS..(round + 1) * APPS).map(app);
    let deployed = stream::iter(apps).map(|app| async move { stage.deploy(&app).await });
    let operations: Vec<_> = deployed.buffer_unordered(AT_ONCE).try_collect().await?;
    for operation in operations {
        operation.finished_within(stage::SOON).await?;
    }
    let (ready, processor) = (began.elapsed().as_secs_f64(), processor_time() - used);
    let calls = stage.calls.since(began);
    let applied = stage.wire.take_applied();
    let last = applied.iter().map(|own| own.answered).max().ok_or("nothing was applied")?;
    let documents = applied.into_iter().map(|Applied { object, .. }| object).collect();
    Ok(Round { written: (last - began).as_secs_f64(), ready, processor, documents, calls })
}

/// How often the API server was asked for each app.
fn tell(calls: &[Call], apps: usize) {
    let each = |name: &str, is_one: &dyn Fn(&&Call) -> bool| {
        let count = calls.iter().filter(is_one).count() as f64 / apps as f64;
        line(&format!("each app: {name}"), count, None, Goal::None);
    };
    let is_own = |call: &&Call| call.verb == Verb::Write && !call.is_of_records();
    each("writes of its objects", &is_own);
    each("writes of the platform's records", &|call| call.verb == Verb::Write && call.is_of_records());
    each("reads", &|call| call.verb == Verb::Read);
}

/// The same documents in another namespace, as nobody's platform: each object once, as it was made.
fn moved(documents: &[Value], namespace: &str) -> Vec<Value> {
    let mut seen = std::collections::HashSet::new();
    let of_apps = |own: &&Value| {
        own["metadata"]["namespace"].is_string() && !own["metadata"]["labels"]["paas-sdk.dev/app"].is_null()
    };
    let own = documents.iter().filter(of_apps);
    let first = own.filter(|own| seen.insert((own["kind"].to_string(), own["metadata"]["name"].to_string())));
    let all = first.map(|object| {
        let mut object = object.clone();
        object["metadata"]["namespace"] = json!(namespace);
        object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
        for labels in ["/metadata/labels", "/spec/template/metadata/labels"] {
            if let Some(labels) = object.pointer_mut(labels) {
                labels["paas-sdk.dev/platform"] = json!("peer");
            }
        }
        object
    });
    all.collect()
}

/// A namespace that takes the pods of the documents.
async fn namespace(client: &Client, name: &str, platform: &str) -> Outcome {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Removed with the platform's own.
    let labels = json!({ "paas-sdk.dev/platform": platform });
    let own = json!({ "metadata": { "name": name, "labels": labels } });
    namespaces.create(&PostParams::default(), &serde_json::from_value(own)?).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), name);
    let account = json!({ "metadata": { "name": "paas-app" } });
    accounts.create(&PostParams::default(), &serde_json::from_value(account)?).await?;
    Ok(())
}

/// Deals the documents out, each part in their order.
fn parts(documents: &[Value]) -> Vec<Vec<Value>> {
    let part = |part: usize| documents.iter().skip(part).step_by(AT_ONCE).cloned().collect();
    (0..AT_ONCE).map(part).collect()
}

async fn kubectl(documents: &[Value], folder: &std::path::Path) -> Outcome<f64> {
    let mut files = Vec::new();
    for (number, items) in parts(documents).into_iter().enumerate() {
        let file = folder.join(format!("{number}.json"));
        std::fs::write(&file, json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string())?;
        files.push(file);
    }
    let began = Instant::now();
    let runs = files.into_iter().map(|file| async move {
        let mut kubectl = Command::new("kubectl");
        kubectl.args(["apply", "--server-side", "--field-manager=peer", "-f"]).arg(file);
        let output = kubectl.output().await?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned().into())
        }
    });
    stream::iter(runs)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<()>>()
        .await
        .map_err(|error: crate::Failure| error)?;
    Ok(began.elapsed().as_secs_f64())
}

async fn plain(client: &Client, documents: &[Value]) -> Outcome<f64> {
    let began = Instant::now();
    let writes = documents.iter().map(|object| {
        let text =
            |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (group, version) = text("/apiVersion").split_once('/').map_or_else(
            || (String::new(), text("/apiVersion")),
            |(group, version)| (group.to_owned(), version.to_owned()),
        );
        let kind = ApiResource::from_gvk(&GroupVersionKind { group, version, kind: text("/kind") });
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &text("/metadata/namespace"), &kind);
        let name = text("/metadata/name");
        async move { api.patch(&name, &PatchParams::apply("peer"), &Patch::Apply(object)).await.map(drop) }
    });
    stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(began.elapsed().as_secs_f64())
}

/// Waits until all Deployments of a namespace have what they ask for; how long that took.
async fn settled(client: &Client, namespace: &str, began: Instant) -> Outcome<f64> {
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
    until("all are ready", || async {
        let all = deployments.list(&ListParams::default()).await?.items;
        let is_ready =
            |own: &Deployment| own.status.as_ref().and_then(|status| status.ready_replicas) == Some(1);
        Ok(all.iter().all(is_ready).then_some(()))
    })
    .await?;
    Ok(began.elapsed().as_secs_f64())
}

pub(crate) async fn measure() -> Outcome {
    let client = stage::client().await?;
    nodes::make(&client, NODES).await?;
    let stage = Stage::open("apps").await?;
    let folder = tempfile::tempdir()?;
    let (mut by_kubectl, mut by_client, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    let (mut used, mut objects, mut calls) = (Duration::ZERO, 0, Vec::new());
    for round in 0..ROUNDS {
        let own = ours(&stage, round).await?;
        used += own.processor;
        calls.extend_from_slice(&own.calls);
        let names = ["kubectl", "client"].map(|peer| format!("{}-{peer}-{round}", stage.name));
        for name in &names {
            namespace(&client, name, &stage.name).await?;
        }
        let documents = moved(&own.documents, &names[0]);
        objects += documents.len();
        let began = Instant::now();
        by_kubectl.push((own.written, kubectl(&documents, folder.path()).await?));
        ready.push((own.ready, settled(&client, &names[0], began).await?));
        by_client.push((own.written, plain(&client, &moved(&own.documents, &names[1])).await?));
        settled(&client, &names[1], Instant::now()).await?;
    }
    let all = ROUNDS * APPS;
    let name = format!("{all} apps of {SERVICES} services");
    line(&format!("{name}: objects"), objects as f64, None, Goal::None);
    let each = used.as_secs_f64() * 1e3 / all as f64;
    line(&format!("{name}: our processor time for each, ms"), each, None, Goal::None);
    tell(&calls, all);
    rounds("100 apps written, s, against kubectl", &by_kubectl, Goal::RatioAtMost(1.0));
    rounds("100 apps written, s, against a plain client", &by_client, Goal::None);
    rounds("100 apps ready, s, against kubectl", &ready, Goal::None);
    stage.end().await?;
    nodes::remove(&client).await
}
