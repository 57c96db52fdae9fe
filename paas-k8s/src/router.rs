//! Brings requests to pods.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use kube::api::ObjectMeta;
use paas_core::backend::Fence;
use paas_core::model::{Address, Epoch, Resource, Route, RouteStatus, Scope, ServiceId, Slot, SlotTraffic};
use paas_core::port::{Backend, Hints, Router, RouterCapabilities, Selector};
use paas_core::{Error, Result};
use serde_json::Value;
use tokio::time::Instant;

use crate::Connection;
use crate::apply::Place;
use crate::follow::Follower;
use crate::watch::{Metadata, Objects};
pub(crate) use config::Edge;
use manifest::{Kind, Rendered};
pub(crate) use manifest::{ROUTED, address};
use reach::{LONGEST, Reach};
use shelf::Shelf;
use table::{Object, Table};
use traffic::Traffic;

mod acceptance;
mod config;
mod exposition;
mod manifest;
mod metrics;
mod reach;
mod shelf;
mod table;
mod traffic;

pub use config::{IngressClass, RouterConfig};

/// A router of Services, and of HTTPRoutes of the Gateway API or of Ingresses for domains.
///
/// Each service has a Service that is its address for ever, and one for each slot. Which pods stand behind them follows
/// from their labels and their readiness, so it goes on while the platform is away: a route that differs in its endpoints
/// only costs no call, unless a slot has none any more or has the first. Calls to a service's own address follow the slot
/// with the greater weight.
///
/// An Ingress knows no weights and matches no headers: it leads to the slot with the greater weight, too.
///
/// What is applied is told to the gateway and to every node by the cluster: requests follow it within moments, not at
/// once, and nothing tells how many an endpoint has open. Where the gateway is a Traefik, it can tell how many requests of
/// domains each slot has answered ([`RouterConfig::metrics`]). A cookie that keeps a client on its slot is no part of the
/// Gateway API's standard channel, so there is none.
///
/// A domain is led to a slot once the cluster itself knows of somebody ready there; a route that comes earlier waits for
/// some seconds, and is then refused with `Unavailable`.
#[derive(Debug)]
pub struct GatewayRouter {
    connection: Connection,
    config: RouterConfig,
    table: Arc<Table>,
    traffic: Option<Traffic>,
    reach: Arc<Reach>,
    fence: Fence,
    followers: Vec<Follower>,
}

impl GatewayRouter {
    /// Lists what is there and begins to watch it.
    ///
    /// # Errors
    /// `Unavailable` where the API server cannot be reached or, with a Gateway, does not know the Gateway API; `Denied`
    /// where it does not let us list and watch; `Invalid` for both a Gateway and Ingresses, or what belongs to one without it.
    pub async fn open(connection: Connection, config: RouterConfig) -> Result<Self> {
        config.check()?;
        let (table, reach) = (Arc::new(Table::default()), Arc::new(Reach::default()));
        let selector = format!("{},{}", connection.selector(), manifest::ROUTED);
        let services = Metadata(connection.cluster::<Service>());
        let mut followers =
            vec![Follower::start(services, Shelf::new(&table, Kind::Service), &selector).await?];
        if let Some(edge) = config.edge() {
            followers.push(match edge {
                Edge::Gateway(_) => {
                    let routes = Objects(connection.all_dynamic(&Kind::HttpRoute.resource()));
                    Follower::start(
                        routes,
                        Shelf::new(&table, Kind::HttpRoute).refused_by(acceptance::refusal),
                        &selector,
                    )
                    .await?
                }
                Edge::Ingress(_) => {
                    let ingresses = Metadata(connection.cluster::<Ingress>());
                    Follower::start(ingresses, Shelf::new(&table, Kind::Ingress), &selector).await?
                }
            });
            let policies = Metadata(connection.cluster::<NetworkPolicy>());
            followers
                .push(Follower::start(policies, Shelf::new(&table, Kind::NetworkPolicy), &selector).await?);
            // They have the labels of the Service that they are about.
            let slices = Objects(connection.cluster::<EndpointSlice>());
            followers.push(Follower::start(slices, reach::Shelf(Arc::clone(&reach)), &selector).await?);
        }
        let traffic = config.metrics.clone().map(Traffic::new);
        Ok(Self { connection, config, table, reach, traffic, fence: Fence::default(), followers })
    }

    async fn write(&self, rendered: &Rendered, known: Option<Object>, epoch: Option<Epoch>) -> Result<()> {
        let (kind, namespace) = (rendered.kind, &rendered.namespace);
        let place = Place::new(&self.connection, &kind.resource(), namespace, &rendered.name);
        let read = |meta: &ObjectMeta| Object::of(kind, meta);
        let written = place.apply(known, epoch, read, |_| Ok(rendered.object.clone())).await?;
        self.table.put(&written);
        Ok(())
    }

    fn known(&self, rendered: &Rendered) -> Option<Object> {
        self.table.object(rendered.kind, &rendered.namespace, &rendered.name)
    }

    /// Waits until the cluster knows of somebody ready wherever the route sends requests.
    async fn reached(&self, route: &Route, namespace: &str, until: Instant) -> Result<()> {
        let waited = self.reach.wait(namespace, &manifest::targets(route), until).await;
        waited.map_err(|error| error.with("service", &route.service))
    }

    async fn delete(&self, object: Object, epoch: Option<Epoch>) -> Result<()> {
        let (kind, uid) = (object.kind, object.uid.clone());
        let place = Place::new(&self.connection, &kind.resource(), &object.namespace, &object.name);
        place.delete(object, epoch, |meta| Object::of(kind, meta)).await?;
        self.table.ending(&uid);
        Ok(())
    }
}

/// The objects of a route that has none yet.
pub(crate) fn objects(platform: &str, config: &RouterConfig, route: &Route) -> Result<Vec<Value>> {
    manifest::check(config, route)?;
    let rendered = manifest::render(platform, config, route, None);
    Ok(rendered.into_iter().map(|rendered| rendered.object).collect())
}

#[async_trait]
impl Backend for GatewayRouter {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self) -> Result<()> {
        Follower::check(&self.followers)?;
        self.connection.check().await
    }
}

#[async_trait]
impl Router for GatewayRouter {
    fn capabilities(&self) -> RouterCapabilities {
        self.config.capabilities()
    }

    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address> {
        self.fence.admit(scope)?;
        manifest::check(&self.config, route)?;
        self.table.admit(route)?;
        let until = Instant::now() + LONGEST;
        let before = self.table.main_slot(&route.service);
        let platform = self.connection.platform();
        if let Some(traffic) = &self.traffic {
            let names = Slot::BOTH.map(|slot| (slot, manifest::slot_name(&route.service, slot)));
            traffic.begin(route, &manifest::namespace(platform, route), &names).await;
            // Others were asked in between: somebody else may lead by now.
            self.fence.admit(scope)?;
        }
        let wanted = manifest::render(platform, &self.config, route, before);
        for rendered in &wanted {
            let mut known = self.known(rendered);
            if known.as_ref().is_some_and(|known| known.is(&rendered.digest)) {
                continue;
            }
            if rendered.kind.is_public() {
                self.reached(route, &rendered.namespace, until).await?;
                // That took its time: somebody else may lead by now, or have changed the object.
                self.fence.admit(scope)?;
                known = self.known(rendered);
            }
            self.write(rendered, known, scope.epoch()).await?;
        }
        for old in self.table.others(&route.service, &wanted) {
            self.delete(old, scope.epoch()).await?;
        }
        let address = manifest::address(self.connection.platform(), route);
        self.table.hold(route, &wanted, address.clone());
        Ok(address)
    }

    async fn observe(&self, scope: &Scope, selector: &Selector) -> Result<Vec<RouteStatus>> {
        self.fence.see(scope);
        Ok(self.table.list(&selector.resource()))
    }

    async fn traffic(&self, scope: &Scope, service: &Resource) -> Result<Vec<SlotTraffic>> {
        self.fence.see(scope);
        let traffic = self.traffic.as_ref().ok_or_else(|| Error::unsupported("count requests"))?;
        traffic.of(service_of(service)?).await
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.fence.see(scope);
        Ok(self.table.feed.hints(scope))
    }

    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()> {
        self.fence.admit(scope)?;
        let service = service_of(service)?;
        for object in self.table.others(service, &[]) {
            self.delete(object, scope.epoch()).await?;
        }
        self.table.release(service);
        if let Some(traffic) = &self.traffic {
            traffic.forget(service);
        }
        Ok(())
    }
}

fn service_of(resource: &Resource) -> Result<&ServiceId> {
    match resource {
        Resource::Service(.., service) => Ok(service),
        _ => Err(Error::invalid("a route belongs to a service")),
    }
}
