//! The router, and clients that only exist as calls.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use paas_core::memory::{MemoryRouter, OpenRequest};
use paas_core::model::{Clock, Endpoint, IdSource, InstanceId, Resource, Role, WorkloadKey};
use paas_core::port::{Router, RouterCapabilities};
use paas_core::{Error, Result};

use crate::Fixture;
use crate::suite::router::{Answer, Held, RouterFixture, Target};

/// [`MemoryRouter`] with all or some of its capabilities.
#[derive(Debug)]
pub struct Routers {
    backend: MemoryRouter,
    capabilities: RouterCapabilities,
}

impl Default for Routers {
    fn default() -> Self {
        let backend = MemoryRouter::new();
        let mut capabilities = RouterCapabilities::none();
        capabilities.weights = true;
        capabilities.internal_weights = true;
        capabilities.headers = true;
        capabilities.sticky = true;
        capabilities.traffic = true;
        capabilities.fenced = true;
        capabilities.immediate = true;
        capabilities.drains = true;
        Self { backend, capabilities }
    }
}

impl Routers {
    /// A router that can do nothing more than all can.
    #[must_use]
    pub fn plain() -> Self {
        let capabilities = RouterCapabilities::none();
        Self { backend: MemoryRouter::with_capabilities(capabilities.clone()), capabilities }
    }

    fn begin(&self, target: &Target, headers: &[(&str, &str)]) -> Option<(Resource, OpenRequest)> {
        match target {
            Target::Address(address, _) => {
                let service = self.backend.service_at(address)?;
                let request = self.backend.begin_internal(&service, headers).ok()?;
                Some((service, request))
            }
            Target::Domain(host, path) => {
                let service = self.backend.service_of(host, path)?;
                let request = self.backend.begin(&service, headers).ok()?;
                Some((service, request))
            }
        }
    }
}

impl Fixture for Routers {
    type Port = dyn Router;
    type Capabilities = RouterCapabilities;

    fn capabilities(&self) -> RouterCapabilities {
        self.capabilities.clone()
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Router>>> {
        let backend: Arc<dyn Router> = Arc::new(self.backend.clone());
        Box::pin(async move { Ok(backend) })
    }
}

impl RouterFixture for Routers {
    fn endpoints<'a>(&'a self, key: &'a WorkloadKey, count: u32) -> BoxFuture<'a, Result<Vec<Endpoint>>> {
        let Role::Slot(slot) = key.role else {
            return Box::pin(async { Err(Error::invalid("a task has no endpoints")) });
        };
        let ids = IdSource::random(Clock::system());
        let endpoint = |port| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            Endpoint { instance: InstanceId::generate(&ids), slot, address }
        };
        let endpoints = (1..).take(count as usize).map(endpoint).collect();
        Box::pin(async { Ok(endpoints) })
    }

    fn request<'a>(
        &'a self,
        target: &'a Target,
        headers: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Answer>> {
        let answer = self.begin(target, headers).map(|(service, request)| {
            let Endpoint { instance, slot, .. } = request.endpoint().clone();
            let sticky = self.backend.route(&service).and_then(|route| route.sticky);
            request.finish(!target.path().starts_with("/fail"), Duration::from_millis(3));
            Answer { instance: Some(instance), cookie: sticky.map(|name| format!("{name}={slot}")) }
        });
        Box::pin(async { Ok(answer.unwrap_or_default()) })
    }

    fn hold<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Held>> {
        let request = self.begin(target, &[]);
        Box::pin(async move {
            let (_, request) = request.ok_or_else(|| Error::unavailable("nobody can answer"))?;
            Ok(Held::new(request.endpoint().instance.clone(), request))
        })
    }
}
