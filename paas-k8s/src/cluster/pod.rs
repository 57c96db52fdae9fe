//! What a pod takes of its node, and whether it can leave.

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use paas_core::model::{ByteSize, CpuQuantity, NodeResources};

use super::node::{Quantities, resources};
use crate::label;

/// How a pod stands on its node, as somebody sees who wants the node empty.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It belongs to the node.
    OfNode,
    /// Nothing of it runs any more.
    Ended,
    /// It is on its way out.
    Leaving,
    /// It can't leave.
    Held { reason: &'static str, passes: bool },
    /// It is started anew elsewhere once it leaves.
    Movable,
}

pub(super) fn place(pod: &Pod) -> Place {
    let meta = &pod.metadata;
    let mirrors =
        |notes: &std::collections::BTreeMap<_, _>| notes.contains_key("kubernetes.io/config.mirror");
    let owners = meta.owner_references.as_deref().unwrap_or_default();
    let controller = owners.iter().find(|owner| owner.controller == Some(true));
    if meta.annotations.as_ref().is_some_and(mirrors) || controller.is_some_and(|own| own.kind == "DaemonSet")
    {
        return Place::OfNode;
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Place::Ended;
    }
    if meta.deletion_timestamp.is_some() {
        return Place::Leaving;
    }
    if controller.is_none() {
        let reason =
            "nothing would start it anew elsewhere: it has no controller. Delete it by hand, or give it one";
        return Place::Held { reason, passes: false };
    }
    let is_task = |labels: &std::collections::BTreeMap<_, _>| {
        labels.contains_key(label::PLATFORM) && labels.contains_key(label::TASK)
    };
    if meta.labels.as_ref().is_some_and(is_task) {
        return Place::Held { reason: "it is a task, which runs once: it is waited for", passes: true };
    }
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    if volumes.into_iter().any(|volume| volume.empty_dir.is_some()) {
        let reason =
            "it may hold data in a folder of this node (emptyDir), which would be lost: delete it by hand";
        return Place::Held { reason, passes: false };
    }
    Place::Movable
}

/// What a pod was promised, as the cluster's own scheduler counts it.
pub(super) fn promised(pod: &Pod) -> NodeResources {
    let one = NodeResources::new(CpuQuantity { millis: 0 }, ByteSize(0), 1);
    let Some(spec) = &pod.spec else { return one };
    let own = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let sum = with_own(of_containers(spec), own);
    sum.plus(resources(spec.overhead.as_ref())).plus(one)
}

/// What is said for the whole pod stands for the sum of its containers'.
fn with_own(mut sum: NodeResources, own: Option<&Quantities>) -> NodeResources {
    let says = |name: &str| own.is_some_and(|own| own.contains_key(name));
    let whole = resources(own);
    if says("cpu") {
        sum.cpu = whole.cpu;
    }
    if says("memory") {
        sum.memory = whole.memory;
    }
    sum
}

/// The most that its containers take at any time: those that run before it one after the other, each beside the
/// companions that were started before, and then all that stay.
fn of_containers(spec: &PodSpec) -> NodeResources {
    let mut companions = NodeResources::none();
    let mut most = NodeResources::none();
    for container in spec.init_containers.iter().flatten() {
        let with = companions.plus(request(container));
        if container.restart_policy.as_deref() == Some("Always") {
            companions = with;
        }
        most = larger(most, with);
    }
    larger(most, spec.containers.iter().map(request).fold(companions, NodeResources::plus))
}

fn request(container: &Container) -> NodeResources {
    resources(container.resources.as_ref().and_then(|resources| resources.requests.as_ref()))
}

fn larger(a: NodeResources, b: NodeResources) -> NodeResources {
    NodeResources::new(a.cpu.max(b.cpu), a.memory.max(b.memory), a.instances.max(b.instances))
}
