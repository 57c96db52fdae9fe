//! Nodes that are there in name only, for pods that nobody has to run.

use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::Outcome;
use crate::stage::until;

/// How many are made at once.
const AT_ONCE: usize = 16;
/// What tells them from real ones.
const MARK: (&str, &str) = ("kwok.x-k8s.io/node", "fake");
/// Which nodes are fake, as a label: annotations select nothing.
const LABEL: &str = "type=kwok";

/// Makes so many nodes, and keeps new pods away from real ones.
pub(crate) async fn make(client: &Client, count: usize) -> Outcome {
    let nodes: Api<Node> = Api::all(client.clone());
    real_take_pods(&nodes, false).await?;
    let make = |number: usize| {
        let nodes = nodes.clone();
        async move {
            let name = format!("fake-{number}");
            let size = json!({ "cpu": "32", "memory": "256Gi", "pods": "110" });
            let node = json!({
                "metadata": {
                    "name": name,
                    "annotations": { MARK.0: MARK.1 },
                    "labels": { "type": "kwok", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
                },
                "status": { "capacity": size, "allocatable": size },
            });
            match nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                made => made.map(drop),
            }
        }
    };
    stream::iter((0..count).map(make)).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
    until("the nodes are ready", || async {
        let listed = nodes.list(&ListParams::default().labels(LABEL)).await?.items;
        Ok((listed.iter().filter(|node| is_ready(node)).count() >= count).then_some(()))
    })
    .await
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref());
    conditions.unwrap_or_default().iter().any(|own| own.type_ == "Ready" && own.status == "True")
}

/// Removes them, and lets pods run again.
pub(crate) async fn remove(client: &Client) -> Outcome {
    let nodes: Api<Node> = Api::all(client.clone());
    nodes.delete_collection(&DeleteParams::background(), &ListParams::default().labels(LABEL)).await?;
    real_take_pods(&nodes, true).await
}

async fn real_take_pods(nodes: &Api<Node>, is_so: bool) -> Outcome {
    for node in nodes.list(&ListParams::default().labels("type!=kwok")).await?.items {
        let name = node.metadata.name.unwrap_or_default();
        let cordon = json!({ "spec": { "unschedulable": !is_so } });
        nodes.patch(&name, &PatchParams::default(), &Patch::Merge(cordon)).await?;
    }
    Ok(())
}
