//! All routes, and who holds which name.

use std::collections::BTreeMap;
use std::time::Duration;

use super::held::Held;
use crate::backend::{Fence, HintFeed};
use crate::memory::loopback;
use crate::model::{
    Address, Clock, Endpoint, InstanceId, Resource, RevisionNumber, Route, RouteStatus, Slot, SlotTraffic,
    Timestamp,
};
use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct State {
    pub(super) fence: Fence,
    pub(super) calls: BTreeMap<&'static str, u64>,
    pub(super) feed: HintFeed,
    pub(super) clock: Clock,
    routes: BTreeMap<Resource, Held>,
    addresses: u32,
    counting_since: Timestamp,
}

impl State {
    pub(super) fn new(clock: Clock) -> Self {
        Self {
            fence: Fence::default(),
            calls: BTreeMap::new(),
            feed: HintFeed::new(1_024),
            clock,
            routes: BTreeMap::new(),
            addresses: 0,
            counting_since: Timestamp::default(),
        }
    }

    pub(super) fn held(&self, service: &Resource) -> Option<&Held> {
        self.routes.get(service)
    }

    pub(super) fn apply(&mut self, route: &Route) -> Result<Address> {
        let service = route.resource();
        for host in &route.hosts {
            let other =
                |(owner, held): &(&Resource, &Held)| **owner != service && held.route.hosts.contains(host);
            if self.routes.iter().any(|entry| other(&entry)) {
                return Err(Error::conflict("the domain belongs to another service").with("domain", host));
            }
        }
        if !self.routes.contains_key(&service) {
            let address = loopback(10_000, self.addresses);
            self.addresses += 1;
            let since = self.begin_counting();
            self.routes.insert(service.clone(), Held::new(route, address, since));
        }
        let now = self.clock.now();
        let Some(held) = self.routes.get_mut(&service) else {
            return Err(Error::internal("the route is gone"));
        };
        if held.replace(route, now) {
            self.tell(&service);
        }
        Ok(self.routes[&service].address())
    }

    pub(super) fn remove(&mut self, service: &Resource) {
        if self.routes.remove(service).is_some() {
            self.tell(service);
        }
    }

    pub(super) fn refuse(&mut self, service: &Resource, why: Option<&str>) {
        if let Some(held) = self.routes.get_mut(service) {
            held.refused = why.map(str::to_owned);
            self.tell(service);
        }
    }

    pub(super) fn statuses(&self, resource: &Resource) -> Vec<RouteStatus> {
        let selected = self.routes.iter().filter(|(service, _)| resource.contains(service));
        selected.map(|(_, held)| held.status()).collect()
    }

    pub(super) fn service_at(&self, address: &Address) -> Option<Resource> {
        let at = |held: &Held| {
            let own = held.address();
            (own.host.as_str(), own.port) == (address.host.as_str(), address.port)
        };
        self.routes.iter().find(|(_, held)| at(held)).map(|(service, _)| service.clone())
    }

    pub(super) fn service_of(&self, host: &str, path: &str) -> Option<Resource> {
        let host = host.to_ascii_lowercase();
        let host = host.split(':').next().unwrap_or_default();
        let rank = |held: &Held| {
            let matching = held.route.hosts.iter().filter_map(|own| {
                let exact = own.host == host;
                let wild = own.host.strip_prefix("*.").is_some_and(|rest| {
                    host.split_once('.').is_some_and(|(label, parent)| !label.is_empty() && parent == rest)
                });
                let below = own.path == "/"
                    || path
                        .strip_prefix(&own.path)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
                ((exact || wild) && below).then_some((exact, own.path.len()))
            });
            matching.max()
        };
        let ranked = self.routes.iter().filter_map(|(service, held)| Some((rank(held)?, service)));
        ranked.max().map(|(_, service)| service.clone())
    }

    pub(super) fn pick(
        &mut self,
        service: &Resource,
        headers: &[(&str, &str)],
        by_weight: bool,
    ) -> Option<(Endpoint, RevisionNumber)> {
        self.routes.get_mut(service)?.pick(headers, by_weight)
    }

    pub(super) fn endpoint_of(&self, instance: &InstanceId) -> Option<(Resource, Endpoint, RevisionNumber)> {
        self.routes.iter().find_map(|(service, held)| {
            let (endpoint, revision) = held.endpoint(instance)?;
            Some((service.clone(), endpoint, revision))
        })
    }

    pub(super) fn opened(&mut self, service: &Resource, instance: &InstanceId) {
        if let Some(held) = self.routes.get_mut(service) {
            held.opened(instance);
        }
    }

    pub(super) fn closed(&mut self, service: &Resource, instance: &InstanceId) {
        if self.routes.get_mut(service).is_some_and(|held| held.closed(instance)) {
            self.tell(service);
        }
    }

    pub(super) fn record(
        &mut self,
        service: &Resource,
        slot: Slot,
        revision: RevisionNumber,
        ok: bool,
        latency: Duration,
    ) {
        if let Some(held) = self.routes.get_mut(service) {
            held.record(slot, revision, ok, latency);
        }
    }

    pub(super) fn traffic(&self, service: &Resource) -> Vec<SlotTraffic> {
        self.routes.get(service).map(Held::traffic).unwrap_or_default()
    }

    /// Each count begins at a time of its own, so that a reader can tell it from the one before.
    fn begin_counting(&mut self) -> Timestamp {
        self.counting_since = self.clock.now().max(self.counting_since + Duration::from_millis(1));
        self.counting_since
    }

    fn tell(&self, service: &Resource) {
        if let Resource::Service(_, _, app, _) = service {
            self.feed.tell(service.clone(), app);
        }
    }
}
