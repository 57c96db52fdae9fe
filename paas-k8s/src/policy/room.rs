//! What must be in a tenant's namespace.

use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicySpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use paas_core::Result;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{ACCOUNT, ENFORCE, ENFORCE_VERSION, Finding, kind, read, text, title};
use crate::label;

/// What a quota must bound.
const BOUNDED: [&str; 7] = [
    "limits.cpu",
    "limits.memory",
    "pods",
    "persistentvolumeclaims",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

/// Looks at a namespace and at what of `all` is in it.
pub(super) fn check(namespace: &Value, all: &[Value], findings: &mut Vec<Finding>) -> Result<()> {
    let title = title(namespace);
    let inside = Inside { name: text(namespace, "/metadata/name"), all };
    let checked = [
        standard(&read::<Namespace>(namespace, &title)?),
        network(&inside.of::<NetworkPolicy>("NetworkPolicy")?),
        amounts(&inside.of("ResourceQuota")?, &inside.of("LimitRange")?),
        accounts(&inside.of("ServiceAccount")?),
    ];
    findings.extend(checked.into_iter().flatten().map(|says| Finding { object: title.clone(), says }));
    Ok(())
}

/// The objects in one namespace.
struct Inside<'a> {
    name: &'a str,
    all: &'a [Value],
}

impl Inside<'_> {
    fn of<T: DeserializeOwned>(&self, wanted: &str) -> Result<Vec<T>> {
        let own = |object: &&Value| {
            kind(object) == wanted
                && text(object, "/metadata/namespace") == self.name
                && !self.name.is_empty()
        };
        self.all.iter().filter(own).map(|object| read(object, &title(object))).collect()
    }
}

/// Of rules and whether they are kept, those that are not.
fn broken<const N: usize>(rules: [(bool, &'static str); N]) -> Vec<&'static str> {
    rules.into_iter().filter(|(kept, _)| !kept).map(|(_, says)| says).collect()
}

fn standard(namespace: &Namespace) -> Vec<&'static str> {
    let labels = namespace.metadata.labels.clone().unwrap_or_default();
    let is = |name: &str, value: &str| labels.get(name).is_some_and(|found| found == value);
    let pinned = labels.get(ENFORCE_VERSION).is_some_and(|version| version.starts_with("v1."));
    broken([
        (is(ENFORCE, "restricted"), "pods are not held to the restricted standard"),
        (pinned, "the release of the restricted standard is not pinned"),
        (
            is("pod-security.kubernetes.io/warn", "restricted"),
            "nobody is warned of pods that are not restricted",
        ),
        (
            is("pod-security.kubernetes.io/audit", "restricted"),
            "pods that are not restricted are not audited",
        ),
        (labels.contains_key(label::PLATFORM), "it does not say whose platform it belongs to"),
        (labels.contains_key(label::TENANT), "it does not say which tenant it belongs to"),
        (labels.contains_key(label::ENVIRONMENT), "it does not say which environment it belongs to"),
    ])
}

fn network(policies: &[NetworkPolicy]) -> Vec<&'static str> {
    let specs: Vec<&NetworkPolicySpec> = policies.iter().filter_map(|policy| policy.spec.as_ref()).collect();
    let everything = |spec: &NetworkPolicySpec| spec.pod_selector.as_ref() == Some(&LabelSelector::default());
    let types = |spec: &NetworkPolicySpec, direction: &str| {
        spec.policy_types.as_ref().is_some_and(|types| types.iter().any(|one| one == direction))
    };
    let no_ingress = |spec: &NetworkPolicySpec| spec.ingress.as_ref().is_none_or(Vec::is_empty);
    let no_egress = |spec: &NetworkPolicySpec| spec.egress.as_ref().is_none_or(Vec::is_empty);
    let denies_in =
        |spec: &&NetworkPolicySpec| everything(spec) && types(spec, "Ingress") && no_ingress(spec);
    let denies_out = |spec: &&NetworkPolicySpec| everything(spec) && types(spec, "Egress") && no_egress(spec);
    broken([
        (specs.iter().any(denies_in), "traffic to pods is not denied by default"),
        (specs.iter().any(denies_out), "traffic from pods is not denied by default"),
        (specs.iter().any(|spec| finds_names(spec)), "pods cannot look up names"),
    ])
}

/// Whether all pods may ask the cluster's DNS: somebody in another namespace, at one port, over both protocols.
fn finds_names(spec: &NetworkPolicySpec) -> bool {
    let all = spec.pod_selector.as_ref() == Some(&LabelSelector::default());
    let asks = |rule: &NetworkPolicyEgressRule| {
        let ports: Vec<_> = rule.ports.iter().flatten().filter(|port| port.end_port.is_none()).collect();
        let by = |protocol: &'static str| {
            ports.iter().filter(move |port| port.protocol.as_deref() == Some(protocol)).map(|port| &port.port)
        };
        let goes_out = rule.to.iter().flatten().any(|peer| peer.namespace_selector.is_some());
        goes_out && by("UDP").any(|port| port.is_some() && by("TCP").any(|other| other == port))
    };
    all && spec.egress.iter().flatten().any(asks)
}

fn amounts(quotas: &[ResourceQuota], ranges: &[LimitRange]) -> Vec<&'static str> {
    let hard = |what: &str| {
        quotas
            .iter()
            .filter_map(|quota| quota.spec.as_ref()?.hard.as_ref())
            .any(|hard| hard.contains_key(what))
    };
    let containers: Vec<_> = ranges
        .iter()
        .filter_map(|range| range.spec.as_ref())
        .flat_map(|spec| &spec.limits)
        .filter(|item| item.type_ == "Container")
        .collect();
    let both = |amounts: Option<&std::collections::BTreeMap<String, _>>| {
        amounts.is_some_and(|amounts| ["cpu", "memory"].iter().all(|what| amounts.contains_key(*what)))
    };
    broken([
        (BOUNDED.iter().all(|what| hard(what)), "no quota bounds what it may use"),
        (
            containers.iter().any(|item| both(item.default.as_ref())),
            "a container that states no limits gets none",
        ),
        (
            containers.iter().any(|item| both(item.default_request.as_ref())),
            "a container that states no requests gets none",
        ),
    ])
}

fn accounts(accounts: &[ServiceAccount]) -> Vec<&'static str> {
    let silent = |name: &str| {
        accounts.iter().any(|account| {
            account.metadata.name.as_deref() == Some(name)
                && account.automount_service_account_token == Some(false)
        })
    };
    broken([
        (silent(ACCOUNT), "the account of apps is missing or gives pods a token"),
        (silent("default"), "the default account gives pods a token"),
    ])
}
