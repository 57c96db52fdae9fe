use paas_core::model::{AppId, Endpoint, EnvironmentId, InstanceId, RevisionNumber, TenantId};
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::*;
use crate::golden;

fn route(weights: &[(Slot, u32)]) -> Route {
    let mut route = Route::new(
        TenantId::new("t-1").unwrap(),
        EnvironmentId::new("e-1").unwrap(),
        AppId::new("a-1").unwrap(),
        ServiceId::new("s-1").unwrap(),
        Protocol::Http,
    );
    route.hosts = vec!["shop.example.com".parse().unwrap(), "www.example.com/shop".parse().unwrap()];
    let slot = |(slot, weight): &(Slot, u32)| {
        let (instance, port) = (InstanceId::new(slot.to_string()).unwrap(), 8080 + *weight);
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        let endpoints = vec![Endpoint { instance, slot: *slot, address }];
        RouteSlot { slot: *slot, revision: RevisionNumber(1), weight: *weight, endpoints }
    };
    route.slots = weights.iter().map(slot).collect();
    route
}

fn config() -> RouterConfig {
    RouterConfig::default().gateway("edge", "public")
}

fn rendered(route: &Route) -> Vec<Rendered> {
    render("paas", &config(), route, None)
}

/// All that a route comes to, compared as a whole.
#[test]
fn the_objects_are_as_they_were() {
    let mut route = route(&[(Slot::Blue, 9_000), (Slot::Green, 1_000)]);
    let header = paas_core::model::HeaderMatch { name: "X-Canary".into(), value: "yes".into() };
    route.header = Some((header, Slot::Green));
    let objects: Vec<Value> = rendered(&route).into_iter().map(|it| it.object).collect();
    golden::check("router/manifest/golden.json", &objects);
}

#[test]
fn other_endpoints_alone_change_nothing() {
    let before = route(&[(Slot::Blue, 10_000)]);
    let mut after = before.clone();
    after.slots[0].endpoints.clear();
    assert_ne!(before.digest(), after.digest());
    assert_eq!(rendered(&before), rendered(&after));
}

#[test]
fn a_route_waits_for_the_slots_that_requests_come_to() {
    let mut both = route(&[(Slot::Blue, 10_000), (Slot::Green, 0)]);
    assert_eq!(targets(&both), ["s-1-blue"]);
    let header = paas_core::model::HeaderMatch { name: "X-Canary".into(), value: "yes".into() };
    both.header = Some((header, Slot::Green));
    assert_eq!(targets(&both), ["s-1-blue", "s-1-green"]);
    both.slots[0].endpoints.clear();
    assert_eq!(targets(&both), ["s-1-green"], "nobody is waited for who is not ready");
}

#[test]
fn calls_to_the_service_itself_follow_the_greater_weight() {
    let selects = |weights: &[(Slot, u32)]| {
        let objects = rendered(&route(weights));
        let own = objects.iter().find(|it| it.name == "s-1").unwrap();
        own.object["spec"]["selector"][label::SLOT].as_str().unwrap().to_owned()
    };
    assert_eq!(selects(&[]), "blue");
    assert_eq!(selects(&[(Slot::Blue, 9_000), (Slot::Green, 1_000)]), "blue");
    assert_eq!(selects(&[(Slot::Blue, 1_000), (Slot::Green, 9_000)]), "green");
    assert_eq!(selects(&[(Slot::Green, 10_000)]), "green");
    // While nobody is ready, nothing moves.
    assert_eq!(main_slot(&route(&[]), Some(Slot::Green)), Slot::Green);
}

#[test]
fn a_slot_without_endpoints_leaves_its_share_to_the_other() {
    let mut route = route(&[(Slot::Blue, 9_000), (Slot::Green, 1_000)]);
    route.slots[0].endpoints.clear();
    let objects = rendered(&route);
    let published = objects.iter().find(|it| it.kind == Kind::HttpRoute).unwrap();
    let backends = published.object["spec"]["rules"][0]["backendRefs"].as_array().unwrap();
    assert_eq!(backends.iter().map(|it| &it["name"]).collect::<Vec<_>>(), ["s-1-green"]);
    assert_eq!(main_slot(&route, Some(Slot::Blue)), Slot::Green);
    route.slots[1].endpoints.clear();
    assert_eq!(main_slot(&route, None), Slot::Blue);
}

#[test]
fn what_this_router_cannot_do_is_refused() {
    let mut route = route(&[(Slot::Blue, 10_000)]);
    check(&config(), &route).unwrap();
    assert_eq!(
        check(&RouterConfig::default(), &route).unwrap_err().kind(),
        paas_core::ErrorKind::Unsupported
    );
    route.sticky = Some("cookie".into());
    assert_eq!(check(&config(), &route).unwrap_err().kind(), paas_core::ErrorKind::Unsupported);
    route.sticky = None;
    route.slots.push(route.slots[0].clone());
    assert_eq!(check(&config(), &route).unwrap_err().kind(), paas_core::ErrorKind::Invalid);
    route.slots[1].slot = Slot::Green;
    assert_eq!(check(&config(), &route).unwrap_err().kind(), paas_core::ErrorKind::Invalid);
}

#[test]
fn a_route_attaches_to_the_listeners_that_are_named() {
    let parents = |config: &RouterConfig| {
        let objects = render("paas", config, &route(&[(Slot::Blue, 10_000)]), None);
        let own = objects.into_iter().find(|it| it.kind == Kind::HttpRoute).unwrap();
        own.object["spec"]["parentRefs"].clone()
    };
    assert_eq!(parents(&config()), json!([{ "namespace": "edge", "name": "public" }]));
    assert_eq!(
        parents(&config().listener("http").listener("https")),
        json!([
            { "namespace": "edge", "name": "public", "sectionName": "http" },
            { "namespace": "edge", "name": "public", "sectionName": "https" },
        ])
    );
}

#[test]
fn many_hosts_take_more_than_one_object() {
    let mut route = route(&[(Slot::Blue, 10_000)]);
    route.hosts = (0..50).map(|number| format!("h{number}.example.com").parse().unwrap()).collect();
    let routes: Vec<_> = rendered(&route).into_iter().filter(|it| it.kind == Kind::HttpRoute).collect();
    let names: BTreeSet<_> = routes.iter().map(|it| it.name.as_str()).collect();
    assert_eq!((routes.len(), names.len()), (4, 4));
    assert!(routes.iter().all(|it| it.object["spec"]["hostnames"].as_array().unwrap().len() <= 16));
}

#[test]
fn names_are_names_in_dns() {
    for id in ["s-1", "9", &"s".repeat(63), &"9".repeat(63)] {
        let id = ServiceId::new(id).unwrap();
        for name in [service_name(&id), slot_name(&id, Slot::Green)] {
            assert!(name.len() <= 63 && name.starts_with('s'), "{name}");
        }
    }
}

fn ingress() -> RouterConfig {
    RouterConfig::default().ingress("edge", "public")
}

/// What an Ingress comes to, with a certificate, compared as a whole.
#[test]
fn an_ingress_is_as_it_was() {
    let mut route = route(&[(Slot::Blue, 1_000), (Slot::Green, 9_000)]);
    route.hosts.push("shop.example.com/api".parse().unwrap());
    let objects = render("paas", &ingress().ingress_tls("wildcard"), &route, None);
    let published: Vec<Value> =
        objects.into_iter().filter(|it| it.kind != Kind::Service).map(|it| it.object).collect();
    golden::check("router/manifest/ingress.json", &published);
}

#[test]
fn an_ingress_leads_to_the_slot_with_the_greater_weight() {
    let leads = |route: &Route, before: Option<Slot>| {
        let objects = render("paas", &ingress(), route, before);
        let own = objects.iter().find(|it| it.kind == Kind::Ingress).unwrap();
        assert_eq!(own.object["spec"].get("tls"), None);
        let backend = &own.object["spec"]["rules"][0]["http"]["paths"][0]["backend"];
        backend["service"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(leads(&route(&[(Slot::Blue, 5_001), (Slot::Green, 4_999)]), None), "s-1-blue");
    assert_eq!(leads(&route(&[(Slot::Blue, 1_000), (Slot::Green, 9_000)]), None), "s-1-green");
    assert_eq!(leads(&route(&[]), Some(Slot::Green)), "s-1-green");
    let mut empty = route(&[(Slot::Blue, 9_000), (Slot::Green, 1_000)]);
    empty.slots[0].endpoints.clear();
    assert_eq!(leads(&empty, Some(Slot::Blue)), "s-1-green");
}

#[test]
fn an_ingress_routes_by_no_header() {
    let mut route = route(&[(Slot::Blue, 10_000)]);
    check(&ingress(), &route).unwrap();
    let header = paas_core::model::HeaderMatch { name: "X-Canary".into(), value: "yes".into() };
    route.header = Some((header, Slot::Green));
    assert_eq!(check(&ingress(), &route).unwrap_err().kind(), paas_core::ErrorKind::Unsupported);
}

#[test]
fn what_is_configured_says_what_can_be_done() {
    use paas_core::port::Tls;
    let can = |config: &RouterConfig| {
        config.check().unwrap();
        let can = config.capabilities();
        (can.weights, can.headers, can.tls)
    };
    assert_eq!(can(&RouterConfig::default()), (false, false, Tls::None));
    assert_eq!(can(&config()), (true, true, Tls::Existing));
    assert_eq!(can(&ingress()), (false, false, Tls::None));
    assert_eq!(can(&ingress().ingress_tls("wildcard")), (false, false, Tls::Existing));
}

#[test]
fn a_configuration_that_contradicts_itself_is_refused() {
    let wrong = [
        config().ingress("edge", "public"),
        ingress().metrics("127.0.0.1:9100"),
        ingress().listener("https"),
        config().ingress_tls("wildcard"),
    ];
    for config in wrong {
        assert_eq!(config.check().unwrap_err().kind(), paas_core::ErrorKind::Invalid, "{config:?}");
    }
}

proptest! {
    /// However a service's domains change, none of those that stay is without a route while they are written, one by one.
    #[test]
    fn no_domain_that_stays_is_ever_without_a_route(
        before in subsequence((0..40).collect::<Vec<u32>>(), 0..40).prop_shuffle(),
        after in subsequence((0..40).collect::<Vec<u32>>(), 0..40).prop_shuffle(),
    ) {
        let of = |hosts: &[u32]| {
            let mut route = route(&[(Slot::Blue, 10_000)]);
            route.hosts = hosts.iter().map(|host| format!("h{host}.example.com").parse().unwrap()).collect();
            let objects = rendered(&route).into_iter().filter(|it| it.kind == Kind::HttpRoute);
            objects.map(|it| {
                let hosts: Vec<String> = serde_json::from_value(it.object["spec"]["hostnames"].clone()).unwrap();
                (it.name, hosts)
            }).collect::<Vec<_>>()
        };
        let (old, new) = (of(&before), of(&after));
        let stay: Vec<String> =
            before.iter().filter(|host| after.contains(host)).map(|host| format!("h{host}.example.com")).collect();
        let mut cluster: std::collections::BTreeMap<String, Vec<String>> = old.into_iter().collect();
        for (name, hosts) in new {
            prop_assert!(hosts.len() <= 16);
            cluster.insert(name, hosts);
            for host in &stay {
                prop_assert!(cluster.values().flatten().any(|own| own == host), "{} has no route", host);
            }
        }
    }
}
