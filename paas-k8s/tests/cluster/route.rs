//! What a gateway says of a route.

use paas_core::Result;
use paas_core::model::RouteStatus;
use paas_core::port::Router;
use paas_k8s::{GatewayRouter, RouterConfig};
use paas_testkit::suite::router::RouterFixture;
use paas_testkit::{Fixture, World};

use super::cases;
use crate::fixture::connect;
use crate::fixture::router::{GATEWAY, Routers};

cases![a_route_that_the_gateway_refuses_says_why];

async fn open(listener: &str) -> Result<GatewayRouter> {
    let config = RouterConfig::default().gateway(GATEWAY.0, GATEWAY.1).listener(listener);
    GatewayRouter::open(connect().await?, config).await
}

/// Waits until the status is as it should be.
async fn until(
    router: &GatewayRouter,
    world: &World,
    fixture: &Routers,
    is_it: impl Fn(&RouteStatus) -> bool,
) -> Result<RouteStatus> {
    let until = tokio::time::Instant::now() + fixture.deadline();
    loop {
        let status = router.observe(&world.scope(), &world.selector()).await?.pop().unwrap();
        if is_it(&status) || tokio::time::Instant::now() > until {
            return Ok(status);
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn a_route_that_the_gateway_refuses_says_why() -> Result<()> {
    let (fixture, world) = (Routers::default(), World::new());
    let mut route = world.route();
    route.hosts = vec![world.host().parse()?];
    fixture.prepare(&route).await?;
    let router = open("nowhere").await?;
    router.apply(&world.scope(), &route).await?;
    let refused = until(&router, &world, &fixture, |status| status.message.is_some()).await?;
    // It stands as it was applied, and is of no use.
    assert_eq!(refused.applied, route.digest());
    let message = refused.message.unwrap_or_default();
    assert!(message.contains("listener nowhere"), "{message}");
    assert!(message.contains("NoMatchingParent"), "{message}");
    // Whoever opens later finds it so, and mends it.
    let later = open("http").await?;
    let found = later.observe(&world.scope(), &world.selector()).await?.pop().unwrap();
    assert_eq!(found.message, Some(message));
    later.apply(&world.scope(), &route).await?;
    let mended = until(&later, &world, &fixture, |status| status.message.is_none()).await?;
    assert_eq!((mended.applied, mended.message), (route.digest(), None));
    later.remove(&world.scope(), &route.resource()).await?;
    fixture.close().await;
    Ok(())
}
