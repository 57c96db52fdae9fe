//! Domains by Ingress.

use std::collections::BTreeMap;

use paas_core::model::{Route, Slot};
use serde_json::{Value, json};

use super::{Kind, PORT, Rendered, object, service_name, slot_name};
use crate::router::{IngressClass, RouterConfig};

/// One Ingress, which leads to the slot that calls to the service's own address go to. It names the slot's Service, whose
/// pods are known at the edge by the time of a switch, and not the service's own, which has others from one moment to the
/// next.
pub(super) fn render(
    platform: &str,
    config: &RouterConfig,
    class: &IngressClass,
    route: &Route,
    main: Slot,
) -> Rendered {
    let name = service_name(&route.service);
    let pairs: Vec<String> = route.hosts.iter().map(|own| format!("{}{}", own.host, own.path)).collect();
    let backend =
        json!({ "service": { "name": slot_name(&route.service, main), "port": { "number": PORT } } });
    let mut spec = json!({ "ingressClassName": class.name, "rules": rules(route, &backend) });
    if let Some(secret) = &config.ingress_tls {
        let hosts: Vec<&str> = by_host(route).into_keys().collect();
        spec["tls"] = json!([{ "hosts": hosts, "secretName": secret }]);
    }
    object(platform, route, Kind::Ingress, name, &pairs, &spec)
}

/// The paths of each host.
fn by_host(route: &Route) -> BTreeMap<&str, Vec<&str>> {
    let mut hosts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for domain in &route.hosts {
        hosts.entry(&domain.host).or_default().push(&domain.path);
    }
    hosts
}

fn rules(route: &Route, backend: &Value) -> Vec<Value> {
    let rule = |(host, paths): (&str, Vec<&str>)| {
        let path = |path: &str| json!({ "path": path, "pathType": "Prefix", "backend": backend });
        let paths: Vec<Value> = paths.into_iter().map(path).collect();
        json!({ "host": host, "http": { "paths": paths } })
    };
    by_host(route).into_iter().map(rule).collect()
}
