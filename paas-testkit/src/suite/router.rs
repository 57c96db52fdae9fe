//! The cases of [`Router`].

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::model::{Address, Endpoint, InstanceId, Role, Route, RouteStatus, Scope, Slot, WorkloadKey};
use paas_core::port::{Router, RouterCapabilities};
use paas_core::{ErrorKind, Result};

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
    /// Starts so many instances of a workload, and waits until they are ready. They are marked as its scheduler would
    /// mark them: a router may find them by that. Each answers with its id: 500 below `/fail`, else 200. They live as
    /// long as the fixture; a case asks once for each workload.
    fn endpoints<'a>(&'a self, key: &'a WorkloadKey, count: u32) -> BoxFuture<'a, Result<Vec<Endpoint>>>;

    /// Makes what a route needs to be there before it is applied: its tenant's room.
    fn prepare<'a>(&'a self, route: &'a Route) -> BoxFuture<'a, Result<()>> {
        let _ = route;
        Box::pin(async { Ok(()) })
    }

    /// Sends a request and reads its answer.
    fn request<'a>(
        &'a self,
        target: &'a Target,
        headers: &'a [(&'a str, &'a str)],
    ) -> BoxFuture<'a, Result<Answer>>;

    /// Sends a request that the endpoint does not finish answering before the client leaves. Asked only where the
    /// router declares that it [`drains`](RouterCapabilities::drains).
    fn hold<'a>(&'a self, target: &'a Target) -> BoxFuture<'a, Result<Held>>;
}

suites!("router", Router, RouterFixture);

type Bed = Bench<dyn RouterFixture>;

fn cases() -> Vec<Case<dyn RouterFixture>> {
    [hold::cases(), request::cases(), traffic::cases()].into_iter().flatten().collect()
}

/// Instances of a route's service in a slot, ready.
async fn endpoints(bed: &Bed, route: &Route, slot: Slot, count: u32) -> Result<Vec<Endpoint>> {
    bed.fixture.endpoints(&key(route, slot), count).await
}

fn key(route: &Route, slot: Slot) -> WorkloadKey {
    let Route { tenant, environment, app, service, .. } = route.clone();
    WorkloadKey::new(tenant, environment, app, service, Role::Slot(slot))
}

/// A route of a new service under the case's host, with one endpoint in each weighted slot.
async fn route(bed: &Bed, weights: &[(Slot, u32)]) -> Result<Route> {
    let mut route = under_host(bed)?;
    for (slot, weight) in weights {
        let endpoints = endpoints(bed, &route, *slot, 1).await?;
        route.slots.push(bed.world.slot(*slot, *weight, endpoints));
    }
    Ok(route)
}

fn under_host(bed: &Bed) -> Result<Route> {
    let mut route = bed.world.route();
    route.hosts = vec![bed.world.host().parse()?];
    Ok(route)
}

/// As [`route`], for routes that are refused: nobody is where its endpoints are, and a router may wait for them.
fn named(bed: &Bed, weights: &[(Slot, u32)]) -> Result<Route> {
    let mut route = under_host(bed)?;
    for (port, (slot, weight)) in (8_001..).zip(weights) {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let endpoint = Endpoint { instance: bed.world.instance(), slot: *slot, address };
        route.slots.push(bed.world.slot(*slot, *weight, vec![endpoint]));
    }
    Ok(route)
}

async fn apply(bed: &Bed, route: &Route) -> Result<Address> {
    apply_in(bed, &bed.world.scope(), route).await
}

async fn apply_in(bed: &Bed, scope: &Scope, route: &Route) -> Result<Address> {
    bed.fixture.prepare(route).await?;
    bed.port.apply(scope, route).await
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

/// Asserts what requests show of the route that was applied last: at once where the router is immediate, else soon, and
/// from then on.
async fn shows<T, Fut>(bed: &Bed, what: &str, expected: T, ask: impl Fn() -> Fut) -> Result<()>
where
    T: PartialEq + Debug,
    Fut: Future<Output = Result<T>>,
{
    if !bed.port.capabilities().immediate {
        let shown = || async { Ok((ask().await? == expected).then_some(())) };
        match bed.eventually(what, shown).await {
            // What it shows instead stands in the assertion.
            Err(error) if error.kind() != ErrorKind::Timeout => return Err(error),
            _ => {}
        }
    }
    assert_eq!(ask().await?, expected, "{what}");
    Ok(())
}

/// Asserts who answers a request.
async fn answers(bed: &Bed, target: &Target, who: Option<&Endpoint>) -> Result<()> {
    let who = who.map(|endpoint| endpoint.instance.clone());
    shows(bed, &format!("{target:?}"), who, || answered_by(bed, target)).await
}

/// How many requests each slot answered, and how many nobody did.
type Shares = BTreeMap<Option<Slot>, u32>;

/// Asserts that one slot answers all requests.
async fn all_go_to(bed: &Bed, route: &Route, slot: Slot, headers: &[(&str, &str)], count: u32) -> Result<()> {
    let target = domain(bed, "/");
    let what = format!("all requests go to {slot} with {headers:?}");
    let expected = Shares::from([(Some(slot), count)]);
    shows(bed, &what, expected, || shares(bed, route, &target, headers, count)).await
}

/// How many of `count` requests each slot of a route answered.
async fn shares(
    bed: &Bed,
    route: &Route,
    target: &Target,
    headers: &[(&str, &str)],
    count: u32,
) -> Result<Shares> {
    let mut shares = Shares::new();
    for _ in 0..count {
        let answer = bed.fixture.request(target, headers).await?;
        let slot = answer.instance.as_ref().and_then(|instance| slot_of(route, instance));
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
