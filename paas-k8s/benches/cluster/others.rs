//! What others have on the cluster: Deployments that run nothing, and what is warned of about them.

use std::fmt::Debug;

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::api::PostParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::Outcome;
use crate::stage::{client, remove_labelled};

/// Over how many namespaces they are spread.
const NAMESPACES: usize = 10;
/// How many calls are made at once.
const AT_ONCE: usize = 16;
/// Tells whose they are.
const LABEL: &str = "others-of";

fn namespace(name: &str, number: usize) -> String {
    format!("{name}-others-{}", number % NAMESPACES)
}

/// Makes so many Deployments, each with the warning that costs most to find out that it is none of ours.
pub(crate) async fn make(name: &str, count: usize) -> Outcome {
    // Its connections, and what they hold, end with it.
    let client = client().await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for number in 0..NAMESPACES {
        let labels = json!({ LABEL: name });
        let own = json!({ "metadata": { "name": namespace(name, number), "labels": labels } });
        namespaces.create(&PostParams::default(), &serde_json::from_value(own)?).await?;
    }
    let made = (0..count).map(|number| {
        let (client, namespace) = (client.clone(), namespace(name, number));
        async move {
            create::<Deployment>(&client, &namespace, deployment(number)).await?;
            create::<Event>(&client, &namespace, warning(number, &namespace)).await
        }
    });
    stream::iter(made).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    Ok(())
}

/// Removes them.
pub(crate) async fn remove(client: &Client, name: &str) -> Outcome {
    remove_labelled(client, &format!("{LABEL}={name}")).await
}

async fn create<K>(client: &Client, namespace: &str, object: Value) -> Outcome
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    K: Clone + Debug + Serialize + DeserializeOwned,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(())
}

fn deployment(number: usize) -> Value {
    let labels = json!({ "other": number.to_string() });
    json!({
        "metadata": { "name": format!("other-{number}"), "labels": labels },
        "spec": {
            "replicas": 0,
            "paused": true,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{ "name": "app", "image": "none" }] },
            },
        },
    })
}

/// As the cluster's own controller writes it where it may not make pods.
fn warning(number: usize, namespace: &str) -> Value {
    let set = format!("other-{number}-7d9c5b6f4d");
    let said =
        format!("Error creating: pods \"{set}-x2x4z\" is forbidden: exceeded quota: room, requested: pods=1");
    json!({
        "metadata": { "name": format!("{set}.17a1b2c3d4e5f6a7") },
        "involvedObject": {
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "namespace": namespace, "name": set,
            "uid": format!("00000000-0000-4000-8000-{number:012}"), "resourceVersion": "1",
        },
        "type": "Warning", "reason": "FailedCreate", "message": said,
        "source": { "component": "replicaset-controller" }, "reportingComponent": "replicaset-controller",
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:00:00Z", "count": 1,
    })
}
