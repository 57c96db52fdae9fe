//! What holds for all routes: which rule wins, and how exact the weights are.

use std::sync::Arc;

use proptest::prelude::*;

use crate::edge::host::Hosts;
use crate::edge::route::{EndpointRule, HostRule, Route, SlotName, SlotRule};
use crate::edge::table::{Runtime, Service};
use crate::edge::{bucket_floor, bucket_of};

fn domain() -> impl Strategy<Value = String> {
    let label = prop_oneof![Just("a"), Just("b"), Just("C")];
    (prop_oneof![Just(""), Just("*."), Just("*")], prop::collection::vec(label, 1..4)).prop_map(
        |(kind, labels)| match kind {
            "*" => "*".to_owned(),
            prefix => format!("{prefix}{}", labels.join(".")),
        },
    )
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop_oneof![Just("x"), Just("xy"), Just("z"), Just("")], 0..4)
        .prop_map(|segments| format!("/{}", segments.join("/")))
}

/// How well a rule fits, by the book: kind of domain, its length, the path's length; none when it does not.
fn rank(rule: &HostRule, host: &str, path: &str) -> Option<(u8, usize, usize)> {
    let (host, domain) = (host.to_ascii_lowercase(), rule.domain.to_ascii_lowercase());
    let by_domain = match domain.strip_prefix('*') {
        Some("") => (0, 0),
        Some(suffix) if host.ends_with(suffix) && host.len() > suffix.len() => (1, suffix.len()),
        None if domain == host => (2, 0),
        _ => return None,
    };
    let prefix = rule.path.trim_end_matches('/');
    let fits = path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    fits.then_some((by_domain.0, by_domain.1, prefix.len()))
}

proptest! {
    #[test]
    fn the_best_rule_wins(
        rules in prop::collection::vec((domain(), path()), 0..12),
        asks in prop::collection::vec((domain(), path(), any::<bool>()), 1..12),
    ) {
        let mut hosts = Hosts::default();
        let mut kept: Vec<(HostRule, Arc<str>)> = Vec::new();
        for (i, (domain, path)) in rules.into_iter().enumerate() {
            let rule = HostRule { path, ..HostRule::new(domain) };
            let service: Arc<str> = i.to_string().into();
            if hosts.insert(&rule, &service).is_ok() {
                kept.push((rule, service));
            }
        }
        for (host, path, port) in asks {
            let host = host.replace("*.", "").replace('*', "q");
            let best = kept
                .iter()
                .filter_map(|(rule, service)| rank(rule, &host, &path).map(|rank| (rank, service)))
                .max_by_key(|(rank, _)| *rank)
                .map(|(_, service)| service);
            let shown = if port { format!("{host}:8080") } else { host };
            prop_assert_eq!(hosts.find(&shown, &path), best, "{}{}", shown, path);
        }
    }

    /// Every window of 10,000 requests, wherever it begins.
    #[test]
    fn weights_are_exact(blue in 0u32..=10_000, green in 0u32..=10_000, start in any::<u64>()) {
        prop_assume!(blue + green > 0);
        let service = service(blue, green, None);
        service.runtime.tickets.store(start, std::sync::atomic::Ordering::Relaxed);
        let mut counts = [0i64; 2];
        for _ in 0..10_000 {
            counts[service.choose(None).unwrap().slot()] += 1;
        }
        let ideal = f64::from(green) / f64::from(blue + green) * 10_000.0;
        prop_assert!((counts[1] as f64 - ideal).abs() <= 5.0, "{} of 10,000 instead of {}", counts[1], ideal);
    }

    /// Also for clients that send every second (third, ...) of all requests.
    #[test]
    fn weights_are_exact_for_each_kind_of_request(green in 1u32..=99, kinds in 2usize..6) {
        let service = service(100 - green, green, None);
        let mut counts = vec![0i64; kinds];
        for n in 0..10_000 * kinds {
            counts[n % kinds] += service.choose(None).unwrap().slot() as i64;
        }
        for count in counts {
            prop_assert!((count - i64::from(green) * 100).abs() <= 50, "{count} for {green} %");
        }
    }

    #[test]
    fn a_latency_lies_in_its_bucket(us in 0u64..2_000_000_000) {
        let latency = std::time::Duration::from_micros(us);
        let bucket = bucket_of(latency);
        prop_assert!(bucket < crate::edge::BUCKETS);
        prop_assert!(bucket_floor(bucket) <= latency);
        if bucket + 1 < crate::edge::BUCKETS {
            prop_assert!(latency < bucket_floor(bucket + 1));
            prop_assert!(us < 8 || bucket_floor(bucket + 1).as_micros() as u64 <= us + us / 8 + 1);
        }
    }
}

fn service(blue: u32, green: u32, sticky: Option<String>) -> Service {
    let mut route = Route::new("app");
    route.sticky = sticky;
    for (slot, weight, port) in [(SlotName::Blue, blue, 1), (SlotName::Green, green, 2)] {
        let endpoints = vec![EndpointRule { id: slot.to_string(), addr: ([127, 0, 0, 1], port).into() }];
        route.slots.push(SlotRule { slot, revision: 1, weight, endpoints });
    }
    let (events, _) = tokio::sync::broadcast::channel(1);
    Service::compile(&route, &Arc::new(Runtime::new("app".into(), events))).unwrap()
}
