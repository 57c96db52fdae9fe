use paas_core::model::TenantId;

use super::*;

const KIND: RecordKind = RecordKind::new("app");

fn held() -> ConfigMap {
    let key = Key::new(KIND, Some(TenantId::new("t-1").unwrap()), "a-1").unwrap();
    let name = name("paas", &key);
    let mut object =
        ConfigMap::holding("paas", &name, &key, &Bytes::from_static(b"{}"), Expected::Absent).unwrap();
    object.metadata.resource_version = Some("7".into());
    object
}

#[test]
fn an_object_is_a_record_under_its_own_name_only() {
    let own = record(&held(), "paas", KIND).unwrap().unwrap();
    assert_eq!((&*own.key.id, own.version, &own.value[..]), ("a-1", Version(7), &b"{}"[..]));
    let mut copy = held();
    copy.metadata.name = Some("backup-of-app".into());
    let mut marked = copy.clone();
    marked.metadata.annotations = None;
    for other in [copy, marked] {
        assert_eq!(record(&other, "paas", KIND).unwrap(), None);
        assert!(told(&Change::Put(other.clone()), "paas", KIND).is_none());
        assert!(told(&Change::Deleted(other), "paas", KIND).is_none());
    }
    let deleted = told(&Change::Deleted(held()), "paas", KIND);
    assert!(matches!(deleted, Some(RecordChange::Deleted(key)) if key == own.key));
}

#[test]
fn a_record_that_was_spoilt_is_not_passed_over() {
    let mut unmarked = held();
    unmarked.metadata.annotations = None;
    let mut of_another = held();
    of_another.metadata.labels.as_mut().unwrap().insert(label::TENANT.into(), "t-2".into());
    for spoilt in [unmarked, of_another] {
        let error = record(&spoilt, "paas", KIND).unwrap_err();
        assert!(error.to_string().contains("put them back"), "{error}");
        assert!(matches!(told(&Change::Put(spoilt), "paas", KIND), Some(RecordChange::Reset)));
    }
}

#[tokio::test]
async fn a_namespace_that_is_missing_is_no_race() {
    let missing = serde_json::json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
        "message": "namespaces \"paas-system\" not found" });
    let connection = crate::connection::tests::served(move |_| (404, missing.clone()));
    let store = KubeStateStore::new(connection);
    let scope = Scope::testing(paas_core::model::Resource::Platform);
    let key = Key::new(KIND, Some(TenantId::new("t-1").unwrap()), "a-1").unwrap();
    let put =
        async |expected| store.put(&scope, &key, Bytes::from_static(b"{}"), expected).await.unwrap_err();
    let error = put(Expected::Absent).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains("namespace is missing"), "{error}");
    assert_eq!(put(Expected::Version(Version(1))).await.kind(), ErrorKind::Conflict);
}
