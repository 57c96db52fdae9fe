//! Brings requests to pods.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ObjectMeta;
use paas_core::backend::Fence;
use paas_core::model::{Address, Epoch, Resource, Route, RouteStatus, Scope, SlotTraffic};
use paas_core::port::{Backend, Hints, Router, RouterCapabilities, Selector};
use paas_core::{Error, Result};

use crate::Connection;
use crate::apply::Place;
use crate::follow::Follower;
use crate::watch::{Metadata, Objects};
use manifest::{Kind, Rendered};
use reach::Reach;
use table::{Object, Table};

mod manifest;
mod reach;
mod table;

/// How services are published.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct RouterConfig {
    /// The Gateway that domains are published on: its namespace and its name. It must let routes of all namespaces
    /// attach, and what answers for it runs in its namespace: nothing else may reach instances from outside their app.
    /// Without one, a service with a domain is refused.
    pub gateway: Option<(String, String)>,
}

impl RouterConfig {
    /// Publishes domains on this Gateway.
    #[must_use]
    pub fn gateway(mut self, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        self.gateway = Some((namespace.into(), name.into()));
        self
    }
}

/// A router of Services, and of HTTPRoutes of the Gateway API for domains.
///
/// Each service has a Service that is its address for ever, and one for each slot. Which pods stand behind them follows
/// from their labels and their readiness, so it goes on while the platform is away: a route that differs in its endpoints
/// only costs no call. Calls to a service's own address follow the slot with the greater weight.
///
/// A domain is led to a slot once the cluster itself knows of somebody ready there; a route that comes earlier waits for
/// some seconds, and is then refused with `Unavailable`.
#[derive(Debug)]
pub struct GatewayRouter {
    connection: Connection,
    config: RouterConfig,
    table: Arc<Table>,
    reach: Arc<Reach>,
    fence: Fence,
    followers: Vec<Follower>,
}

impl GatewayRouter {
    /// Lists what is there and begins to watch it.
    ///
    /// # Errors
    /// `Unavailable` where the API server cannot be reached or, with a Gateway, does not know the Gateway API; `Denied`
    /// where it does not let us list and watch.
    pub async fn open(connection: Connection, config: RouterConfig) -> Result<Self> {
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
        Ok(Self { connection, config, table, reach, fence: Fence::default(), followers })
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

fn capabilities(config: &RouterConfig) -> RouterCapabilities {
    let mut capabilities = RouterCapabilities::none();
    capabilities.headers = config.gateway.is_some();
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
        let wanted = manifest::render(platform, self.config.gateway.as_ref(), route, before);
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

    async fn traffic(&self, scope: &Scope, _: &Resource) -> Result<Vec<SlotTraffic>> {
        self.fence.see(scope);
        Err(Error::unsupported("count requests"))
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.fence.see(scope);
        Ok(self.table.feed.hints(scope))
    }

    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()> {
        self.fence.admit(scope)?;
        let Resource::Service(.., service) = service else {
            return Err(Error::invalid("a route belongs to a service"));
        };
        for object in self.table.others(service, &[]) {
            self.delete(object, scope.epoch()).await?;
        }
        self.table.release(service);
        Ok(())
    }
}
