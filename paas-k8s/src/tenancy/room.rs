//! The objects that make the room of one environment.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, ResourceQuota, ResourceQuotaSpec, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicySpec};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::api::ObjectMeta;
use paas_core::model::{Environment, EnvironmentId, Tenant, TenantId};

use super::{Destination, TenancyConfig};
use crate::policy::{ACCOUNT, ENFORCE, ENFORCE_VERSION};
use crate::{label, quantity, rbac};

/// The name of the policy that denies all.
pub(super) const DENY_ALL: &str = "paas-deny-all";
/// The name of the policy that allows what all may do.
pub(super) const ALLOW_OUT: &str = "paas-allow-out";
/// The name of the quota, and of the limits.
pub(super) const AMOUNTS: &str = "paas";
/// The name of the binding that lets the platform in.
pub(super) const ACCESS: &str = "paas-platform";
/// Marks a namespace that is closed to be removed: an annotation, by which other replicas know that it is meant so.
pub(super) const CLOSED: &str = "paas-sdk.dev/closed";
/// What keeps a namespace from being removed, as a quota counts it.
pub(super) const KEEPERS: [&str; 9] = [
    "pods",
    "persistentvolumeclaims",
    "secrets",
    "services",
    "count/deployments.apps",
    "count/statefulsets.apps",
    "count/daemonsets.apps",
    "count/jobs.batch",
    "count/cronjobs.batch",
];
/// The account that Kubernetes makes in each namespace.
pub(super) const CLUSTERS_ACCOUNT: &str = "default";

/// Everything in one environment's namespace that keeps it apart from others, and the namespace itself.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) place: Place,
    pub(super) namespace: Namespace,
    pub(super) policies: [NetworkPolicy; 2],
    pub(super) quota: ResourceQuota,
    pub(super) limits: LimitRange,
    pub(super) accounts: [ServiceAccount; 2],
}

impl Room {
    pub(super) fn new(
        platform: &str,
        tenant: &Tenant,
        environment: &Environment,
        config: &TenancyConfig,
    ) -> Self {
        let place = Place::new(platform, &tenant.id, &environment.id);
        Self {
            namespace: place.namespace(tenant, environment, config),
            policies: [place.deny_all(), place.allow_out(config)],
            quota: place.quota(config),
            limits: place.limits(config),
            // Whatever forgets to name an account gets the one that Kubernetes makes.
            accounts: [place.account(ACCOUNT), place.account(CLUSTERS_ACCOUNT)],
            place,
        }
    }

    /// The name of its namespace.
    pub(super) fn name(&self) -> &str {
        self.namespace.metadata.name.as_deref().unwrap_or_default()
    }
}

/// Where the objects are, and whose.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) namespace: String,
    pub(super) labels: BTreeMap<String, String>,
}

impl Place {
    pub(super) fn new(platform: &str, tenant: &TenantId, environment: &EnvironmentId) -> Self {
        Self {
            namespace: label::namespace(platform, tenant, environment),
            labels: label::of_environment(platform, tenant, environment),
        }
    }

    fn named(&self, name: &str) -> ObjectMeta {
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(self.labels.clone()),
            ..ObjectMeta::default()
        }
    }

    /// The labels that hold pods to a standard.
    pub(super) fn security(&self, config: &TenancyConfig) -> BTreeMap<String, String> {
        let mut labels = BTreeMap::new();
        for (mode, version) in [
            (ENFORCE, ENFORCE_VERSION),
            ("pod-security.kubernetes.io/warn", "pod-security.kubernetes.io/warn-version"),
            ("pod-security.kubernetes.io/audit", "pod-security.kubernetes.io/audit-version"),
        ] {
            labels.insert(mode.into(), "restricted".into());
            labels.insert(version.into(), config.pod_security.clone());
        }
        labels
    }

    fn namespace(&self, tenant: &Tenant, environment: &Environment, config: &TenancyConfig) -> Namespace {
        let mut labels = self.labels.clone();
        labels.extend(self.security(config));
        let annotations = [
            (label::TENANT_NAME.to_owned(), tenant.name.to_string()),
            (label::ENVIRONMENT_NAME.to_owned(), environment.name.to_string()),
        ];
        Namespace {
            metadata: ObjectMeta {
                name: Some(self.namespace.clone()),
                labels: Some(labels),
                annotations: Some(annotations.into()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        }
    }

    /// Nothing in, nothing out, whatever no other policy allows.
    pub(super) fn deny_all(&self) -> NetworkPolicy {
        let spec = NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(vec!["Ingress".into(), "Egress".into()]),
            // Stated, so that a rule which somebody adds here goes with the next apply.
            ingress: Some(Vec::new()),
            egress: Some(Vec::new()),
        };
        NetworkPolicy { metadata: self.named(DENY_ALL), spec: Some(spec) }
    }

    /// Names are looked up in the cluster's DNS, and what the platform allows to all is reached.
    pub(super) fn allow_out(&self, config: &TenancyConfig) -> NetworkPolicy {
        let to: Vec<_> = config.outside.iter().map(Destination::peer).collect();
        // A rule without peers would be one for everybody.
        let outside = (!to.is_empty()).then_some(NetworkPolicyEgressRule { to: Some(to), ports: None });
        let spec = NetworkPolicySpec {
            pod_selector: Some(LabelSelector::default()),
            policy_types: Some(vec!["Egress".into()]),
            egress: Some([config.dns.rule()].into_iter().chain(outside).collect()),
            ingress: None,
        };
        NetworkPolicy { metadata: self.named(ALLOW_OUT), spec: Some(spec) }
    }

    pub(super) fn quota(&self, config: &TenancyConfig) -> ResourceQuota {
        let hard = amounts([
            ("limits.cpu", quantity::cores(config.cpu)),
            ("limits.memory", quantity::bytes(config.memory)),
            ("pods", quantity::count(config.pods)),
            ("persistentvolumeclaims", quantity::count(config.volumes)),
            ("requests.storage", quantity::bytes(config.storage)),
            // Ports of nodes and addresses of the cloud are the platform's to give.
            ("services.nodeports", quantity::count(0)),
            ("services.loadbalancers", quantity::count(0)),
        ]);
        let spec = ResourceQuotaSpec { hard: Some(hard), ..ResourceQuotaSpec::default() };
        ResourceQuota { metadata: self.named(AMOUNTS), spec: Some(spec), status: None }
    }

    /// The quota of a namespace that is about to go: nothing comes into it any more that would keep it.
    pub(super) fn closed(&self, config: &TenancyConfig) -> ResourceQuota {
        let mut quota = self.quota(config);
        let hard = quota.spec.get_or_insert_default().hard.get_or_insert_default();
        hard.extend(KEEPERS.map(|what| (what.to_owned(), quantity::count(0))));
        quota
    }

    /// Lets the platform, whose own namespace this is, do there what it must.
    pub(super) fn access(&self, own: &str) -> RoleBinding {
        let platform = self.labels.get(label::PLATFORM).map(String::as_str).unwrap_or_default();
        rbac::binding(self.named(ACCESS), platform, own)
    }

    pub(super) fn limits(&self, config: &TenancyConfig) -> LimitRange {
        let item = LimitRangeItem {
            type_: "Container".into(),
            default: Some(amounts([
                ("cpu", quantity::cores(config.default_cpu)),
                ("memory", quantity::bytes(config.default_memory)),
            ])),
            default_request: Some(amounts([
                ("cpu", quantity::cores(config.reserved_cpu)),
                ("memory", quantity::bytes(config.reserved_memory)),
            ])),
            ..LimitRangeItem::default()
        };
        LimitRange { metadata: self.named(AMOUNTS), spec: Some(LimitRangeSpec { limits: vec![item] }) }
    }

    /// An account whose token no pod is given: apps have no business with the API server.
    fn account(&self, name: &str) -> ServiceAccount {
        ServiceAccount {
            metadata: self.named(name),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        }
    }
}

fn amounts<const N: usize>(amounts: [(&str, Quantity); N]) -> BTreeMap<String, Quantity> {
    amounts.map(|(what, amount)| (what.to_owned(), amount)).into()
}
