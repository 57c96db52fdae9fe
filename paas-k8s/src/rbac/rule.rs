//! What each backend asks of the API server. A live test holds these lists to the calls that are made: none is refused,
//! and none is listed in vain but those that say so.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::GROUP;
use crate::BackendsConfig;
use crate::router::Edge;

/// A kind of object, and what may be done with it.
pub(super) struct Grant {
    group: &'static str,
    resource: &'static str,
    verbs: &'static [&'static str],
}

/// What one part of a platform needs.
type Part = &'static [Grant];

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

/// Of objects that are followed, wherever they are.
const FOLLOWED: &[&str] = &["list", "watch"];
/// Of objects that are written on condition of what was seen. A server-side apply of what is missing makes it, for which it
/// takes `create` as well.
const KEPT: &[&str] = &["get", "create", "patch", "delete"];
/// Of objects that are written whatever they were.
const PUT: &[&str] = &["create", "patch"];
const LISTED: &[&str] = &["list"];

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

/// [`KubeScheduler`](crate::KubeScheduler), in an environment. As it rolls by itself, the engine never names instances to
/// retire; whoever calls the port may, and then pods are deleted.
const SCHEDULER: &[Grant] = &[
    grant(APPS, "deployments", KEPT),
    grant(APPS, "statefulsets", KEPT),
    grant(BATCH, "jobs", KEPT),
    grant(CORE, "pods", &["delete"]),
    grant(CORE, "secrets", &["get", "list", "watch", "create", "delete"]),
    grant(NETWORKING, "networkpolicies", KEPT),
    grant(POLICY, "poddisruptionbudgets", KEPT),
];

/// What [`KubeScheduler`](crate::KubeScheduler) follows.
const SCHEDULER_FOLLOWS: &[Grant] = &[
    grant(APPS, "deployments", FOLLOWED),
    grant(APPS, "statefulsets", FOLLOWED),
    grant(BATCH, "jobs", FOLLOWED),
    grant(CORE, "events", FOLLOWED),
    grant(CORE, "pods", FOLLOWED),
    grant(NETWORKING, "networkpolicies", FOLLOWED),
    grant(POLICY, "poddisruptionbudgets", FOLLOWED),
];

/// [`KubeLogSource`](crate::KubeLogSource), in an environment.
const LOGS: &[Grant] = &[grant(CORE, "pods/log", &["get"])];

/// Commands within instances: opening a WebSocket counts as `get`, and from Kubernetes 1.35 on as `create`.
const EXEC: &[Grant] = &[grant(CORE, "pods/exec", &["create", "get"])];

/// [`KubeCluster`](crate::KubeCluster): nodes, what runs on them, and taking it off them, whoever's it is.
const NODES: &[Grant] = &[
    grant(CORE, "nodes", &["list", "patch"]),
    grant(CORE, "pods", LISTED),
    grant(CORE, "pods/eviction", &["create"]),
];

/// [`GatewayRouter`](crate::GatewayRouter), in an environment, and what it follows.
const ROUTER: &[Grant] = &[grant(CORE, "services", KEPT)];
const ROUTER_FOLLOWS: &[Grant] = &[grant(CORE, "services", FOLLOWED)];

/// [`GatewayRouter`](crate::GatewayRouter), where it publishes domains.
const EDGE: &[Grant] = &[grant(NETWORKING, "networkpolicies", KEPT)];
const EDGE_FOLLOWS: &[Grant] =
    &[grant(DISCOVERY, "endpointslices", FOLLOWED), grant(NETWORKING, "networkpolicies", FOLLOWED)];

/// By a Gateway.
const ROUTES: &[Grant] = &[grant(GATEWAY, "httproutes", KEPT)];
const ROUTES_FOLLOWED: &[Grant] = &[grant(GATEWAY, "httproutes", FOLLOWED)];

/// By a class of Ingresses.
const INGRESSES: &[Grant] = &[grant(NETWORKING, "ingresses", KEPT)];
const INGRESSES_FOLLOWED: &[Grant] = &[grant(NETWORKING, "ingresses", FOLLOWED)];

/// [`KubeTenancy`](crate::KubeTenancy), in an environment: its guards, and before a namespace goes, it must hold none of what
/// runs or keeps data.
const TENANCY: &[Grant] = &[
    grant(APPS, "daemonsets", LISTED),
    grant(BATCH, "cronjobs", LISTED),
    grant(CORE, "limitranges", PUT),
    grant(CORE, "resourcequotas", &["get", "create", "patch"]),
    grant(CORE, "secrets", LISTED),
    grant(CORE, "serviceaccounts", PUT),
    grant(NETWORKING, "networkpolicies", PUT),
];

/// What [`KubeTenancy`](crate::KubeTenancy) does wherever it may be, and what it follows. [`Connection`](crate::Connection)
/// looks whether its own namespace is there.
const TENANCY_EVERYWHERE: &[Grant] = &[
    grant(CORE, "limitranges", FOLLOWED),
    grant(CORE, "namespaces", FOLLOWED),
    grant(CORE, "namespaces", KEPT),
    grant(CORE, "resourcequotas", FOLLOWED),
    grant(CORE, "serviceaccounts", FOLLOWED),
    grant(NETWORKING, "networkpolicies", FOLLOWED),
    grant(GROUP, "rolebindings", FOLLOWED),
    grant(GROUP, "rolebindings", PUT),
];

/// [`KubeVolumes`](crate::KubeVolumes), in an environment, and what it finds the volumes of a tenant by.
const VOLUMES: &[Grant] = &[grant(CORE, "persistentvolumeclaims", KEPT)];
const VOLUMES_FOUND: &[Grant] = &[grant(CORE, "persistentvolumeclaims", LISTED), grant(CORE, "pods", LISTED)];

/// What is needed in the platform's own namespace.
pub(super) fn own() -> Vec<PolicyRule> {
    rules(&[STATE, SECRETS])
}

/// What is needed in the namespace of an environment.
pub(super) fn environment(config: &BackendsConfig) -> Vec<PolicyRule> {
    let mut parts = vec![SCHEDULER, LOGS, EXEC, ROUTER, TENANCY, VOLUMES];
    parts.extend(by_edge(config, EDGE, ROUTES, INGRESSES));
    rules(&parts)
}

/// What is needed in all namespaces, as environments come and go, and of the cluster itself. The environments' role has
/// this name.
pub(super) fn everywhere(config: &BackendsConfig, role: &str) -> Vec<PolicyRule> {
    let mut parts = vec![SCHEDULER_FOLLOWS, NODES, ROUTER_FOLLOWS, TENANCY_EVERYWHERE, VOLUMES_FOUND];
    parts.extend(by_edge(config, EDGE_FOLLOWS, ROUTES_FOLLOWED, INGRESSES_FOLLOWED));
    let bind = PolicyRule {
        api_groups: Some(vec![GROUP.to_owned()]),
        resources: Some(vec!["clusterroles".to_owned()]),
        resource_names: Some(vec![role.to_owned()]),
        verbs: vec!["bind".to_owned()],
        ..PolicyRule::default()
    };
    rules(&parts).into_iter().chain([bind]).collect()
}

/// What it takes to publish domains, where that is done: by whichever edge, by a Gateway, by a class of Ingresses.
fn by_edge(config: &BackendsConfig, edge: Part, routes: Part, ingresses: Part) -> Vec<Part> {
    match config.router.edge() {
        Some(Edge::Gateway(_)) => vec![edge, routes],
        Some(Edge::Ingress(_)) => vec![edge, ingresses],
        None => Vec::new(),
    }
}

/// One rule for each kind of object, with all that any part needs.
fn rules(parts: &[Part]) -> Vec<PolicyRule> {
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
