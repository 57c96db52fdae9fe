//! From a route to the objects that bring requests.

use std::collections::BTreeSet;

use kube::api::{ApiResource, GroupVersionKind};
use paas_core::model::{Address, Digest, Protocol, Route, RouteSlot, ServiceId, Slot};
use paas_core::{Error, Result};
use serde_json::{Value, json};

use super::{Edge, RouterConfig};
use crate::label;

mod http_route;
mod ingress;

/// Marks what a route is made of.
pub(crate) const ROUTED: &str = "paas-sdk.dev/route";
/// The digest of the object as we last wrote it.
pub(super) const APPLIED: &str = "paas-sdk.dev/applied";
/// What is spoken at the service's own address, and the slot that it leads to: on the Service that is the address.
pub(super) const PROTOCOL: &str = "paas-sdk.dev/protocol";
pub(super) const MAIN: &str = "paas-sdk.dev/main";
/// The host and path pairs that an object publishes.
pub(super) const HOSTS: &str = "paas-sdk.dev/hosts";
/// Where every Service listens; it leads to the port that the pods name `main`.
const PORT: u16 = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Service,
    HttpRoute,
    Ingress,
    /// What lets the gateway reach the pods where nothing else may.
    NetworkPolicy,
}

impl Kind {
    /// Whether it leads requests of domains to slots.
    pub(super) fn is_public(self) -> bool {
        matches!(self, Self::HttpRoute | Self::Ingress)
    }

    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Service => ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&()),
            Self::Ingress => ApiResource::erase::<k8s_openapi::api::networking::v1::Ingress>(&()),
            Self::NetworkPolicy => ApiResource::erase::<k8s_openapi::api::networking::v1::NetworkPolicy>(&()),
            Self::HttpRoute => {
                ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"))
            }
        }
    }
}

/// An object as it should be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Rendered {
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) digest: Digest,
    pub(super) object: Value,
}

/// Refuses what no route can be, and what this router cannot do.
pub(super) fn check(config: &RouterConfig, route: &Route) -> Result<()> {
    let about = |error: Error| Err(error.with("service", &route.service));
    if route.sticky.is_some() {
        return about(Error::unsupported("keep a client on its slot"));
    }
    if config.edge().is_none() && !route.hosts.is_empty() {
        return about(Error::unsupported("publish a domain without a Gateway or a class of Ingresses"));
    }
    if config.gateway.is_none() && route.header.is_some() {
        return about(Error::unsupported("route by header without a Gateway"));
    }
    let slots: BTreeSet<Slot> = route.slots.iter().map(|slot| slot.slot).collect();
    if slots.len() < route.slots.len() {
        return about(Error::invalid("both slots of the route are the same"));
    }
    let endpoints: Vec<_> = route.slots.iter().flat_map(|slot| &slot.endpoints).collect();
    let distinct: BTreeSet<_> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    if distinct.len() < endpoints.len() {
        return about(Error::invalid("an endpoint comes twice"));
    }
    Ok(())
}

/// The name of a service's own Service: a name in DNS, which begins with a letter.
fn service_name(service: &ServiceId) -> String {
    let name = if service.as_str().starts_with(|first: char| first.is_ascii_digit()) {
        format!("s-{service}")
    } else {
        service.to_string()
    };
    if name.len() <= LONGEST {
        return name;
    }
    let short: String = name.chars().take(LONGEST - 9).collect();
    format!("{}-{}", short.trim_end_matches('-'), label::digest(&name, 8))
}

/// The slot's Service has six characters more, and 63 are a name in DNS.
const LONGEST: usize = 57;

pub(super) fn slot_name(service: &ServiceId, slot: Slot) -> String {
    format!("{}-{slot}", service_name(service))
}

pub(super) fn namespace(platform: &str, route: &Route) -> String {
    label::namespace(platform, &route.tenant, &route.environment)
}

/// Where the service is reached, for as long as its route is not removed.
pub(crate) fn address(platform: &str, route: &Route) -> Address {
    address_of(&service_name(&route.service), &namespace(platform, route), route.protocol)
}

pub(super) fn address_of(name: &str, namespace: &str, protocol: Protocol) -> Address {
    Address::new(format!("{name}.{namespace}.svc"), PORT, protocol)
}

/// The slots that share the requests: where one of them has nobody, the other has all. A gateway would refuse the
/// share of an empty one.
fn sharing(route: &Route) -> Vec<&RouteSlot> {
    let weighted: Vec<&RouteSlot> = route.slots.iter().filter(|slot| slot.weight > 0).collect();
    let manned: Vec<&RouteSlot> =
        weighted.iter().copied().filter(|slot| !slot.endpoints.is_empty()).collect();
    if manned.is_empty() { weighted } else { manned }
}

/// The slot that calls to the service's own address go to. While nobody is ready that is where they went before.
fn main_slot(route: &Route, before: Option<Slot>) -> Slot {
    let main = sharing(route).into_iter().max_by_key(|slot| (slot.weight, std::cmp::Reverse(slot.slot)));
    let main = main.or(route.slots.iter().min_by_key(|slot| slot.slot));
    main.map(|slot| slot.slot).or(before).unwrap_or(Slot::Blue)
}

/// The Services of the slots that requests come to, as far as anybody there is ready.
pub(super) fn targets(route: &Route) -> Vec<String> {
    let header = route.header.as_ref().map(|(_, slot)| *slot);
    let open = route.slots.iter().filter(|slot| slot.weight > 0 || header == Some(slot.slot));
    let ready = open.filter(|slot| !slot.endpoints.is_empty());
    ready.map(|slot| slot_name(&route.service, slot.slot)).collect()
}

/// All objects of a route. Of its endpoints, they are made from nothing but whether a slot has any.
pub(super) fn render(
    platform: &str,
    config: &RouterConfig,
    route: &Route,
    before: Option<Slot>,
) -> Vec<Rendered> {
    let main = main_slot(route, before);
    let object = |kind: Kind, name: String, spec: Value| object(platform, route, kind, name, &[], &spec);
    let mut own = object(Kind::Service, service_name(&route.service), service(route, main));
    own.object["metadata"]["annotations"][PROTOCOL] = json!(route.protocol);
    own.object["metadata"]["annotations"][MAIN] = json!(main);
    // A route is found by it, so it comes first.
    let mut objects = vec![own];
    let slots = Slot::BOTH.iter();
    objects.extend(
        slots.map(|slot| object(Kind::Service, slot_name(&route.service, *slot), service(route, *slot))),
    );
    if let Some(edge) = config.edge().filter(|_| !route.hosts.is_empty()) {
        let policy = admission(route, edge.namespace());
        objects.push(object(Kind::NetworkPolicy, service_name(&route.service), policy));
        objects.extend(match edge {
            Edge::Gateway(gateway) => http_route::render(platform, config, gateway, route, main),
            Edge::Ingress(ingress) => vec![ingress::render(platform, config, ingress, route, main)],
        });
    }
    objects
}

/// One object of a route, which publishes these pairs of host and path.
fn object(
    platform: &str,
    route: &Route,
    kind: Kind,
    name: String,
    pairs: &[String],
    spec: &Value,
) -> Rendered {
    let mut labels = label::ours(platform);
    for (label, value) in [
        (label::TENANT, route.tenant.to_string()),
        (label::ENVIRONMENT, route.environment.to_string()),
        (label::APP, route.app.to_string()),
        (label::SERVICE, route.service.to_string()),
        (ROUTED, "yes".to_owned()),
    ] {
        labels.insert(label.to_owned(), value);
    }
    let (resource, namespace) = (kind.resource(), namespace(platform, route));
    let mut object = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": { HOSTS: pairs.join(" ") },
        },
        "spec": spec,
    });
    let digest = Digest::of(&object);
    object["metadata"]["annotations"][APPLIED] = json!(digest);
    Rendered { kind, namespace, name, digest, object }
}

/// A Service of the pods of one slot.
fn service(route: &Route, slot: Slot) -> Value {
    let mut port = json!({ "name": "main", "port": PORT, "targetPort": "main", "protocol": "TCP" });
    if route.protocol == Protocol::Http {
        port["appProtocol"] = json!("http");
    }
    json!({
        "type": "ClusterIP",
        "selector": { label::SERVICE: route.service.to_string(), label::SLOT: slot.to_string() },
        "ports": [port],
    })
}

/// Lets whatever runs in the gateway's namespace reach the service's instances, at their port.
fn admission(route: &Route, gateway: &str) -> Value {
    json!({
        "podSelector": { "matchLabels": { label::SERVICE: route.service.to_string() } },
        "policyTypes": ["Ingress"],
        "ingress": [{
            "from": [{ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": gateway } } }],
            "ports": [{ "protocol": "TCP", "port": "main" }],
        }],
    })
}

#[cfg(test)]
mod tests;
