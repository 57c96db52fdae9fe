//! The cases of [`Router`].

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::model::{Address, Endpoint, InstanceId, Route, RouteStatus, Slot};
use paas_core::port::{Router, RouterCapabilities};

use crate::case::{Case, suites};
use crate::{Bench, Fixture};

mod hold;
mod request;
mod traffic;

/// Where a request is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A service's own address, and a path.
    Address(Address, String),
    /// A host name and a path at the router's public door.
    Domain(String, String),
}

impl Target {
    /// The path.
    #[must_use]
    pub fn path(&self) -> &str {
        match self {
            Self::Address(_, path) | Self::Domain(_, path) => path,
        }
    }
}

/// What came back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Who answered; nobody where there is no route or no endpoint.
    pub instance: Option<InstanceId>,
    /// `name=value` of a cookie that was set.
    pub cookie: Option<String>,
}

/// A request that has no answer yet. Dropping it ends the request.
pub struct Held {
    /// Who has it.
    pub instance: InstanceId,
    request: Box<dyn Any + Send>,
}

impl Held {
    /// A request that ends when `request` is dropped.
    #[must_use]
    pub fn new(instance: InstanceId, request: impl Any + Send) -> Self {
        Self { instance, request: Box::new(request) }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = &self.request;
        f.debug_tuple("Held").field(&self.instance).finish()
    }
}

/// A router, endpoints that answer, and a client.
///
/// A fenced router remembers the latest term of all cases, so each case needs one of its own.
pub trait RouterFixture: Fixture<Port = dyn Router, Capabilities = RouterCapabilities> {
    /// Starts an endpoint that answers with its instance's id: 500 below `/fail`, else 200. It lives as long as the
    /// fixture.
    fn endpoint(&self, instance: InstanceId, slot: Slot) -> BoxFuture<'_, Result<Endpoint>>;

    /// Sends a request and reads its answer.
    fn request<'a>(
        &'a self,
        target: &'a Target,
        headers: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Answer>>;

    /// Sends a request that the endpoint does not finish answering before the client leaves.
    fn hold<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Held>>;
}

suites!("router", Router, RouterFixture);

type Bed = Bench<dyn RouterFixture>;

fn cases() -> Vec<Case<dyn RouterFixture>> {
    [hold::cases(), request::cases(), traffic::cases()].into_iter().flatten().collect()
}

/// New endpoints in a slot.
async fn endpoints(bed: &Bed, slot: Slot, count: usize) -> Result<Vec<Endpoint>> {
    let mut endpoints = Vec::new();
    for _ in 0..count {
        endpoints.push(bed.fixture.endpoint(bed.world.instance(), slot).await?);
    }
    Ok(endpoints)
}

/// A route of a new service with one endpoint in each weighted slot, under the case's host.
async fn route(bed: &Bed, weights: &[(Slot, u32)]) -> Result<Route> {
    let mut route = bed.world.route();
    route.hosts = vec![bed.world.host().parse()?];
    for (slot, weight) in weights {
        let endpoints = endpoints(bed, *slot, 1).await?;
        route.slots.push(bed.world.slot(*slot, *weight, endpoints));
    }
    Ok(route)
}

async fn apply(bed: &Bed, route: &Route) -> Result<Address> {
    bed.port.apply(&bed.world.scope(), route).await
}

async fn status(bed: &Bed, route: &Route) -> Result<Option<RouteStatus>> {
    let observed = bed.port.observe(&bed.world.scope(), &bed.world.selector()).await?;
    Ok(observed.into_iter().find(|status| status.service == route.service))
}

fn domain(bed: &Bed, path: &str) -> Target {
    Target::Domain(bed.world.host(), path.to_owned())
}

fn at(address: &Address) -> Target {
    Target::Address(address.clone(), "/".to_owned())
}

/// How many of `count` requests each slot of a route answered.
async fn shares(
    bed: &Bed,
    route: &Route,
    target: &Target,
    headers: &[(&str, &str)],
    count: u32,
) -> Result<BTreeMap<Slot, u32>> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        let answer = bed.fixture.request(target, headers).await?;
        let slot = answer.instance.as_ref().and_then(|instance| slot_of(route, instance));
        let slot = slot.unwrap_or_else(|| panic!("{answer:?} is of no endpoint of the route"));
        *shares.entry(slot).or_default() += 1;
    }
    Ok(shares)
}

fn slot_of(route: &Route, instance: &InstanceId) -> Option<Slot> {
    let own = |slot: &&paas_core::model::RouteSlot| slot.endpoints.iter().any(|e| e.instance == *instance);
    route.slots.iter().find(own).map(|slot| slot.slot)
}

async fn answered_by(bed: &Bed, target: &Target) -> Result<Option<InstanceId>> {
    Ok(bed.fixture.request(target, &[]).await?.instance)
}
