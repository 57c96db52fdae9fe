//! What is sent to the API server, without one.

use futures_util::FutureExt;
use k8s_openapi::api::core::v1::{
    LimitRange, NamespaceCondition, NamespaceStatus, ResourceQuota, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::PartialObjectMeta;
use paas_core::model::{EnvironmentName, TenantName, Timestamp};
use serde_json::Value;

use super::part::{Piece, Seen, Wanted};
use super::table::Table;
use super::*;
use crate::golden;
use crate::policy;

fn room() -> Room {
    room_of(&TenancyConfig::default())
}

fn room_of(config: &TenancyConfig) -> Room {
    let id = TenantId::new("t-00acme").unwrap();
    let tenant = Tenant::new(id.clone(), TenantName::new("acme").unwrap(), Timestamp(1));
    let staging = EnvironmentName::new("staging").unwrap();
    let environment = Environment::new(EnvironmentId::new("e-00staging").unwrap(), id, staging);
    Room::new("paas", &tenant, &environment, config)
}

fn objects() -> Vec<Value> {
    objects_of(room())
}

fn objects_of(room: Room) -> Vec<Value> {
    let Room { namespace, policies, quota, limits, accounts, .. } = room;
    let mut objects = vec![serde_json::to_value(namespace).unwrap()];
    objects.extend(policies.iter().map(|policy| serde_json::to_value(policy).unwrap()));
    objects.push(serde_json::to_value(quota).unwrap());
    objects.push(serde_json::to_value(limits).unwrap());
    objects.extend(accounts.iter().map(|account| serde_json::to_value(account).unwrap()));
    objects
}

#[test]
fn an_environments_objects_are_those_that_were_agreed_on() {
    golden::check("tenancy/golden.json", &objects());
}

#[test]
fn an_environments_objects_keep_tenants_apart() {
    assert_eq!(policy::check(&objects()).unwrap(), []);
}

/// Guards as `kind/name pointer`, and what is said where one is missing.
const GUARDS: &[(&str, &str, &str)] = &[
    ("Namespace", "/metadata/labels/pod-security.kubernetes.io~1enforce", "not held to the restricted"),
    ("Namespace", "/metadata/labels/pod-security.kubernetes.io~1enforce-version", "is not pinned"),
    ("Namespace", "/metadata/labels/pod-security.kubernetes.io~1warn", "nobody is warned"),
    ("Namespace", "/metadata/labels/pod-security.kubernetes.io~1audit", "are not audited"),
    ("Namespace", "/metadata/labels/paas-sdk.dev~1platform", "whose platform"),
    ("Namespace", "/metadata/labels/paas-sdk.dev~1tenant", "which tenant"),
    ("Namespace", "/metadata/labels/paas-sdk.dev~1environment", "which environment"),
    ("paas-deny-all", "", "traffic to pods is not denied"),
    ("paas-deny-all", "", "traffic from pods is not denied"),
    ("paas-deny-all", "/spec/podSelector", "traffic to pods is not denied"),
    ("paas-deny-all", "/spec/podSelector", "traffic from pods is not denied"),
    ("paas-deny-all", "/spec/policyTypes/0", "traffic to pods is not denied"),
    ("paas-deny-all", "/spec/policyTypes/1", "traffic from pods is not denied"),
    ("paas-allow-out", "", "cannot look up names"),
    ("paas-allow-out", "/spec/egress/0/to", "allows traffic with everybody"),
    ("paas-allow-out", "/spec/egress/0/ports/0", "cannot look up names"),
    ("paas-allow-out", "/spec/egress/0/ports/1", "cannot look up names"),
    ("ResourceQuota", "", "no quota"),
    ("ResourceQuota", "/spec/hard/limits.cpu", "no quota"),
    ("ResourceQuota", "/spec/hard/limits.memory", "no quota"),
    ("ResourceQuota", "/spec/hard/pods", "no quota"),
    ("ResourceQuota", "/spec/hard/persistentvolumeclaims", "no quota"),
    ("ResourceQuota", "/spec/hard/requests.storage", "no quota"),
    ("ResourceQuota", "/spec/hard/services.nodeports", "no quota"),
    ("ResourceQuota", "/spec/hard/services.loadbalancers", "no quota"),
    ("LimitRange", "", "states no limits gets none"),
    ("LimitRange", "", "states no requests gets none"),
    ("LimitRange", "/spec/limits/0/default/cpu", "states no limits gets none"),
    ("LimitRange", "/spec/limits/0/default/memory", "states no limits gets none"),
    ("LimitRange", "/spec/limits/0/defaultRequest/cpu", "states no requests gets none"),
    ("LimitRange", "/spec/limits/0/defaultRequest/memory", "states no requests gets none"),
    ("paas-app", "", "account of apps"),
    ("paas-app", "/automountServiceAccountToken", "account of apps"),
    ("default", "", "default account"),
    ("default", "/automountServiceAccountToken", "default account"),
];

#[test]
fn each_guard_is_missed_where_it_is_dropped() {
    for (which, pointer, says) in GUARDS {
        let mut objects = objects();
        let own = |object: &Value| object["kind"] == *which || object["metadata"]["name"] == *which;
        let place = objects.iter().position(own).unwrap();
        if pointer.is_empty() {
            objects.remove(place);
        } else {
            assert!(policy::tests::drop_field(&mut objects[place], pointer), "{which} {pointer}");
        }
        let findings = policy::check(&objects).unwrap();
        assert!(
            findings.iter().any(|finding| finding.says.contains(says)),
            "{which} {pointer}: {findings:?}"
        );
    }
}

#[test]
fn a_rule_that_opens_what_is_denied_is_seen() {
    for (direction, says) in [("ingress", "traffic to pods"), ("egress", "traffic from pods")] {
        let mut objects = objects();
        objects[1]["spec"][direction] = serde_json::json!([{}]);
        let findings = policy::check(&objects).unwrap();
        assert!(findings.iter().any(|finding| finding.says.contains(says)), "{findings:?}");
        assert!(findings.iter().any(|finding| finding.says.contains("everybody")), "{findings:?}");
    }
}

#[test]
fn instances_reach_what_the_platform_allows_and_never_everybody() {
    let objects = |outside: Vec<Destination>| {
        objects_of(room_of(&TenancyConfig { outside, ..TenancyConfig::default() }))
    };
    let internet = Destination::new("0.0.0.0/0").unwrap();
    let but_own = internet.clone().except("10.0.0.0/8").unwrap();
    let allowed = objects(vec![but_own, Destination::new("2001:db8::/32").unwrap()]);
    let rule = serde_json::json!({ "to": [
        { "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"] } },
        { "ipBlock": { "cidr": "2001:db8::/32" } },
    ] });
    let policy = allowed.iter().find(|object| object["metadata"]["name"] == "paas-allow-out").unwrap();
    assert_eq!(policy["spec"]["egress"][1], rule);
    assert_eq!(policy::check(&allowed).unwrap(), []);
    let findings = policy::check(&objects(vec![internet])).unwrap();
    assert!(findings.iter().any(|finding| finding.says.contains("everybody")), "{findings:?}");
}

#[test]
fn names_are_looked_up_where_the_company_says() {
    let dns = Dns::new("openshift-dns").unwrap().port(5353).unwrap();
    let objects = objects_of(room_of(&TenancyConfig { dns, ..TenancyConfig::default() }));
    assert_eq!(policy::check(&objects).unwrap(), []);
    let policy = objects.iter().find(|object| object["metadata"]["name"] == "paas-allow-out").unwrap();
    let peer = &policy["spec"]["egress"][0]["to"][0]["namespaceSelector"]["matchLabels"];
    assert_eq!(peer["kubernetes.io/metadata.name"], "openshift-dns");
}

#[test]
fn a_namespace_of_somebody_else_is_never_taken_over() {
    let wanted = room().namespace;
    let refused = |found: &Namespace| owned(found, &wanted).unwrap_err().kind();
    for key in [label::PLATFORM, label::TENANT, label::ENVIRONMENT] {
        let mut other = wanted.clone();
        other.labels_mut().insert(key.into(), "other".into());
        assert_eq!(refused(&other), ErrorKind::Conflict, "{key}");
        other.labels_mut().remove(key);
        assert_eq!(refused(&other), ErrorKind::Conflict, "{key}");
    }
    let mut own = wanted.clone();
    own.metadata.uid = Some("1".into());
    assert_eq!(owned(&own, &wanted).unwrap().as_deref(), Some("1"));
    own.metadata.deletion_timestamp = serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap();
    assert_eq!(refused(&own), ErrorKind::Unavailable);
}

#[test]
fn labels_alone_make_no_namespace_a_tenants() {
    let mut namespace = room().namespace;
    assert_eq!(environment("paas", &namespace).unwrap().0.as_str(), "t-00acme");
    assert_eq!(environment("other", &namespace), None);
    namespace.metadata.name = Some("kube-system".into());
    assert_eq!(environment("paas", &namespace), None);
}

#[test]
fn what_keeps_a_namespace_is_told() {
    let condition = |status: &str, message: &str| NamespaceCondition {
        status: status.into(),
        message: Some(message.into()),
        ..NamespaceCondition::default()
    };
    let conditions = vec![condition("False", "all well"), condition("True", "a finalizer remains")];
    let status = NamespaceStatus { conditions: Some(conditions), phase: Some("Terminating".into()) };
    let mut namespace = Namespace { status: Some(status), ..Namespace::default() };
    assert_eq!(removal::reasons(&namespace), "a finalizer remains");
    namespace.status = None;
    assert_eq!(removal::reasons(&namespace), "the cluster gives no reason");
}

fn uid(object: &Value) -> String {
    format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}

/// An object with what the cluster adds to it.
fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = uid(&object).into();
    // What is empty is not stored.
    if let Some(spec) = object["spec"].as_object_mut() {
        spec.retain(|_, value| value.as_array().is_none_or(|items| !items.is_empty()));
    }
    object
}

fn wanted() -> Wanted {
    Wanted { config: TenancyConfig::default(), own: "paas-system".into() }
}

/// All of a room as the cluster has it, with what lets the platform in.
fn all_stored() -> Vec<Value> {
    let room = room();
    let mut all: Vec<Value> = objects().into_iter().map(stored).collect();
    all.push(stored(serde_json::to_value(room.place.access("paas-system")).unwrap()));
    all
}

fn seen(object: &Value) -> Option<Seen> {
    fn of<P: Piece + DeserializeOwned>(object: &Value) -> Option<Seen> {
        let object: P = serde_json::from_value(object.clone()).unwrap();
        Seen::of(&object, "paas", &wanted())
    }
    match object["kind"].as_str().unwrap() {
        "Namespace" => of::<PartialObjectMeta<Namespace>>(object),
        "NetworkPolicy" => of::<NetworkPolicy>(object),
        "ResourceQuota" => of::<ResourceQuota>(object),
        "LimitRange" => of::<LimitRange>(object),
        "ServiceAccount" => of::<ServiceAccount>(object),
        "RoleBinding" => of::<RoleBinding>(object),
        other => panic!("{other}"),
    }
}

#[test]
fn what_was_applied_is_whole_and_each_guard_that_is_dropped_is_seen() {
    let all = all_stored();
    assert!(all.iter().all(|object| seen(object).is_some_and(|seen| seen.off.is_none())), "{all:?}");
    for (which, pointer, _) in GUARDS.iter().filter(|(_, pointer, _)| !pointer.is_empty()) {
        let own = |object: &&Value| object["kind"] == *which || object["metadata"]["name"] == *which;
        let mut object = all.iter().find(own).unwrap().clone();
        assert!(policy::tests::drop_field(&mut object, pointer), "{which} {pointer}");
        assert!(seen(&object).is_none_or(|seen| seen.off.is_some()), "{which} {pointer}");
    }
}

#[test]
fn what_somebody_adds_is_seen_and_another_way_to_write_an_amount_is_none() {
    let all = all_stored();
    let changed = |place: usize, pointer: &str, value: Value| {
        let mut object = all[place].clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[key] = value;
        seen(&object).unwrap().off.is_some()
    };
    assert!(changed(1, "/spec/ingress", serde_json::json!([{}])));
    assert!(changed(1, "/spec/podSelector/matchLabels", serde_json::json!({ "a": "b" })));
    assert!(changed(3, "/spec/hard/configmaps", "0".into()));
    assert!(changed(3, "/spec/hard/pods", "201".into()));
    assert!(!changed(3, "/spec/hard/pods", "0.2k".into()));
    assert!(!changed(3, "/spec/hard/limits.cpu", "32000m".into()));
    assert!(changed(4, "/spec/limits/0/max", serde_json::json!({ "cpu": "1" })));
    let stranger =
        serde_json::json!([{ "kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io" }]);
    assert!(changed(7, "/subjects", stranger));
    assert!(changed(7, "/roleRef/name", "admin".into()));
    // A copy elsewhere, with the labels of what it was made from, is nobody's.
    let mut copy = all[1].clone();
    copy["metadata"]["namespace"] = "elsewhere".into();
    assert!(seen(&copy).is_none());
}

/// A table into which all objects of a room were put.
fn table(objects: &[Value], removed: &Removed) -> Table {
    let table = Table::new("paas", wanted(), removed.clone());
    objects.iter().for_each(|object| table.put(seen(object).unwrap()));
    table
}

#[test]
fn a_table_tells_of_rooms_that_are_not_whole_until_they_are() {
    let all = all_stored();
    let removed = Removed::default();
    let told = |table: &Table| table.drift.watch().next().now_or_never().flatten();
    let table_of = |objects: &[Value]| table(objects, &removed);
    let whole = table_of(&all);
    whole.complete();
    assert_eq!(told(&whole), None);

    let lacks = table_of(&all[..7]);
    assert_eq!(told(&lacks), None, "it may still be made");
    lacks.complete();
    let own = told(&lacks).unwrap();
    assert_eq!(own.to_string(), "t-00acme/e-00staging");
    lacks.put(seen(&all[7]).unwrap());
    assert_eq!(told(&lacks), None);

    let mut open = all[1].clone();
    open["spec"]["ingress"] = serde_json::json!([{}]);
    whole.put(seen(&open).unwrap());
    let mut watch = whole.drift.watch();
    assert_eq!(watch.next().now_or_never().flatten(), Some(own.clone()));
    open["status"] = serde_json::json!({ "used": {} });
    whole.put(seen(&open).unwrap());
    assert_eq!(watch.next().now_or_never(), None, "its status is nobody's");
    open["spec"]["egress"] = serde_json::json!([{}]);
    whole.put(seen(&open).unwrap());
    assert_eq!(watch.next().now_or_never().flatten(), Some(own.clone()));
    whole.put(seen(&all[1]).unwrap());
    assert_eq!(told(&whole), None);
    whole.remove(&uid(&all[1]));
    assert_eq!(told(&whole), Some(own.clone()));

    let gone = table_of(&all);
    gone.remove(&uid(&all[0]));
    assert_eq!(told(&gone), Some(own));
    let ended = table_of(&all);
    removed.put(&TenantId::new("t-00acme").unwrap());
    ended.remove(&uid(&all[1]));
    assert_eq!(told(&ended), None, "its tenant was removed");
}

#[test]
fn what_goes_with_its_namespace_is_not_missed() {
    let mut all = all_stored();
    all[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let table = table(&all, &Removed::default());
    table.remove(&uid(&all[1]));
    assert_eq!(table.drift.watch().next().now_or_never(), None);
    table.remove(&uid(&all[0]));
    assert!(table.drift.watch().next().now_or_never().is_some(), "the whole of it is");
}

#[test]
fn a_room_that_is_closed_to_be_removed_is_nobody_elses_doing_until_it_is_opened() {
    let all = all_stored();
    let mut closed = all[0].clone();
    closed["metadata"]["annotations"][CLOSED] = "yes".into();
    let mut quota = all[3].clone();
    quota["spec"]["hard"]["pods"] = "0".into();
    let told = |table: &Table| table.drift.watch().next().now_or_never().flatten();
    let opened = table(&all, &Removed::default());
    for object in [&closed, &quota] {
        opened.put(seen(object).unwrap());
        assert_eq!(told(&opened), None);
    }
    opened.put(seen(&all[0]).unwrap());
    assert!(told(&opened).is_some(), "its quota is still what it was");
    let gone = table(&all, &Removed::default());
    gone.put(seen(&closed).unwrap());
    gone.remove(&uid(&all[1]));
    gone.remove(&uid(&all[0]));
    assert_eq!(told(&gone), None);
}
