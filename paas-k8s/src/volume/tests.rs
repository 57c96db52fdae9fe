//! What claims say, without a cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{Method, Request};
use kube::client::Body;
use paas_core::model::{ByteSize, EnvironmentId, Resource, ServiceId, VolumeName};
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::connection::tests::served;

fn volume(size: u64) -> Volume {
    let (tenant, environment) = (TenantId::new("t-1").unwrap(), EnvironmentId::new("e-1").unwrap());
    let (service, name) = (ServiceId::new("s-1").unwrap(), VolumeName::new("data").unwrap());
    Volume::new(tenant, environment, service, name, 2, ByteSize(size)).unwrap()
}

fn claim(size: u64) -> PersistentVolumeClaim {
    claim::of("paas", &volume(size), None).unwrap()
}

#[test]
fn a_claim_has_the_name_that_the_services_stateful_set_looks_for() {
    assert_eq!(claim(1).name_any(), "data-s-1-blue-2");
    let longest = |length: usize| "a".repeat(length);
    let mut volume = volume(1);
    volume.name = VolumeName::new(longest(40)).unwrap();
    volume.service = ServiceId::new(longest(63)).unwrap();
    assert!(claim::name(&volume).len() <= 253);
}

#[test]
fn a_claim_tells_which_volume_it_holds_and_how_large_it_is() {
    let made = serde_json::to_value(claim(3 << 20)).unwrap();
    assert_eq!(
        made["spec"],
        json!({
            "accessModes": ["ReadWriteOnce"],
            "resources": { "requests": { "storage": "3Mi" } },
        })
    );
    for (key, value) in [("tenant", "t-1"), ("environment", "e-1"), ("service", "s-1"), ("platform", "paas")]
    {
        assert_eq!(made["metadata"]["labels"][format!("paas-sdk.dev/{key}")], value);
    }
    assert_eq!(claim::status(&claim(3 << 20)).unwrap().volume, volume(3 << 20));
    let classed = claim::of("paas", &volume(1), Some("fast")).unwrap();
    assert_eq!(classed.spec.unwrap().storage_class_name.as_deref(), Some("fast"));
    // Nothing cannot be asked for.
    assert_eq!(claim::size(&claim(0)).unwrap(), ByteSize(1));
}

#[test]
fn a_change_grows_a_claim_as_it_was_seen_and_never_shrinks_it() {
    let mut found = claim(2 << 20);
    found.metadata.resource_version = Some("7".into());
    let grown = claim::change("paas", &found, &volume(3 << 20)).unwrap();
    assert_eq!(grown["spec"]["resources"]["requests"], json!({ "storage": "3Mi" }));
    assert_eq!(grown["metadata"]["resourceVersion"], "7");
    let smaller = claim::change("paas", &found, &volume(1 << 20)).unwrap();
    assert_eq!(smaller["spec"]["resources"]["requests"], json!({}));
    let description = &smaller["metadata"]["annotations"]["paas-sdk.dev/volume-description"];
    assert!(description.as_str().unwrap().contains("\"2MiB\""), "{description}");
}

#[test]
fn a_claim_of_somebody_else_is_never_taken_over() {
    let kind =
        |found: &PersistentVolumeClaim| claim::check_own("paas", found, &volume(1)).unwrap_err().kind();
    claim::check_own("paas", &claim(1), &volume(1)).unwrap();
    for key in [label::PLATFORM, label::TENANT, claim::VOLUME] {
        let mut other = claim(1);
        other.labels_mut().insert(key.into(), "other".into());
        assert_eq!(kind(&other), ErrorKind::Conflict, "{key}");
    }
    // The stateful set was faster: it marks its claims as the platform's, and knows no volume.
    let mut early = claim(1);
    early.labels_mut().remove(claim::VOLUME);
    claim::check_own("paas", &early, &volume(1)).unwrap();
    early.labels_mut().remove(label::TENANT);
    assert_eq!(kind(&early), ErrorKind::Conflict);
    let mut going = claim(1);
    going.metadata.deletion_timestamp = serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap();
    assert_eq!(kind(&going), ErrorKind::Unavailable);
}

#[test]
fn a_damaged_claim_is_never_taken_for_a_missing_volume() {
    let own = claim(1);
    let key = "paas-sdk.dev/volume-description";
    for (text, kind) in [
        (None, ErrorKind::Internal),
        (Some("{"), ErrorKind::Internal),
        (Some("{}"), ErrorKind::Internal),
        (Some(r#"{"schema":2}"#), ErrorKind::Invalid),
    ] {
        let mut damaged = own.clone();
        damaged.annotations_mut().remove(key);
        damaged.annotations_mut().extend(text.map(|text| (key.to_owned(), text.to_owned())));
        assert_eq!(claim::status(&damaged).unwrap_err().kind(), kind, "{text:?}");
    }
}

#[test]
fn a_pod_uses_a_claim_until_it_has_ended() {
    let pod = |phase: &str, claim: &str| -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": "p" },
            "spec": {
                "containers": [],
                "volumes": [
                    { "name": "a", "emptyDir": {} },
                    { "name": "b", "persistentVolumeClaim": { "claimName": claim } },
                ],
            },
            "status": { "phase": phase },
        }))
        .unwrap()
    };
    for (phase, used) in [("Pending", true), ("Running", true), ("Succeeded", false), ("Failed", false)] {
        assert_eq!(claim::is_used_by("own", &pod(phase, "own")), used, "{phase}");
        assert!(!claim::is_used_by("own", &pod(phase, "other")));
    }
}

#[test]
fn a_copy_that_tells_nothing_is_not_the_volume() {
    let own = |namespace: &str, name: &str, is_described: bool| {
        let mut claim = claim(1);
        claim.metadata.namespace = Some(namespace.to_owned());
        claim.metadata.name = Some(name.to_owned());
        if !is_described {
            claim.metadata.annotations = None;
        }
        claim
    };
    let wanted = volume(1);
    let namespace = label::namespace("paas", &wanted.tenant, &wanted.environment);
    for is_described in [true, false] {
        assert!(claim::is_in_its_place(&own(&namespace, "data-s-1-blue-2", is_described)));
        for (namespace, name) in
            [("backup", "data-s-1-blue-2"), (&namespace, "data-s-1-blue-2-copy"), (&namespace, "copy-2")]
        {
            let copy = own(namespace, name, is_described);
            assert!(!claim::is_in_its_place(&copy), "{namespace}/{name}, {is_described}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_stays_is_asked_for_less_and_less_often() {
    let looks = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looks);
    let wanted = volume(1);
    let mut object = json!(claim(1));
    object["metadata"]["uid"] = json!("1");
    object["metadata"]["namespace"] = json!(label::namespace("paas", &wanted.tenant, &wanted.environment));
    let connection = served(move |request: &Request<Body>| {
        let (path, list) = (request.uri().path(), |items| json!({ "metadata": {}, "items": items }));
        match *request.method() {
            Method::GET if path.ends_with("/pods") => (200, list(json!([]))),
            Method::GET if path.ends_with("/persistentvolumeclaims") => (200, list(json!([object]))),
            Method::GET => {
                counted.fetch_add(1, Ordering::Relaxed);
                (200, object.clone())
            }
            _ => (200, object.clone()),
        }
    });
    let (scope, confirmation) = (Scope::testing(Resource::Platform), Confirmation::of(wanted.id.as_str()));
    let began = Instant::now();
    let removed =
        KubeVolumes::new(connection).remove(&scope, &wanted.tenant, &wanted.id, &confirmation).await;
    assert_eq!(removed.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(began.elapsed() <= PATIENCE, "{:?}", began.elapsed());
    let looks = looks.load(Ordering::Relaxed);
    assert!((5..=15).contains(&looks), "{looks} looks");
}
