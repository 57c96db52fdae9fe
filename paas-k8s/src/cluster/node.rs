//! What a node says of itself.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node as KubeNode, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use paas_core::model::{ByteSize, CpuQuantity, Node, NodeName, NodeResources};

use crate::error::cut;
use crate::quantity;

/// The longest sentence of somebody else that is repeated.
const LONGEST: usize = 300;
/// How many taints and troubles are told.
const MOST: usize = 20;
/// Taints that say again what is told of a node anyway: that it is cordoned, or not ready.
const TOLD: [&str; 3] =
    ["node.kubernetes.io/unschedulable", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub(super) type Quantities = BTreeMap<String, Quantity>;

/// A sentence, cut to what is repeated of it, on one line.
pub(super) fn brief(text: &str) -> String {
    cut(text, LONGEST)
}

/// So much of each, as far as it is said.
pub(super) fn resources(amounts: Option<&Quantities>) -> NodeResources {
    let get = |name: &str| amounts.and_then(|amounts| amounts.get(name));
    let cpu = get("cpu").and_then(quantity::cpu).unwrap_or(CpuQuantity { millis: 0 });
    let memory = get("memory").and_then(quantity::size).unwrap_or(ByteSize(0));
    let pods = get("pods").and_then(quantity::size).unwrap_or(ByteSize(0));
    NodeResources::new(cpu, memory, u32::try_from(pods.0).unwrap_or(u32::MAX))
}

/// A node as it is told of, without what is allocated there. `None` where its name is none.
pub(super) fn of(node: &KubeNode) -> Option<Node> {
    let status = node.status.as_ref();
    let name = NodeName::new(node.metadata.name.as_deref()?).ok()?;
    let mut told = Node::new(name, resources(status.and_then(|status| status.capacity.as_ref())));
    told.allocatable = resources(status.and_then(|status| status.allocatable.as_ref()));
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    told.ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    told.troubles = conditions.iter().filter_map(trouble).take(MOST).collect();
    if !told.ready && told.troubles.is_empty() {
        told.troubles.push("it has never said that it is ready".into());
    }
    let spec = node.spec.as_ref();
    told.cordoned = spec.and_then(|spec| spec.unschedulable).unwrap_or(false);
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    told.taints = taints.iter().filter_map(taint).take(MOST).collect();
    let labels = node.metadata.labels.as_ref();
    let label = |name: &str| labels.and_then(|labels| labels.get(name)).cloned();
    told.zone = label("topology.kubernetes.io/zone");
    told.architecture = label("kubernetes.io/arch");
    let info = status.and_then(|status| status.node_info.as_ref());
    told.version = info.map(|info| info.kubelet_version.clone());
    Some(told)
}

/// What is wrong, if this condition says so: that it is ready is good, all others are bad.
fn trouble(condition: &NodeCondition) -> Option<String> {
    let good = if condition.type_ == "Ready" { "True" } else { "False" };
    // What is unknown besides readiness is unknown because the node is silent.
    if condition.status == good || (condition.status == "Unknown" && condition.type_ != "Ready") {
        return None;
    }
    let name = if condition.type_ == "Ready" { "not ready" } else { &condition.type_ };
    let message = condition.message.as_deref().filter(|text| !text.is_empty());
    let why = message.or(condition.reason.as_deref()).unwrap_or("no reason is given");
    Some(brief(&format!("{name}: {why}")))
}

/// A taint that keeps instances away.
fn taint(taint: &Taint) -> Option<String> {
    if taint.effect == "PreferNoSchedule" || TOLD.contains(&&*taint.key) {
        return None;
    }
    let value = taint.value.as_deref().filter(|value| !value.is_empty());
    Some(value.map_or_else(|| taint.key.clone(), |value| format!("{}={value}", taint.key)))
}
