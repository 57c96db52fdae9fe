//! What stands beside the object that runs a workload, and follows from its key alone.

use std::collections::BTreeMap;

use paas_core::model::{Digest, Role, WorkloadKey};
use serde_json::{Value, json};

use super::APPLIED;
use crate::label;
use crate::scheduler::part::Kind;

/// The companion of a kind, with its digest.
pub(in crate::scheduler) fn companion(kind: Kind, key: &WorkloadKey, platform: &str) -> (Value, Digest) {
    let spec = if kind == Kind::Budget { budget(key) } else { traffic(key) };
    let resource = kind.resource();
    let digest = Digest::of(&spec);
    let object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": kind.name(key),
            "namespace": label::namespace(platform, &key.tenant, &key.environment),
            "labels": label::of_workload(platform, key),
            "annotations": { APPLIED: digest },
        },
        "spec": spec,
    });
    (object, digest)
}

/// What tells a workload's pods from all others of its namespace; it can't be changed later.
pub(super) fn selector(key: &WorkloadKey) -> BTreeMap<&'static str, String> {
    let role = match &key.role {
        Role::Task(operation) => (label::TASK, operation.to_string()),
        role => (label::SLOT, role.to_string()),
    };
    [(label::SERVICE, key.service.to_string()), role].into()
}

/// Lets the instances of one app reach each other where nothing else may.
fn traffic(key: &WorkloadKey) -> Value {
    let app = json!({ "podSelector": { "matchLabels": { label::APP: key.app.to_string() } } });
    json!({
        "podSelector": { "matchLabels": selector(key) },
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{ "from": [app] }],
        "egress": [{ "to": [app] }],
    })
}

/// Keeps a drained node from taking more than one instance at a time.
fn budget(key: &WorkloadKey) -> Value {
    json!({
        "maxUnavailable": 1,
        "selector": { "matchLabels": selector(key) },
        // What crashes anyway must not keep a node from being drained.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
    })
}
