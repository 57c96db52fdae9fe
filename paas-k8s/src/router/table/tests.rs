use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use kube::api::PartialObjectMeta;
use serde_json::json;

use super::super::shelf::Shelf;
use super::*;
use crate::follow::Shelf as _;

/// The Service that is the address of a service.
fn service(id: Option<&str>, version: u64) -> PartialObjectMeta<Service> {
    let (tenant, environment) = (TenantId::new("t-1").unwrap(), EnvironmentId::new("e-1").unwrap());
    let mut object: PartialObjectMeta<Service> = serde_json::from_value(json!({ "metadata": {
        "uid": "u-1",
        "name": "s-1",
        "namespace": label::namespace("paas", &tenant, &environment),
        "resourceVersion": version.to_string(),
        "labels": {
            label::PLATFORM: "paas", label::TENANT: "t-1", label::ENVIRONMENT: "e-1", label::APP: "a-1",
        },
        "annotations": { PROTOCOL: "http", MAIN: "blue" },
    } }))
    .unwrap();
    let labels = object.metadata.labels.get_or_insert_default();
    labels.extend(id.map(|id| (label::SERVICE.to_owned(), id.to_owned())));
    object
}

fn seen(table: &Table) -> Vec<String> {
    let listed = table.list(&Resource::Platform);
    listed.iter().map(|route| route.service.to_string()).collect()
}

#[test]
fn an_object_is_whose_its_labels_say_now() {
    let table = Arc::new(Table::default());
    let shelf = Shelf::new(&table, Kind::Service);
    shelf.put(service(Some("s-1"), 5));
    assert_eq!(seen(&table), ["s-1"]);
    shelf.put(service(Some("s-2"), 6));
    assert_eq!(seen(&table), ["s-2"]);
    // Nobody's, and then somebody's again.
    shelf.put(service(None, 7));
    assert!(seen(&table).is_empty());
    shelf.put(service(Some("s-1"), 7));
    assert!(seen(&table).is_empty());
    shelf.put(service(Some("s-1"), 8));
    assert_eq!(seen(&table), ["s-1"]);
    shelf.remove("u-1", 9);
    assert!(seen(&table).is_empty());
    shelf.put(service(Some("s-1"), 10));
    table.ending("u-1");
    shelf.put(service(Some("s-1"), 11));
    assert!(seen(&table).is_empty());
}
