//! What each backend asks of the API server. A live test holds these lists to the calls that are made: none is refused,
//! and none is listed in vain but those that say so.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::BackendsConfig;
use crate::router::Edge;

/// A kind of object, and what may be done with it.
pub(super) struct Grant {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
}

const fn grant(group: &'static str, resource: &'static str, verbs: &'static [&'static str]) -> Grant {
    Grant { group, resource, verbs }
}

const CORE: &str = "";
const APPS: &str = "apps";
const BATCH: &str = "batch";
const COORDINATION: &str = "coordination.k8s.io";
const DISCOVERY: &str = "discovery.k8s.io";
const GATEWAY: &str = "gateway.networking.k8s.io";
const NETWORKING: &str = "networking.k8s.io";
const POLICY: &str = "policy";

/// Of objects that are followed, and written on condition of what was seen. A server-side apply of what is missing makes
/// it, for which it takes `create` as well.
const KEPT: &[&str] = &["get", "list", "watch", "create", "patch", "delete"];
/// Of objects that are followed, and written whatever they were.
const PUT: &[&str] = &["list", "watch", "create", "patch"];
const LISTED: &[&str] = &["list"];

/// [`Connection`](crate::Connection): looks whether its namespace is there.
const CONNECTION: &[Grant] = &[grant(CORE, "namespaces", &["get"])];

/// [`KubeStateStore`](crate::KubeStateStore), in the platform's namespace.
const STATE: &[Grant] = &[
    grant(CORE, "configmaps", &["get", "list", "watch", "create", "update", "delete"]),
    grant(COORDINATION, "leases", &["get", "create", "update"]),
];

/// [`KubeSecretStore`](crate::KubeSecretStore), in the platform's namespace.
const SECRETS: &[Grant] = &[
    grant(CORE, "configmaps", &["get", "create", "update"]),
    grant(CORE, "secrets", &["get", "list", "create", "delete"]),
];

/// [`KubeScheduler`](crate::KubeScheduler). As it rolls by itself, the engine never names instances to retire, and so no pod
/// is deleted.
const SCHEDULER: &[Grant] = &[
    grant(APPS, "deployments", KEPT),
    grant(APPS, "statefulsets", KEPT),
    grant(BATCH, "jobs", KEPT),
    grant(CORE, "events", &["list", "watch"]),
    grant(CORE, "pods", &["list", "watch"]),
    grant(CORE, "secrets", &["get", "create", "deletecollection"]),
    grant(NETWORKING, "networkpolicies", KEPT),
    grant(POLICY, "poddisruptionbudgets", KEPT),
];

/// [`KubeLogSource`](crate::KubeLogSource).
const LOGS: &[Grant] = &[grant(CORE, "pods/log", &["get"])];

/// Commands within instances: opening a WebSocket counts as `get`, and from Kubernetes 1.35 on as `create`.
const EXEC: &[Grant] = &[grant(CORE, "pods/exec", &["create", "get"])];

/// [`KubeCluster`](crate::KubeCluster): nodes, what runs on them, and taking it off them.
const NODES: &[Grant] = &[
    grant(CORE, "nodes", &["list", "patch"]),
    grant(CORE, "pods", LISTED),
    grant(CORE, "pods/eviction", &["create"]),
];

/// [`GatewayRouter`](crate::GatewayRouter).
const ROUTER: &[Grant] = &[grant(CORE, "services", KEPT)];

/// [`GatewayRouter`](crate::GatewayRouter), with a Gateway.
const ROUTER_WITH_GATEWAY: &[Grant] = &[
    grant(DISCOVERY, "endpointslices", &["list", "watch"]),
    grant(GATEWAY, "httproutes", KEPT),
    grant(NETWORKING, "networkpolicies", KEPT),
];

/// [`GatewayRouter`](crate::GatewayRouter), with a class of Ingresses.
const ROUTER_WITH_INGRESS: &[Grant] = &[
    grant(DISCOVERY, "endpointslices", &["list", "watch"]),
    grant(NETWORKING, "ingresses", KEPT),
    grant(NETWORKING, "networkpolicies", KEPT),
];

/// [`KubeTenancy`](crate::KubeTenancy): follows what it makes, and before a namespace goes, it must hold none of what runs
/// or keeps data.
const TENANCY: &[Grant] = &[
    grant(APPS, "daemonsets", LISTED),
    grant(APPS, "deployments", LISTED),
    grant(APPS, "statefulsets", LISTED),
    grant(BATCH, "cronjobs", LISTED),
    grant(BATCH, "jobs", LISTED),
    grant(CORE, "limitranges", PUT),
    grant(CORE, "namespaces", KEPT),
    grant(CORE, "persistentvolumeclaims", LISTED),
    grant(CORE, "pods", LISTED),
    grant(CORE, "resourcequotas", &["get", "list", "watch", "create", "patch"]),
    grant(CORE, "secrets", LISTED),
    grant(CORE, "serviceaccounts", PUT),
    grant(CORE, "services", LISTED),
    grant(NETWORKING, "networkpolicies", PUT),
];

/// [`KubeVolumes`](crate::KubeVolumes).
const VOLUMES: &[Grant] = &[
    grant(CORE, "persistentvolumeclaims", &["get", "list", "create", "patch", "delete"]),
    grant(CORE, "pods", LISTED),
];

/// What is needed in the platform's own namespace.
pub(super) fn own() -> Vec<PolicyRule> {
    rules(&[STATE, SECRETS])
}

/// What is needed in tenants' namespaces, which come and go, and so in all of them.
pub(super) fn everywhere(config: &BackendsConfig) -> Vec<PolicyRule> {
    let mut parts = vec![CONNECTION, SCHEDULER, LOGS, EXEC, NODES, ROUTER, TENANCY, VOLUMES];
    parts.extend(match config.router.edge() {
        Some(Edge::Gateway(_)) => Some(ROUTER_WITH_GATEWAY),
        Some(Edge::Ingress(_)) => Some(ROUTER_WITH_INGRESS),
        None => None,
    });
    rules(&parts)
}

/// One rule for each kind of object, with all that any part needs.
fn rules(parts: &[&[Grant]]) -> Vec<PolicyRule> {
    let mut grants: Vec<&Grant> = parts.iter().copied().flatten().collect();
    grants.sort_by_key(|grant| (grant.group, grant.resource));
    let alike = |a: &&Grant, b: &&Grant| (a.group, a.resource) == (b.group, b.resource);
    grants.chunk_by(alike).filter_map(|some| some.first().map(|first| rule(first, some))).collect()
}

fn rule(first: &Grant, all: &[&Grant]) -> PolicyRule {
    let mut verbs: Vec<String> =
        all.iter().flat_map(|grant| grant.verbs).map(|verb| (*verb).to_owned()).collect();
    verbs.sort();
    verbs.dedup();
    PolicyRule {
        api_groups: Some(vec![first.group.to_owned()]),
        resources: Some(vec![first.resource.to_owned()]),
        verbs,
        ..PolicyRule::default()
    }
}
