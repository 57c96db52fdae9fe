//! Domains by the Gateway API.

use std::collections::BTreeMap;

use paas_core::model::{Route, Slot};
use serde_json::{Value, json};

use super::{Kind, PORT, Rendered, object, service_name, sharing, slot_name};
use crate::label;
use crate::router::RouterConfig;

/// An HTTPRoute for each path, and more where many hosts share it. Each is named by the first of its hosts, in their order;
/// so where hosts come or go, others move only between it and later ones. The last is first: written in this order, one
/// has what another is about to lose.
pub(super) fn render(
    platform: &str,
    config: &RouterConfig,
    gateway: &(String, String),
    route: &Route,
    main: Slot,
) -> Vec<Rendered> {
    let parents = parents(gateway, &config.listeners);
    let one = |(path, hosts): (String, Vec<String>)| {
        let digest = label::digest(&format!("{path} {}", hosts[0]), 5);
        let name = format!("{}-{digest}", service_name(&route.service));
        let pairs: Vec<String> = hosts.iter().map(|host| format!("{host}{path}")).collect();
        let spec = http_route(route, main, &parents, &hosts, &path);
        object(platform, route, Kind::HttpRoute, name, &pairs, &spec)
    };
    by_path(route).into_iter().rev().map(one).collect()
}

/// As many hosts as one HTTPRoute may have.
const HOSTS_OF_ONE: usize = 16;

/// The hosts of each path, as many together as one object may have.
fn by_path(route: &Route) -> Vec<(String, Vec<String>)> {
    let mut paths: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for domain in &route.hosts {
        paths.entry(domain.path.clone()).or_default().push(domain.host.clone());
    }
    let parts = |(path, mut hosts): (String, Vec<String>)| {
        hosts.sort_unstable();
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
