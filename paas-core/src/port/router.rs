//! Brings requests to instances.

use async_trait::async_trait;

use super::{Backend, Hints, Selector};
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Address, Resource, Route, RouteStatus, Scope, SlotTraffic};

/// Who ends TLS of requests to domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Tls {
    /// Nobody that the router knows of: domains are served over plain HTTP, and what shall be private goes through
    /// something before it.
    None,
    /// What stood at the edge before the platform, with certificates of the company's. The router neither makes nor reads
    /// any.
    Existing,
}

/// What a router can do, beyond what all can.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouterCapabilities {
    /// Whether requests to domains are shared out by the weights. Without it, all of them go to the slot with the greatest
    /// weight that has endpoints, and an app with a domain and a canary is refused before it is stored.
    pub weights: bool,
    /// Whether calls to a service's own address follow the weights, as those to its domains do.
    pub internal_weights: bool,
    /// Whether a header can choose the slot.
    pub headers: bool,
    /// Whether a cookie can keep a client on its slot.
    pub sticky: bool,
    /// Whether it counts requests, errors and latency by slot: of those that it passes on itself.
    pub traffic: bool,
    /// Whether it refuses writes of a leader whose term is over.
    pub fenced: bool,
    /// Whether no new request follows the route before once [`Router::apply`] has returned. Where a route is told to
    /// many who act on it each for themselves, new requests follow it soon after.
    pub immediate: bool,
    /// Whether it tells what endpoints have open, and so when one has drained. Without it nothing is ever
    /// [`in_use`](RouteStatus::in_use), which then says nothing.
    pub drains: bool,
    /// Who ends TLS.
    pub tls: Tls,
}

impl RouterCapabilities {
    /// Those of a router that can do nothing more.
    #[must_use]
    pub fn none() -> Self {
        Self {
            weights: false,
            internal_weights: false,
            headers: false,
            sticky: false,
            traffic: false,
            fenced: false,
            immediate: false,
            drains: false,
            tls: Tls::None,
        }
    }
}

/// Holds the stable address and the domains of services, and spreads requests over their instances.
///
/// An endpoint that left a route may be stopped once it has drained. A router that is not
/// [`immediate`](RouterCapabilities::immediate) or does not know what [`drains`](RouterCapabilities::drains) can say so
/// too early. It goes together with a scheduler that lets what it stops serve on until nobody asks it any more: one that
/// declares [`native_rolling`](super::SchedulerCapabilities::native_rolling).
///
/// A route names its endpoints, and the ready ones of a slot are named all. A router may find them by itself, by what
/// the scheduler has marked them with; it then takes from a route which slots have any.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Router: Backend {
    /// What it can do. Always the same answer.
    fn capabilities(&self) -> RouterCapabilities;

    /// Makes this the route of a service. `Ok` means that it is in force or, where the router is not
    /// [`immediate`](RouterCapabilities::immediate), that it will be without any further call. Idempotent.
    ///
    /// The address is the same for a service as long as its route is not removed, whatever else changes.
    ///
    /// # Errors
    /// `Invalid` where both slots are the same or an endpoint comes twice; `Conflict` where a host and path belong to
    /// another service, or a leader of a later term has been seen; `Unsupported` for a header or cookie it cannot do.
    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address>;

    /// The routes of the selection as they were applied and still stand, with what is open. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn observe(&self, scope: &Scope, selector: &Selector) -> Result<Vec<RouteStatus>>;

    /// Counters of a service by slot and revision, newest revision first. A service without a route has none.
    /// Idempotent.
    ///
    /// # Errors
    /// `Unsupported` without the capability `traffic`.
    async fn traffic(&self, scope: &Scope, service: &Resource) -> Result<Vec<SlotTraffic>>;

    /// Tells of endpoints that drained and of routes that somebody else has changed, from the moment of the call on.
    /// Hints may come late, twice, or for nothing.
    ///
    /// # Errors
    /// `Unavailable` where nothing can be watched now.
    async fn watch(&self, scope: &Scope) -> Result<Hints>;

    /// Removes a service's route and gives up its address. Idempotent: a missing route is `Ok`.
    ///
    /// # Errors
    /// `Conflict` where a leader of a later term has been seen.
    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<R: Router + ?Sized> Router for Guarded<R> {
    fn capabilities(&self) -> RouterCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address> {
        let call = call!(self, scope, "router", "apply", Deploy, route.resource(), idempotent);
        self.guard.run(call, || self.inner.apply(scope, route)).await
    }

    async fn observe(&self, scope: &Scope, selector: &Selector) -> Result<Vec<RouteStatus>> {
        let call = call!(self, scope, "router", "observe", Read, selector.resource(), idempotent);
        self.guard.run(call, || self.inner.observe(scope, selector)).await
    }

    async fn traffic(&self, scope: &Scope, service: &Resource) -> Result<Vec<SlotTraffic>> {
        let call = call!(self, scope, "router", "traffic", Read, service.clone(), idempotent);
        self.guard.run(call, || self.inner.traffic(scope, service)).await
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        let call = call!(self, scope, "router", "watch", Read, scope.resource().clone(), idempotent);
        self.guard.run(call, || self.inner.watch(scope)).await
    }

    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()> {
        let call = call!(self, scope, "router", "remove", Deploy, service.clone(), idempotent);
        self.guard.run(call, || self.inner.remove(scope, service)).await
    }
}
