//! The nodes of a cluster.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream;
use k8s_openapi::api::core::v1::{Node as KubeNode, Pod};
use kube::Api;
use kube::api::{
    DeleteParams, EvictParams, ListParams, ObjectList, Patch, PatchParams, PostParams, Preconditions,
};
use paas_core::model::{Blocked, Drain, Node, NodeName, NodeResources, Occupant, Scope};
use paas_core::port::{Backend, Cluster};
use paas_core::{ErrorKind, Result};
use serde_json::{Value, json};

use crate::error::failed;
use crate::{Connection, label, list};

mod node;
mod pod;
#[cfg(test)]
mod tests;

use pod::Place;

/// How many pods one answer brings.
const PAGE: u32 = 500;
/// How many pods are asked to leave at once.
const AT_ONCE: usize = 8;

/// Sees, cordons and drains the nodes of a cluster.
///
/// Nodes are asked for by people and rarely, so nothing of them is watched or kept: [`Cluster::nodes`] is one list of
/// nodes and one of pods, page by page. A pod leaves by the Eviction API, which honours disruption budgets; pods of
/// everybody on the node are moved, not only the platform's.
///
/// What [`kubectl drain`](https://kubernetes.io/docs/tasks/administer-cluster/safely-drain-node/) moves only by a flag -
/// pods without a controller, and those with an `emptyDir` - is told as blocked.
#[derive(Debug)]
pub struct KubeCluster {
    connection: Connection,
}

impl KubeCluster {
    /// The nodes of this cluster.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Calls `each` with every pod that a field selector selects, never holding them all.
    async fn pods(&self, fields: &str, mut each: impl FnMut(Pod) + Send) -> Result<()> {
        let pods: Api<Pod> = self.connection.cluster();
        let mut params = ListParams::default().fields(fields).limit(PAGE);
        loop {
            let page: ObjectList<Pod> =
                pods.list(&params).await.map_err(|cause| failed(cause, "list what runs on nodes"))?;
            page.items.into_iter().for_each(&mut each);
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => return Ok(()),
            }
        }
    }

    async fn mark(&self, node: &NodeName, unschedulable: Value) -> Result<()> {
        let nodes: Api<KubeNode> = self.connection.cluster();
        let params = PatchParams { field_manager: Some(label::MANAGER.into()), ..PatchParams::default() };
        let mark = json!({ "spec": { "unschedulable": unschedulable } });
        let marked = nodes.patch_metadata(node.as_str(), &params, &Patch::Merge(mark)).await;
        marked.map(drop).map_err(|cause| failed(cause, "mark a node").with("node", node))
    }

    fn occupant(&self, pod: &Pod) -> Occupant {
        let meta = &pod.metadata;
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let mut occupant = Occupant::new(format!("{namespace}/{}", meta.name.as_deref().unwrap_or_default()));
        let platform = meta.labels.as_ref().and_then(|labels| labels.get(label::PLATFORM));
        if platform.is_some_and(|platform| platform == self.connection.platform()) {
            occupant.instance = crate::scheduler::instance(pod);
        }
        occupant
    }

    /// Asks one pod to leave.
    async fn evict(&self, pod: Pod) -> Result<Outcome> {
        let occupant = self.occupant(&pod);
        let meta = pod.metadata;
        let pods = self.connection.within::<Pod>(&meta.namespace.unwrap_or_default());
        let name = meta.name.unwrap_or_default();
        let preconditions = Preconditions { uid: meta.uid, resource_version: None };
        let params = EvictParams {
            delete_options: Some(DeleteParams::default().preconditions(preconditions)),
            post_options: PostParams::default(),
        };
        let cause = match pods.evict(&name, &params).await {
            Ok(_) => return Ok(Outcome::Leaves(occupant)),
            Err(cause) => cause,
        };
        let why = reason(&cause);
        let error = failed(cause, "evict a pod").with("pod", &occupant.name);
        match error.kind() {
            ErrorKind::NotFound => Ok(Outcome::Gone),
            // Another has taken its name: the next step sees it.
            ErrorKind::Conflict => Ok(Outcome::Leaves(occupant)),
            ErrorKind::Throttled => {
                Ok(Outcome::Waits(Blocked::new(occupant, why, true), error.retry_after()))
            }
            // More than one budget is about it, which only somebody who deletes one can end.
            ErrorKind::Unavailable if why.contains("PodDisruptionBudget") => {
                Ok(Outcome::Waits(Blocked::new(occupant, why, false), None))
            }
            _ => Err(error),
        }
    }
}

/// What became of a pod that was asked to leave.
enum Outcome {
    Leaves(Occupant),
    Gone,
    Waits(Blocked, Option<Duration>),
}

/// Why a pod could not be evicted: which budget, where that is said.
fn reason(cause: &kube::Error) -> String {
    let kube::Error::Api(status) = cause else { return cause.to_string() };
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let budget = causes.into_iter().find(|cause| cause.reason == "DisruptionBudget");
    let text = budget.map_or(&status.message, |budget| &budget.message);
    node::brief(text)
}

#[async_trait]
impl Backend for KubeCluster {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self) -> Result<()> {
        self.connection.check().await
    }
}

#[async_trait]
impl Cluster for KubeCluster {
    async fn nodes(&self, _: &Scope) -> Result<Vec<Node>> {
        let found = list::all::<KubeNode>(&self.connection.cluster(), "").await?;
        let mut promised: HashMap<String, NodeResources> = HashMap::new();
        let running = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed";
        self.pods(running, |pod| {
            let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { return };
            let sum = promised.entry(node).or_insert_with(NodeResources::none);
            *sum = sum.plus(pod::promised(&pod));
        })
        .await?;
        let mut nodes: Vec<Node> = found.iter().filter_map(node::of).collect();
        for node in &mut nodes {
            node.allocated = promised.remove(node.name.as_str()).unwrap_or_else(NodeResources::none);
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(nodes)
    }

    async fn cordon(&self, _: &Scope, node: &NodeName) -> Result<()> {
        self.mark(node, json!(true)).await
    }

    async fn uncordon(&self, _: &Scope, node: &NodeName) -> Result<()> {
        self.mark(node, Value::Null).await
    }

    async fn drain(&self, _: &Scope, node: &NodeName) -> Result<Drain> {
        self.mark(node, json!(true)).await?;
        let mut drain = Drain::new(node.clone());
        let mut movable = Vec::new();
        self.pods(&format!("spec.nodeName={node}"), |pod| match pod::place(&pod) {
            Place::OfNode => drain.staying += 1,
            Place::Ended => {}
            Place::Leaving => drain.leaving.push(self.occupant(&pod)),
            Place::Held { reason, passes } => {
                drain.blocked.push(Blocked::new(self.occupant(&pod), reason, passes));
            }
            Place::Movable => movable.push(pod),
        })
        .await?;
        let outcomes: Vec<Result<Outcome>> =
            stream::iter(movable).map(|pod| self.evict(pod)).buffered(AT_ONCE).collect().await;
        for outcome in outcomes {
            match outcome? {
                Outcome::Leaves(occupant) => drain.leaving.push(occupant),
                Outcome::Gone => {}
                Outcome::Waits(blocked, again) => {
                    drain.blocked.push(blocked);
                    drain.again = drain.again.max(again);
                }
            }
        }
        Ok(drain)
    }
}
