//! Brings requests to pods.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ObjectMeta;
use paas_core::backend::Fence;
use paas_core::model::{Address, Epoch, Resource, Route, RouteStatus, Scope, ServiceId, Slot, SlotTraffic};
use paas_core::port::{Backend, Hints, Router, RouterCapabilities, Selector};
use paas_core::{Error, Result};
use serde_json::Value;

use crate::Connection;
use crate::apply::Place;
use crate::follow::Follower;
use crate::watch::{Metadata, Objects};
use manifest::{Kind, Rendered};
pub(crate) use manifest::{ROUTED, address};
use reach::Reach;
use table::{Object, Table};
use traffic::Traffic;

mod exposition;
mod manifest;
mod metrics;
mod reach;
mod table;
mod traffic;

/// How services are published.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RouterConfig {
    /// The Gateway that domains are published on: its namespace and its name. It must let routes of all namespaces
    /// attach, and what answers for it runs in its namespace: nothing else may reach instances from outside their app.
    /// Without one, a service with a domain is refused.
    pub gateway: Option<(String, String)>,
    /// The listeners of the Gateway that domains are published on, like its one for HTTPS, whose certificate is the
    /// company's. Without any, on all of its listeners that let them.
    pub listeners: Vec<String>,
    /// Where a gateway that is a Traefik tells its metrics, like `traefik-metrics.traefik.svc:9100`: plain HTTP, at
    /// `/metrics`, labelled by service (`--metrics.prometheus.addServicesLabels`, which is its default). A name must
    /// stand for all of its replicas, as that of a headless Service does: each counts for itself. With it, requests that
    /// come through the gateway are counted by slot. Latencies are as fine as the buckets that it was given
    /// (`--metrics.prometheus.buckets`; finest for us are 0.001, 0.002, 0.004, …), and count as the lower bound of theirs.
    pub metrics: Option<String>,
}

impl RouterConfig {
    /// Publishes domains on this Gateway.
    #[must_use]
    pub fn gateway(mut self, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        self.gateway = Some((namespace.into(), name.into()));
        self
    }

    /// Publishes domains on this listener of the Gateway, and on others that are named so.
    #[must_use]
    pub fn listener(mut self, name: impl Into<String>) -> Self {
        self.listeners.push(name.into());
        self
    }

    /// Counts requests by what the Traefik behind the Gateway tells here: a host and a port.
    #[must_use]
    pub fn metrics(mut self, address: impl Into<String>) -> Self {
        self.metrics = Some(address.into());
        self
    }
}

/// A router of Services, and of HTTPRoutes of the Gateway API for domains.
///
/// Each service has a Service that is its address for ever, and one for each slot. Which pods stand behind them follows
/// from their labels and their readiness, so it goes on while the platform is away: a route that differs in its endpoints
/// only costs no call, unless a slot has none any more or has the first. Calls to a service's own address follow the slot
/// with the greater weight.
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
    /// where it does not let us list and watch; `Invalid` for metrics without a Gateway.
    pub async fn open(connection: Connection, config: RouterConfig) -> Result<Self> {
        if config.metrics.is_some() && config.gateway.is_none() {
            return Err(Error::invalid("metrics are those of a gateway: name it, too"));
        }
        let (table, reach) = (Arc::new(Table::default()), Arc::new(Reach::default()));
        let selector = format!("{},{}", connection.selector(), manifest::ROUTED);
        let services = Metadata(connection.cluster::<Service>());
        let mut followers =
            vec![Follower::start(services, table::Shelf::new(&table, Kind::Service), &selector).await?];
        if config.gateway.is_some() {
            let routes = Metadata(connection.all_dynamic(&Kind::HttpRoute.resource()));
            let shelf = table::Shelf::new(&table, Kind::HttpRoute);
            followers.push(Follower::start(routes, shelf, &selector).await?);
            let policies = Metadata(connection.cluster::<NetworkPolicy>());
            let shelf = table::Shelf::new(&table, Kind::NetworkPolicy);
            followers.push(Follower::start(policies, shelf, &selector).await?);
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
        self.table.put(written);
        Ok(())
    }

    fn known(&self, rendered: &Rendered) -> Option<Object> {
        self.table.object(rendered.kind, &rendered.namespace, &rendered.name)
    }

    /// Waits until the cluster knows of somebody ready wherever the route sends requests.
    async fn reached(&self, route: &Route, namespace: &str) -> Result<()> {
        for service in manifest::targets(route) {
            self.reach
                .wait(namespace, &service)
                .await
                .map_err(|error| error.with("service", &route.service))?;
        }
        Ok(())
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
    manifest::check(route, config.gateway.is_some())?;
    let rendered = manifest::render(platform, config, route, None);
    Ok(rendered.into_iter().map(|rendered| rendered.object).collect())
}

pub(crate) fn capabilities(config: &RouterConfig) -> RouterCapabilities {
    let mut capabilities = RouterCapabilities::none();
    capabilities.headers = config.gateway.is_some();
    capabilities.traffic = config.metrics.is_some();
    capabilities.fenced = true;
    capabilities
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
        capabilities(&self.config)
    }

    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address> {
        self.fence.admit(scope)?;
        manifest::check(route, self.config.gateway.is_some())?;
        self.table.admit(route)?;
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
            if rendered.kind == Kind::HttpRoute {
                self.reached(route, &rendered.namespace).await?;
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
