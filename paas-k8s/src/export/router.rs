//! Routes that are written down, and pretended to be in force.

use std::sync::Arc;

use async_trait::async_trait;
use paas_core::memory::MemoryRouter;
use paas_core::model::{Address, Resource, Route, RouteStatus, Scope, SlotTraffic};
use paas_core::port::{Backend, Hints, Router, RouterCapabilities, Selector};
use paas_core::{Error, Result};

use super::shelf::{Shelf, carries, has};
use crate::label;
use crate::router::{self, RouterConfig};

/// What [`GatewayRouter`](crate::GatewayRouter) would apply.
#[derive(Debug)]
pub(super) struct ExportRouter {
    inner: MemoryRouter,
    shelf: Arc<Shelf>,
    platform: String,
    config: RouterConfig,
}

impl ExportRouter {
    pub(super) fn new(shelf: &Arc<Shelf>, platform: &str, config: RouterConfig) -> Self {
        let inner = MemoryRouter::with_capabilities(config.capabilities());
        Self { inner, shelf: Arc::clone(shelf), platform: platform.to_owned(), config }
    }

    fn forget(&self, service: &str) {
        self.shelf.remove(|object| has(object, label::SERVICE, service) && carries(object, router::ROUTED));
    }
}

#[async_trait]
impl Backend for ExportRouter {
    fn name(&self) -> &'static str {
        "export"
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Router for ExportRouter {
    fn capabilities(&self) -> RouterCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address> {
        let objects = router::objects(&self.platform, &self.config, route)?;
        self.inner.apply(scope, route).await?;
        self.forget(route.service.as_str());
        for object in objects {
            self.shelf.put(object);
        }
        Ok(router::address(&self.platform, route))
    }

    /// With the addresses that services have on the cluster, which go into the variables of others.
    async fn observe(&self, scope: &Scope, selector: &Selector) -> Result<Vec<RouteStatus>> {
        let mut statuses = self.inner.observe(scope, selector).await?;
        for status in &mut statuses {
            let service = self.inner.service_at(&status.address);
            if let Some(route) = service.and_then(|service| self.inner.route(&service)) {
                status.address = router::address(&self.platform, &route);
            }
        }
        Ok(statuses)
    }

    async fn traffic(&self, scope: &Scope, service: &Resource) -> Result<Vec<SlotTraffic>> {
        self.inner.traffic(scope, service).await
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.inner.watch(scope).await
    }

    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()> {
        let Resource::Service(.., id) = service else {
            return Err(Error::invalid("a route belongs to a service"));
        };
        self.inner.remove(scope, service).await?;
        self.forget(id.as_str());
        Ok(())
    }
}
