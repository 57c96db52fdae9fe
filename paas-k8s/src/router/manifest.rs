//! From a route to the objects that bring requests.

use std::collections::{BTreeMap, BTreeSet};

use kube::api::{ApiResource, GroupVersionKind};
use paas_core::model::{Address, Digest, Protocol, Route, RouteSlot, ServiceId, Slot};
use paas_core::{Error, Result};
use serde_json::{Value, json};

use super::RouterConfig;
use crate::label;

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
    /// What lets the gateway reach the pods where nothing else may.
    NetworkPolicy,
}

impl Kind {
    pub(super) fn resource(self) -> ApiResource {
        match self {
            Self::Service => ApiResource::erase::<k8s_openapi::api::core::v1::Service>(&()),
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
pub(super) fn check(route: &Route, has_gateway: bool) -> Result<()> {
    let about = |error: Error| Err(error.with("service", &route.service));
    if route.sticky.is_some() {
        return about(Error::unsupported("keep a client on its slot"));
    }
    if !has_gateway && !route.hosts.is_empty() {
        return about(Error::unsupported("publish a domain without a gateway"));
    }
    if !has_gateway && route.header.is_some() {
        return about(Error::unsupported("route by header without a gateway"));
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
    let object = |kind: Kind, name: String, hosts: &[String], spec: Value| {
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
        let resource = kind.resource();
        let mut object = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {
                "name": name,
                "namespace": namespace(platform, route),
                "labels": labels,
                "annotations": { HOSTS: hosts.join(" ") },
            },
            "spec": spec,
        });
        let digest = Digest::of(&object);
        object["metadata"]["annotations"][APPLIED] = json!(digest);
        Rendered { kind, namespace: namespace(platform, route), name, digest, object }
    };
    let mut objects: Vec<Rendered> = Slot::BOTH
        .iter()
        .map(|slot| object(Kind::Service, slot_name(&route.service, *slot), &[], service(route, *slot)))
        .collect();
    let mut own = object(Kind::Service, service_name(&route.service), &[], service(route, main));
    own.object["metadata"]["annotations"][PROTOCOL] = json!(route.protocol);
    own.object["metadata"]["annotations"][MAIN] = json!(main);
    objects.push(own);
    if let Some(gateway) = config.gateway.as_ref().filter(|_| !route.hosts.is_empty()) {
        let parents = parents(gateway, &config.listeners);
        let policy = admission(route, &gateway.0);
        objects.push(object(Kind::NetworkPolicy, service_name(&route.service), &[], policy));
        for (path, hosts) in by_path(route) {
            let name = format!(
                "{}-{}",
                service_name(&route.service),
                label::digest(&format!("{path} {}", hosts[0]), 5)
            );
            let pairs: Vec<String> = hosts.iter().map(|host| format!("{host}{path}")).collect();
            objects.push(object(
                Kind::HttpRoute,
                name,
                &pairs,
                http_route(route, main, &parents, &hosts, &path),
            ));
        }
    }
    objects
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

/// As many hosts as one HTTPRoute may have.
const HOSTS_OF_ONE: usize = 16;

/// The hosts of each path, as many together as one object may have.
fn by_path(route: &Route) -> Vec<(String, Vec<String>)> {
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for domain in &route.hosts {
        paths.entry(domain.path.clone()).or_default().push(domain.host.clone());
    }
    let parts = |(path, hosts): (String, Vec<String>)| {
        hosts.chunks(HOSTS_OF_ONE).map(|hosts| (path.clone(), hosts.to_vec())).collect::<Vec<_>>()
    };
    paths.into_iter().flat_map(parts).collect()
}

/// What a route attaches to: these listeners of a Gateway, or all that let it.
fn parents((namespace, name): &(String, String), listeners: &[String]) -> Value {
    let whole = json!({ "namespace": namespace, "name": name });
    if listeners.is_empty() {
        return json!([whole]);
    }
    let one = |listener: &String| {
        let mut one = whole.clone();
        one["sectionName"] = json!(listener);
        one
    };
    listeners.iter().map(one).collect()
}

fn http_route(route: &Route, main: Slot, parents: &Value, hosts: &[String], path: &str) -> Value {
    let backend = |slot: Slot, weight: u32| json!({ "name": slot_name(&route.service, slot), "port": PORT, "weight": weight });
    let path = json!({ "type": "PathPrefix", "value": path });
    let mut rules = Vec::new();
    if let Some((header, slot)) = &route.header {
        let header = json!({ "type": "Exact", "name": header.name, "value": header.value });
        rules.push(json!({
            "matches": [{ "path": path, "headers": [header] }],
            "backendRefs": [backend(*slot, 1)],
        }));
    }
    let weighted: Vec<Value> =
        sharing(route).into_iter().map(|slot| backend(slot.slot, slot.weight)).collect();
    // Nobody can answer yet: whoever asks is told so by the gateway, and not that there is no such host.
    let backends = if weighted.is_empty() { vec![backend(main, 1)] } else { weighted };
    rules.push(json!({ "matches": [{ "path": path }], "backendRefs": backends }));
    json!({
        "parentRefs": parents,
        "hostnames": hosts,
        "rules": rules,
    })
}

#[cfg(test)]
mod tests;
