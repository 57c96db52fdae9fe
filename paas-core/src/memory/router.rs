//! Routes without a network: tests pick endpoints, hold requests open and count traffic by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;

use super::lock;
use crate::model::{
    Address, Clock, Endpoint, InstanceId, Resource, RevisionNumber, Route, RouteStatus, Scope, Slot,
    SlotTraffic, Timestamp,
};
use crate::port::{Hints, Router, RouterCapabilities, Selector};
use crate::{Error, Result};

mod held;
mod state;

use state::State;

/// Routes nothing and pretends to. It chooses endpoints exactly as its routes say, so that a test can play clients:
/// [`MemoryRouter::begin`] is a request that is open until it is dropped or finished.
#[derive(Clone, Debug)]
pub struct MemoryRouter {
    capabilities: RouterCapabilities,
    state: Arc<Mutex<State>>,
}

impl Default for MemoryRouter {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryRouter {
    /// A router without routes that can do everything; its counters take their time from tokio's clock.
    #[must_use]
    pub fn new() -> Self {
        let mut capabilities = RouterCapabilities::none();
        capabilities.weights = true;
        capabilities.internal_weights = true;
        capabilities.headers = true;
        capabilities.sticky = true;
        capabilities.traffic = true;
        capabilities.fenced = true;
        capabilities.immediate = true;
        capabilities.drains = true;
        Self::with_capabilities(capabilities)
    }

    /// A router that can do only this.
    #[must_use]
    pub fn with_capabilities(capabilities: RouterCapabilities) -> Self {
        let state = State::new(Clock::runtime(Timestamp::default()));
        Self { capabilities, state: Arc::new(Mutex::new(state)) }
    }

    /// The same router, with another clock for its counters.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        lock(&self.state).clock = clock;
        self
    }

    /// The route of a service.
    #[must_use]
    pub fn route(&self, service: &Resource) -> Option<Route> {
        lock(&self.state).held(service).map(|held| held.route.clone())
    }

    /// The service behind an address.
    #[must_use]
    pub fn service_at(&self, address: &Address) -> Option<Resource> {
        lock(&self.state).service_at(address)
    }

    /// The service that a host and path belong to: the exact host before `*.`, the longest path first.
    #[must_use]
    pub fn service_of(&self, host: &str, path: &str) -> Option<Resource> {
        lock(&self.state).service_of(host, path)
    }

    /// Where the next request to a service goes: by header, then by the sticky cookie (whose value is the slot's
    /// name), then by the weights, exactly, in smooth rotation: without the capability `weights`, to the slot of the greatest
    /// weight. `None` where nobody can answer.
    #[must_use]
    pub fn pick(&self, service: &Resource, headers: &[(&str, &str)]) -> Option<Endpoint> {
        lock(&self.state).pick(service, headers, self.capabilities.weights).map(|(endpoint, _)| endpoint)
    }

    /// As [`MemoryRouter::pick`], for a request to the service's own address: without the capability
    /// `internal_weights` it goes to the slot of the greatest weight.
    #[must_use]
    pub fn pick_internal(&self, service: &Resource, headers: &[(&str, &str)]) -> Option<Endpoint> {
        let by_weight = self.capabilities.internal_weights;
        lock(&self.state).pick(service, headers, by_weight).map(|(endpoint, _)| endpoint)
    }

    /// Picks an endpoint and holds a request open there.
    ///
    /// # Errors
    /// `Unavailable` where nobody can answer.
    pub fn begin(&self, service: &Resource, headers: &[(&str, &str)]) -> Result<OpenRequest> {
        self.begin_by(service, headers, self.capabilities.weights)
    }

    /// As [`MemoryRouter::begin`], for a request to the service's own address.
    ///
    /// # Errors
    /// `Unavailable` where nobody can answer.
    pub fn begin_internal(&self, service: &Resource, headers: &[(&str, &str)]) -> Result<OpenRequest> {
        self.begin_by(service, headers, self.capabilities.internal_weights)
    }

    /// Holds a request open at an instance that is in a route.
    ///
    /// # Errors
    /// `NotFound` where no route has the instance.
    pub fn open(&self, instance: &InstanceId) -> Result<OpenRequest> {
        let mut state = lock(&self.state);
        let (service, endpoint, revision) = state
            .endpoint_of(instance)
            .ok_or_else(|| Error::not_found("no route has this instance").with("instance", instance))?;
        state.opened(&service, instance);
        Ok(self.request(&service, endpoint, revision))
    }

    /// Counts a request of a slot.
    pub fn record(
        &self,
        service: &Resource,
        slot: Slot,
        revision: RevisionNumber,
        ok: bool,
        latency: Duration,
    ) {
        lock(&self.state).record(service, slot, revision, ok, latency);
    }

    /// From now on says of a service's route that its domains are refused, and why; with `None`, no more.
    pub fn refuse(&self, service: &Resource, why: Option<&str>) {
        lock(&self.state).refuse(service, why);
    }

    /// Whether an instance gets no new requests and has none open, in any route.
    #[must_use]
    pub fn is_drained(&self, instance: &InstanceId) -> bool {
        lock(&self.state).statuses(&Resource::Platform).iter().all(|status| status.is_drained(instance))
    }

    /// How often a method of the port was called: `apply`, `observe`, `traffic`, `watch` or `remove`.
    #[must_use]
    pub fn calls(&self, op: &str) -> u64 {
        lock(&self.state).calls.get(op).copied().unwrap_or_default()
    }

    fn begin_by(&self, service: &Resource, headers: &[(&str, &str)], by_weight: bool) -> Result<OpenRequest> {
        let mut state = lock(&self.state);
        let (endpoint, revision) = state
            .pick(service, headers, by_weight)
            .ok_or_else(|| Error::unavailable("no endpoint can answer").with("service", service))?;
        state.opened(service, &endpoint.instance);
        Ok(self.request(service, endpoint, revision))
    }

    fn request(&self, service: &Resource, endpoint: Endpoint, revision: RevisionNumber) -> OpenRequest {
        OpenRequest { state: Arc::clone(&self.state), service: service.clone(), endpoint, revision }
    }

    fn write<T>(
        &self,
        op: &'static str,
        scope: &Scope,
        act: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let mut state = lock(&self.state);
        *state.calls.entry(op).or_default() += 1;
        if self.capabilities.fenced {
            state.fence.admit(scope)?;
        }
        act(&mut state)
    }

    fn read<T>(&self, op: &'static str, scope: &Scope, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        *state.calls.entry(op).or_default() += 1;
        state.fence.see(scope);
        look(&mut state)
    }

    fn check(&self, route: &Route) -> Result<()> {
        if route.header.is_some() && !self.capabilities.headers {
            return Err(Error::unsupported("route by header"));
        }
        if route.sticky.is_some() && !self.capabilities.sticky {
            return Err(Error::unsupported("keep a client on its slot"));
        }
        held::check(route)
    }
}

/// A request that is open until it is finished or dropped.
#[derive(Debug)]
pub struct OpenRequest {
    state: Arc<Mutex<State>>,
    service: Resource,
    endpoint: Endpoint,
    revision: RevisionNumber,
}

impl OpenRequest {
    /// Who answers it.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Ends it and counts it.
    pub fn finish(self, ok: bool, latency: Duration) {
        lock(&self.state).record(&self.service, self.endpoint.slot, self.revision, ok, latency);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        lock(&self.state).closed(&self.service, &self.endpoint.instance);
    }
}

#[async_trait]
impl Router for MemoryRouter {
    fn capabilities(&self) -> RouterCapabilities {
        self.capabilities.clone()
    }

    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address> {
        self.check(route)?;
        self.write("apply", scope, |state| state.apply(route))
    }

    async fn observe(&self, scope: &Scope, selector: &Selector) -> Result<Vec<RouteStatus>> {
        let mut statuses = self.read("observe", scope, |state| state.statuses(&selector.resource()));
        if !self.capabilities.drains {
            statuses.iter_mut().for_each(|status| status.in_use.clear());
        }
        Ok(statuses)
    }

    async fn traffic(&self, scope: &Scope, service: &Resource) -> Result<Vec<SlotTraffic>> {
        if !self.capabilities.traffic {
            return Err(Error::unsupported("count traffic"));
        }
        Ok(self.read("traffic", scope, |state| state.traffic(service)))
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        Ok(self.read("watch", scope, |state| state.feed.hints(scope)))
    }

    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()> {
        self.write("remove", scope, |state| {
            state.remove(service);
            Ok(())
        })
    }
}
