//! When a domain is led to a slot.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, ListParams};
use paas_core::model::{
    AppId, Endpoint, InstanceId, Protocol, RevisionNumber, Route, RouteSlot, ServiceId, Slot,
};
use paas_core::port::Router;
use paas_k8s::{GatewayRouter, RouterConfig};

use super::*;

cases![a_domain_is_led_to_a_slot_once_the_cluster_knows_of_somebody_there];

fn route(stage: &Stage) -> Result<Route> {
    let ids = IdSource::random(Clock::system());
    let (app, service) = (AppId::generate(&ids), ServiceId::generate(&ids));
    let environment = stage.environments[0].id.clone();
    let mut route = Route::new(stage.tenant.id.clone(), environment, app, service, Protocol::Http);
    route.hosts = vec![format!("{}.example", stage.name).parse()?];
    let address = "192.0.2.1:80".parse().map_err(|_| Error::internal("no address"))?;
    let endpoint = Endpoint { instance: InstanceId::new("it")?, slot: Slot::Blue, address };
    route.slots = vec![RouteSlot {
        slot: Slot::Blue,
        revision: RevisionNumber(1),
        weight: 10_000,
        endpoints: vec![endpoint],
    }];
    Ok(route)
}

async fn published(stage: &Stage) -> usize {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"));
    let routes: Api<DynamicObject> = Api::namespaced_with(stage.client.clone(), &stage.name, &kind);
    routes.list(&ListParams::default()).await.unwrap().items.len()
}

/// Says that somebody is ready behind a Service, as the cluster's own controller would.
async fn say_ready(stage: &Stage, service: &Service) {
    let mut labels = json!(service.labels());
    labels["kubernetes.io/service-name"] = json!(service.name_any());
    let slice = json!({
        "metadata": { "name": "early", "labels": labels },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": ["192.0.2.1"], "conditions": { "ready": true } }],
        "ports": [{ "name": "main", "port": 80 }],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(stage.client.clone(), &stage.name);
    slices.create(&PostParams::default(), &serde_json::from_value(slice).unwrap()).await.unwrap();
}

async fn a_domain_is_led_to_a_slot_once_the_cluster_knows_of_somebody_there() -> Result<()> {
    let (scope, stage) = (&scope(), Stage::new().await?);
    let config = RouterConfig::default().gateway("default", "testbed");
    let router = GatewayRouter::open(connect().await?, config).await?;
    let route = route(&stage)?;
    let refusal = router.apply(scope, &route).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Unavailable, "{refusal:?}");
    assert_eq!(published(&stage).await, 0, "a gateway would refuse what it is to bring there");
    let services: Api<Service> = Api::namespaced(stage.client.clone(), &stage.name);
    let all = services.list(&ListParams::default()).await.unwrap().items;
    let slot = all.iter().find(|service| service.name_any().ends_with("-blue")).expect("a slot's Service");
    let (applied, ()) = tokio::join!(router.apply(scope, &route), say_ready(&stage, slot));
    applied?;
    assert_eq!(published(&stage).await, 1);
    router.remove(scope, &route.resource()).await?;
    stage.end().await
}
