//! One route: whom the next request reaches, and what is open.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::model::{
    Address, Endpoint, EndpointUse, InstanceId, RevisionNumber, Route, RouteSlot, RouteStatus, Slot,
    SlotTraffic, Timestamp,
};
use crate::{Error, Result};

/// How many counters are kept: those of the newest revisions.
const COUNTERS: usize = 16;

/// Refuses a route that contradicts itself.
pub(super) fn check(route: &Route) -> Result<()> {
    let slots: BTreeSet<Slot> = route.slots.iter().map(|slot| slot.slot).collect();
    if slots.len() != route.slots.len() {
        return Err(Error::invalid("a slot comes twice"));
    }
    let mut seen = BTreeSet::new();
    for endpoint in route.slots.iter().flat_map(|slot| &slot.endpoints) {
        if !seen.insert(&endpoint.instance) {
            return Err(Error::invalid("an endpoint comes twice").with("instance", &endpoint.instance));
        }
    }
    Ok(())
}

#[derive(Debug)]
pub(super) struct Held {
    pub(super) route: Route,
    /// Why its domains are refused.
    pub(super) refused: Option<String>,
    address: SocketAddr,
    since: Timestamp,
    /// How much each slot is owed; they sum to zero.
    credit: BTreeMap<Slot, i64>,
    /// Whose turn it is within a slot.
    turn: BTreeMap<Slot, usize>,
    open: BTreeMap<InstanceId, u64>,
    /// Since when what is still open is out of the route.
    left: BTreeMap<InstanceId, Timestamp>,
    traffic: BTreeMap<(RevisionNumber, Slot), SlotTraffic>,
}

impl Held {
    pub(super) fn new(route: &Route, address: SocketAddr, since: Timestamp) -> Self {
        Self {
            route: route.clone(),
            refused: None,
            address,
            since,
            credit: BTreeMap::new(),
            turn: BTreeMap::new(),
            open: BTreeMap::new(),
            left: BTreeMap::new(),
            traffic: BTreeMap::new(),
        }
    }

    /// Takes another route; tells whether an endpoint drained by that.
    pub(super) fn replace(&mut self, route: &Route, now: Timestamp) -> bool {
        let weights = |route: &Route| -> Vec<(Slot, u32)> {
            route.slots.iter().map(|slot| (slot.slot, slot.weight)).collect()
        };
        if weights(&self.route) != weights(route) {
            self.credit.clear();
        }
        let before = std::mem::replace(&mut self.route, route.clone());
        for slot in &route.slots {
            self.counters(slot.slot, slot.revision);
        }
        for old in endpoints(&before) {
            self.left.entry(old.instance.clone()).or_insert(now);
        }
        self.left.retain(|instance, _| {
            self.open.contains_key(instance) && endpoints(route).all(|own| own.instance != *instance)
        });
        endpoints(&before).any(|old| self.is_drained(&old.instance))
    }

    pub(super) fn address(&self) -> Address {
        Address::new(self.address.ip().to_string(), self.address.port(), self.route.protocol)
    }

    pub(super) fn status(&self) -> RouteStatus {
        let Route { app, service, .. } = &self.route;
        let mut status = RouteStatus::new(app.clone(), service.clone(), self.route.digest(), self.address());
        status.message.clone_from(&self.refused);
        status.routed = endpoints(&self.route).map(|endpoint| endpoint.instance.clone()).collect();
        status.in_use = self
            .open
            .iter()
            .map(|(instance, open)| EndpointUse {
                instance: instance.clone(),
                open: *open,
                left: self.left.get(instance).copied(),
            })
            .collect();
        status
    }

    pub(super) fn endpoint(&self, instance: &InstanceId) -> Option<(Endpoint, RevisionNumber)> {
        self.route.slots.iter().find_map(|slot| {
            let own = slot.endpoints.iter().find(|endpoint| endpoint.instance == *instance)?;
            Some((own.clone(), slot.revision))
        })
    }

    pub(super) fn pick(
        &mut self,
        headers: &[(&str, &str)],
        by_weight: bool,
    ) -> Option<(Endpoint, RevisionNumber)> {
        let slot = self
            .by_header(headers)
            .or_else(|| self.by_cookie(headers))
            .or_else(|| if by_weight { self.by_credit() } else { self.heaviest() })?;
        let slot = self.route.slots.iter().find(|own| own.slot == slot)?;
        let turn = self.turn.entry(slot.slot).or_default();
        let endpoint = slot.endpoints.get(*turn % slot.endpoints.len().max(1))?;
        *turn = turn.wrapping_add(1);
        Some((endpoint.clone(), slot.revision))
    }

    fn by_header(&self, headers: &[(&str, &str)]) -> Option<Slot> {
        let (wanted, slot) = self.route.header.as_ref()?;
        let matches =
            |(name, value): &(&str, &str)| name.eq_ignore_ascii_case(&wanted.name) && *value == wanted.value;
        let answers = |own: &RouteSlot| own.slot == *slot && !own.endpoints.is_empty();
        (headers.iter().any(matches) && self.route.slots.iter().any(answers)).then_some(*slot)
    }

    fn by_cookie(&self, headers: &[(&str, &str)]) -> Option<Slot> {
        let name = self.route.sticky.as_deref()?;
        let cookies = headers.iter().filter(|(header, _)| header.eq_ignore_ascii_case("cookie"));
        let value = cookies
            .flat_map(|(_, cookies)| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().split_once('='))
            .find_map(|(own, value)| (own == name).then_some(value))?;
        self.weighted().map(|slot| slot.slot).find(|slot| slot.to_string() == value)
    }

    /// Smooth rotation: everybody earns its weight, the richest pays for all.
    fn by_credit(&mut self) -> Option<Slot> {
        let earning: Vec<(Slot, i64)> =
            self.weighted().map(|slot| (slot.slot, i64::from(slot.weight))).collect();
        self.credit.retain(|slot, _| earning.iter().any(|(own, _)| own == slot));
        for (slot, weight) in &earning {
            *self.credit.entry(*slot).or_default() += weight;
        }
        let total: i64 = earning.iter().map(|(_, weight)| weight).sum();
        let (richest, credit) =
            self.credit.iter_mut().max_by_key(|(slot, credit)| (**credit, std::cmp::Reverse(**slot)))?;
        *credit -= total;
        Some(*richest)
    }

    fn heaviest(&self) -> Option<Slot> {
        self.weighted().max_by_key(|slot| (slot.weight, std::cmp::Reverse(slot.slot))).map(|slot| slot.slot)
    }

    /// The slots that weights can choose.
    fn weighted(&self) -> impl Iterator<Item = &RouteSlot> {
        self.route.slots.iter().filter(|slot| slot.weight > 0 && !slot.endpoints.is_empty())
    }

    pub(super) fn opened(&mut self, instance: &InstanceId) {
        *self.open.entry(instance.clone()).or_default() += 1;
    }

    /// Tells whether the instance drained by that.
    pub(super) fn closed(&mut self, instance: &InstanceId) -> bool {
        let Some(open) = self.open.get_mut(instance) else { return false };
        *open -= 1;
        if *open > 0 {
            return false;
        }
        self.open.remove(instance);
        self.left.remove(instance);
        self.is_drained(instance)
    }

    fn is_drained(&self, instance: &InstanceId) -> bool {
        !self.open.contains_key(instance) && endpoints(&self.route).all(|own| own.instance != *instance)
    }

    pub(super) fn record(&mut self, slot: Slot, revision: RevisionNumber, ok: bool, latency: Duration) {
        let counters = self.counters(slot, revision);
        counters.requests += 1;
        counters.errors += u64::from(!ok);
        counters.latency.record(latency);
    }

    pub(super) fn traffic(&self) -> Vec<SlotTraffic> {
        self.traffic.values().rev().cloned().collect()
    }

    fn counters(&mut self, slot: Slot, revision: RevisionNumber) -> &mut SlotTraffic {
        while self.traffic.len() >= COUNTERS && !self.traffic.contains_key(&(revision, slot)) {
            self.traffic.pop_first();
        }
        let since = self.since;
        self.traffic.entry((revision, slot)).or_insert_with(|| SlotTraffic::new(slot, revision, since))
    }
}

fn endpoints(route: &Route) -> impl Iterator<Item = &Endpoint> {
    route.slots.iter().flat_map(|slot| &slot.endpoints)
}
