//! Nodes that are lost: such as are there in name only, since nobody misses them.

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use paas_core::Result;
use serde_json::{Value, json};

use super::{Case, World, app, cases, serving, until};
use crate::fixture::rooms::broken;

pub(super) const CASES: &[(&str, Case)] = cases![what_a_lost_node_ran_runs_elsewhere];

/// By which mark KWOK answers for a node.
const MARK: &str = "kwok.x-k8s.io/node";
const LABEL: &str = "paas-sdk.dev/fake";

/// Nodes that take all pods that are made meanwhile.
pub(crate) struct Nodes(Api<Node>);

impl Nodes {
    pub(crate) async fn make(world: &World, count: usize) -> Result<Self> {
        let nodes = Self(Api::all(world.client.clone()));
        nodes.others_take_pods(false).await?;
        for number in 0..count {
            let name = format!("lost-{number}");
            let size = json!({ "cpu": "32", "memory": "256Gi", "pods": "110" });
            let node = json!({
                "metadata": {
                    "name": name,
                    "annotations": { MARK: "fake" },
                    "labels": { LABEL: "true", "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
                },
                "status": { "capacity": size, "allocatable": size },
            });
            nodes
                .0
                .create(&PostParams::default(), &serde_json::from_value(node).unwrap())
                .await
                .map_err(broken)?;
        }
        until("the nodes are ready", || async {
            let own = ListParams::default().labels(LABEL);
            let listed = nodes.0.list(&own).await.map_err(broken)?;
            Ok(listed.iter().all(is_ready).then_some(()))
        })
        .await?;
        Ok(nodes)
    }

    async fn others_take_pods(&self, is_so: bool) -> Result<()> {
        let others = ListParams::default().labels(&format!("!{LABEL}"));
        for node in self.0.list(&others).await.map_err(broken)? {
            self.change(&node.name_any(), json!({ "spec": { "unschedulable": !is_so } })).await?;
        }
        Ok(())
    }

    async fn change(&self, name: &str, change: Value) -> Result<()> {
        let patched = self.0.patch(name, &PatchParams::default(), &Patch::Merge(change)).await;
        patched.map(drop).map_err(broken)
    }

    pub(crate) async fn end(self) -> Result<()> {
        let own = ListParams::default().labels(LABEL);
        self.0.delete_collection(&DeleteParams::default(), &own).await.map_err(broken)?;
        self.others_take_pods(true).await
    }
}

/// Pods may be put on it.
fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let has_taints = node.spec.as_ref().is_some_and(|spec| spec.taints.iter().flatten().next().is_some());
    !has_taints && conditions.into_iter().any(|own| own.type_ == "Ready" && own.status == "True")
}

/// Where the pods of the platform run.
async fn hosts(world: &World) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::all(world.client.clone());
    let listed = pods.list(&world.labels()).await.map_err(broken)?;
    Ok(listed.items.into_iter().filter_map(|pod| pod.spec?.node_name).collect())
}

/// Loses one of two nodes: what it ran comes to the other.
pub(crate) async fn lose_one(world: &World, nodes: &Nodes) -> Result<()> {
    let mut before = hosts(world).await?;
    before.sort();
    assert_eq!(before, ["lost-0", "lost-1"], "one on each");
    // It is given up, as a cloud does with a machine that is gone; what ran on it goes after some 40 s.
    nodes.0.delete("lost-0", &DeleteParams::default()).await.map_err(broken)?;
    until("both run on the other one", || async {
        Ok((hosts(world).await? == ["lost-1", "lost-1"]).then_some(()))
    })
    .await
    .map(drop)
}

async fn what_a_lost_node_ran_runs_elsewhere() -> Result<()> {
    let world = World::new().await?;
    let nodes = Nodes::make(&world, 2).await?;
    world.deploy(&app(&serving("1", 2))).await?;
    world.explained("all is well").await?;
    lose_one(&world, &nodes).await?;
    world.explained("all is well").await?;
    nodes.end().await?;
    world.end().await
}
