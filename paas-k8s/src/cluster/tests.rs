use k8s_openapi::api::core::v1::{Node as KubeNode, Pod};
use kube::core::Status;
use paas_core::model::{ByteSize, CpuQuantity, NodeResources};
use serde_json::{Value, json};

use super::pod::{Place, place, promised};
use super::{node, reason};

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).unwrap()
}

fn amount(millis: u32, mib: u64) -> NodeResources {
    NodeResources::new(CpuQuantity { millis }, ByteSize(mib << 20), 1)
}

/// A pod that a controller of this kind would start anew.
fn owned(kind: &str) -> Value {
    let owner = json!({ "apiVersion": "v1", "kind": kind, "name": "it", "uid": "u", "controller": true });
    json!({ "metadata": { "name": "it", "ownerReferences": [owner] }, "spec": { "containers": [] } })
}

fn with(mut base: Value, pointer: &str, value: Value) -> Pod {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    base.pointer_mut(parent).unwrap()[key] = value;
    pod(base)
}

#[test]
fn only_what_is_started_anew_elsewhere_is_moved() {
    let held = |pod: &Pod| match place(pod) {
        Place::Held { reason, passes } => (reason, passes),
        other => panic!("{other:?}"),
    };
    assert_eq!(place(&pod(owned("ReplicaSet"))), Place::Movable);
    assert_eq!(place(&pod(owned("Job"))), Place::Movable);
    assert_eq!(place(&pod(owned("DaemonSet"))), Place::OfNode);
    let mirror = json!({ "kubernetes.io/config.mirror": "digest" });
    assert_eq!(place(&with(owned("Node"), "/metadata/annotations", mirror)), Place::OfNode);
    let ended = with(owned("Job"), "/status", json!({ "phase": "Succeeded" }));
    assert_eq!(place(&ended), Place::Ended);
    let leaving = with(owned("ReplicaSet"), "/metadata/deletionTimestamp", json!("2026-01-01T00:00:00Z"));
    assert_eq!(place(&leaving), Place::Leaving);
    let task = json!({ "paas-sdk.dev/platform": "paas", "paas-sdk.dev/task": "o-1" });
    assert!(held(&with(owned("Job"), "/metadata/labels", task)).1);
    assert!(!held(&with(owned("ReplicaSet"), "/metadata/ownerReferences", json!([]))).1);
    let scratch = json!([{ "name": "scratch", "emptyDir": {} }]);
    let (reason, passes) = held(&with(owned("ReplicaSet"), "/spec/volumes", scratch));
    assert!(reason.contains("emptyDir") && !passes);
}

fn container(cpu: &str, memory: &str) -> Value {
    json!({ "name": "it", "resources": { "requests": { "cpu": cpu, "memory": memory } } })
}

#[test]
fn a_pod_is_promised_what_it_takes_at_most() {
    let two = json!({ "containers": [container("100m", "64Mi"), container("0.15", "64Mi")] });
    assert_eq!(promised(&pod(json!({ "spec": two }))), amount(250, 128));
    let mut companion = container("50m", "16Mi");
    companion["restartPolicy"] = json!("Always");
    let begins = json!({
        "initContainers": [companion, container("500m", "8Mi")],
        "containers": [container("100m", "64Mi")],
        "overhead": { "cpu": "10m", "memory": "1Mi" },
    });
    assert_eq!(promised(&pod(json!({ "spec": begins }))), amount(560, 81));
    let whole = json!({
        "containers": [container("100m", "64Mi")],
        "resources": { "requests": { "cpu": "1" } },
    });
    assert_eq!(promised(&pod(json!({ "spec": whole }))), amount(1_000, 64));
    assert_eq!(promised(&pod(json!({ "spec": { "containers": [{ "name": "it" }] } }))), amount(0, 0));
}

#[test]
fn a_node_tells_what_is_wrong_with_it() {
    let value = json!({
        "metadata": { "name": "node-1", "labels": { "topology.kubernetes.io/zone": "a", "kubernetes.io/arch": "arm64" } },
        "spec": {
            "unschedulable": true,
            "taints": [
                { "key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule" },
                { "key": "gpu", "value": "yes", "effect": "NoExecute" },
                { "key": "old", "effect": "PreferNoSchedule" },
            ],
        },
        "status": {
            "capacity": { "cpu": "4", "memory": "8Gi", "pods": "110" },
            "allocatable": { "cpu": "3900m", "memory": "7Gi", "pods": "100" },
            "conditions": [
                { "type": "Ready", "status": "Unknown", "message": "kubelet stopped\nposting" },
                { "type": "MemoryPressure", "status": "Unknown" },
                { "type": "DiskPressure", "status": "True", "reason": "KubeletHasDiskPressure" },
            ],
        },
    });
    let node = node::of(&serde_json::from_value::<KubeNode>(value).unwrap()).unwrap();
    assert!(!node.ready && node.cordoned);
    assert_eq!(node.taints, ["gpu=yes"]);
    assert_eq!(node.troubles, ["not ready: kubelet stopped posting", "DiskPressure: KubeletHasDiskPressure"]);
    assert_eq!(node.capacity, NodeResources::new(CpuQuantity { millis: 4_000 }, ByteSize(8 << 30), 110));
    assert_eq!(node.allocatable, NodeResources::new(CpuQuantity { millis: 3_900 }, ByteSize(7 << 30), 100));
    assert_eq!((node.zone.as_deref(), node.architecture.as_deref()), (Some("a"), Some("arm64")));
}

#[test]
fn the_budget_that_has_no_room_is_named() {
    let status = json!({
        "status": "Failure",
        "message": "Cannot evict pod as it would violate the pod's disruption budget.",
        "reason": "TooManyRequests",
        "code": 429,
        "details": { "causes": [{
            "reason": "DisruptionBudget",
            "message": "The disruption budget web needs 2 healthy pods and has 2 currently",
        }] },
    });
    let status: Status = serde_json::from_value(status).unwrap();
    let said = reason(&kube::Error::Api(status.boxed()));
    assert_eq!(said, "The disruption budget web needs 2 healthy pods and has 2 currently");
}
