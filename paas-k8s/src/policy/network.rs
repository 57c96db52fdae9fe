//! Whom a network policy lets pods talk with.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::address::{self, Addresses};
use super::{ENFORCE, Finding};
use crate::label;

const EVERYBODY: &str = "it allows traffic with everybody";
const EVERY_APP: &str = "it allows traffic with every app of the environment";
const EVERY_PORT: &str = "it allows every port with another namespace";

/// The labels that namespaces of all tenants have with one value: to select by them is to select everybody.
const SHARED: [&str; 3] = ["app.kubernetes.io/managed-by", label::PLATFORM, ENFORCE];

/// Looks at a policy by itself.
pub(super) fn check(title: &str, policy: &NetworkPolicy, findings: &mut Vec<Finding>) {
    let Some(spec) = &policy.spec else { return };
    let mut says: Vec<&str> = rules(spec).flat_map(|rule| rule.says()).collect();
    let all = |is_from: bool| {
        let own = rules(spec).filter(move |rule| rule.is_from == is_from);
        own.flat_map(|rule| rule.peers).filter_map(|peer| peer.ip_block.as_ref())
    };
    if is_everywhere(all(true), address::is_most) || is_everywhere(all(false), address::has_all_clusters) {
        says.push(EVERYBODY);
    }
    says.sort_unstable();
    says.dedup();
    findings.extend(says.into_iter().map(|says| Finding { object: title.to_owned(), says }));
}

/// One rule, in whichever direction.
struct Rule<'a> {
    is_from: bool,
    peers: &'a [NetworkPolicyPeer],
    ports: &'a [NetworkPolicyPort],
}

fn rules(spec: &NetworkPolicySpec) -> impl Iterator<Item = Rule<'_>> {
    let ingress = spec.ingress.iter().flatten().map(|rule| Rule {
        is_from: true,
        peers: rule.from.as_deref().unwrap_or_default(),
        ports: rule.ports.as_deref().unwrap_or_default(),
    });
    let egress = spec.egress.iter().flatten().map(|rule| Rule {
        is_from: false,
        peers: rule.to.as_deref().unwrap_or_default(),
        ports: rule.ports.as_deref().unwrap_or_default(),
    });
    ingress.chain(egress)
}

impl Rule<'_> {
    fn says(&self) -> Vec<&'static str> {
        if self.peers.is_empty() {
            // Without peers, it is one for everybody.
            return vec![EVERYBODY];
        }
        let has_all_ports = self.ports.is_empty() || self.ports.iter().any(is_every_port);
        self.peers.iter().filter_map(|peer| of_peer(peer, has_all_ports)).collect()
    }
}

fn of_peer(peer: &NetworkPolicyPeer, has_all_ports: bool) -> Option<&'static str> {
    match (&peer.namespace_selector, &peer.pod_selector) {
        // Whoever may make pods somewhere gives them whatever labels they like: those of pods make nobody less.
        (Some(namespaces), _) if !names_some(namespaces, &SHARED) => Some(EVERYBODY),
        (Some(_), _) if has_all_ports => Some(EVERY_PORT),
        (None, Some(pods)) if !names_some(pods, &[]) => Some(EVERY_APP),
        (None, None) if peer.ip_block.is_none() => Some(EVERYBODY),
        _ => None,
    }
}

/// Whether a selector says what something must be. What it must not be, or must have whatever the value, leaves almost
/// everything.
fn names_some(selector: &LabelSelector, shared: &[&str]) -> bool {
    let counts = |key: &str| !shared.contains(&key);
    let labels = selector.match_labels.iter().flatten().any(|(key, _)| counts(key));
    let expressions = selector.match_expressions.iter().flatten();
    labels || expressions.into_iter().any(|one| one.operator == "In" && counts(&one.key))
}

fn is_every_port(port: &NetworkPolicyPort) -> bool {
    match (&port.port, port.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), Some(last)) => *first <= 1 && last >= i32::from(u16::MAX),
        _ => false,
    }
}

/// Whether blocks come to so much together. One that cannot be read may be anything.
fn is_everywhere<'a>(
    blocks: impl Iterator<Item = &'a IPBlock>,
    is_too_much: impl Fn(&Addresses) -> bool,
) -> bool {
    let mut all = Addresses::default();
    for block in blocks {
        let except = block.except.iter().flatten().map(String::as_str);
        match Addresses::of(&block.cidr, except) {
            Some(some) => all.add(some),
            None => return true,
        }
    }
    is_too_much(&all)
}
