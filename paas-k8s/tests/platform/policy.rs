//! Traffic between pods, on a network that enforces policies.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use paas_core::Result;

use super::exec::request;
use super::{Case, World, app, cases, serving, web};
use crate::fixture::rooms::broken;

pub(super) const CASES: &[(&str, Case)] = cases![pods_reach_their_own_app_and_no_other_tenants];

/// Where the instances of a world serve.
async fn addresses(world: &World) -> Result<Vec<SocketAddr>> {
    let pods: Api<Pod> = Api::all(world.client.clone());
    let pods = pods.list(&world.labels()).await.map_err(broken)?;
    let ips = pods.into_iter().filter_map(|pod| pod.status?.pod_ip?.parse().ok());
    Ok(ips.map(|ip| SocketAddr::new(ip, 8080)).collect())
}

/// Whether an instance of a world reaches an address.
async fn reaches(world: &World, address: SocketAddr) -> Result<bool> {
    let (shop, instance) = (world.shop().await?, world.instance().await?);
    let asked = request(&["reach", &address.to_string()])?;
    let result = shop.exec(&web(), &instance, &asked).await?.collect(100).await?;
    Ok(result.exit.code == Some(0))
}

async fn pods_reach_their_own_app_and_no_other_tenants() -> Result<()> {
    let (one, other) = (World::new().await?, World::new().await?);
    for world in [&one, &other] {
        world.deploy(&app(&serving("1", 2))).await?;
    }
    let own = addresses(&one).await?;
    assert_eq!(own.len(), 2);
    for address in own {
        assert!(reaches(&one, address).await?, "one of its own app");
        assert!(!reaches(&other, address).await?, "another tenant's");
    }
    one.end().await?;
    other.end().await
}
