//! Requests by slot and revision, from what gateways count by Service.
//!
//! A gateway knows nothing of revisions: its counts go to the revision that a slot has had since its route was applied.
//! Counts only ever grow: where a gateway begins anew, what it has counted since is added.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paas_core::model::{Clock, LatencyHistogram, Route, ServiceId, Slot, SlotTraffic, Timestamp};
use paas_core::{Error, Result};
use tokio::time::Instant;

use super::metrics::{self, Buckets, Reading, Series};

/// How old what was read may be.
const FRESH: Duration = Duration::from_millis(500);
/// How many revisions of a slot are remembered, the present one included.
const REMEMBERED: usize = 4;

/// What gateways have counted for the services of this process.
#[derive(Debug)]
pub(super) struct Traffic {
    /// Where they tell it.
    address: String,
    clock: Clock,
    state: Mutex<State>,
    /// When the last reading began. Held while one goes on, so that all who wait share the next.
    read: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct State {
    services: HashMap<ServiceId, Counters>,
    /// Whose a Service is: by namespace and name, as gateways write them.
    backends: HashMap<String, (ServiceId, Slot)>,
    /// What each gateway had counted at the last reading, without sums over buckets.
    last: HashMap<(SocketAddr, Series), Vec<u64>>,
    /// Which gateways have been asked for which Service. What one had counted before is of no concern.
    asked: HashSet<(SocketAddr, String)>,
}

/// Of each slot, the present revision first.
type Counters = HashMap<Slot, Vec<SlotTraffic>>;

/// The name of a Service within a gateway's.
fn backend(namespace: &str, name: &str) -> String {
    format!("{namespace}-{name}")
}

/// The backends that the name of a gateway's service may be about. `httproute-…-svc-NAMESPACE-NAME-0@kubernetesgateway`
/// is of a route of the Gateway API.
fn candidates(service: &str) -> impl Iterator<Item = &str> {
    const MARK: &str = "-svc-";
    let (name, provider) = service.rsplit_once('@').unwrap_or_default();
    let name = (provider == "kubernetesgateway").then_some(name);
    let inner = name.and_then(|name| name.rsplit_once('-')).map_or("", |(inner, _)| inner);
    inner.match_indices(MARK).map(move |(at, _)| &inner[at + MARK.len()..])
}

impl State {
    fn backend_of<'a>(&self, service: &'a str) -> Option<&'a str> {
        candidates(service).find(|name| self.backends.contains_key(*name))
    }

    /// Adds what a gateway has counted since it was asked last.
    fn add(&mut self, at: SocketAddr, reading: Reading) {
        self.last.retain(|(own, series), _| *own != at || reading.contains_key(series));
        for (series, buckets) in reading {
            let Some(name) = self.backend_of(&series.service).map(str::to_owned) else { continue };
            let is_error = series.code.parse::<u16>().is_ok_and(|code| code >= 500);
            let counts = single(&buckets);
            let before = self.last.insert((at, series), counts.clone());
            if !self.asked.contains(&(at, name.clone())) {
                continue;
            }
            let (service, slot) = &self.backends[&name];
            let counters = self.services.get_mut(service).and_then(|own| own.get_mut(slot));
            let Some(own) = counters.and_then(|revisions| revisions.first_mut()) else { continue };
            count(own, &buckets, &since(&counts, before.as_deref()), is_error);
        }
        self.asked.extend(self.backends.keys().map(|name| (at, name.clone())));
    }

    /// Forgets gateways that there are no more: another may come with the same address.
    fn keep(&mut self, gateways: &[SocketAddr]) {
        self.last.retain(|(at, _), _| gateways.contains(at));
        self.asked.retain(|(at, _)| gateways.contains(at));
    }

    fn forget(&mut self, service: &ServiceId) {
        if self.services.remove(service).is_none() {
            return;
        }
        self.backends.retain(|_, (own, _)| own != service);
        let backends = &self.backends;
        self.asked.retain(|(_, name)| backends.contains_key(name));
        let is_known = |series: &Series| candidates(&series.service).any(|name| backends.contains_key(name));
        self.last.retain(|(_, series), _| is_known(series));
    }
}

/// The requests of each bucket alone.
fn single(buckets: &Buckets) -> Vec<u64> {
    let mut below = 0;
    let alone = |(_, count): &(u64, u64)| {
        let own = count.saturating_sub(below);
        below = below.max(*count);
        own
    };
    buckets.iter().map(alone).collect()
}

/// What was counted after `before`: all of it where the gateway began anew.
fn since(now: &[u64], before: Option<&[u64]>) -> Vec<u64> {
    let Some(before) = before.filter(|before| before.len() == now.len()) else { return now.to_vec() };
    if now.iter().zip(before).any(|(now, before)| now < before) {
        return now.to_vec();
    }
    now.iter().zip(before).map(|(now, before)| now - before).collect()
}

/// Counts requests whose time is known to lie between two bounds: as if it were the lower, so that no rule is broken by
/// bounds that lie far apart.
fn count(own: &mut SlotTraffic, buckets: &Buckets, new: &[u64], is_error: bool) {
    let mut counts = [0; LatencyHistogram::BUCKETS];
    let mut lower = 0;
    for ((bound, _), new) in buckets.iter().zip(new) {
        counts[LatencyHistogram::bucket(Duration::from_micros(lower + 1))] += new;
        lower = *bound;
    }
    let all: u64 = new.iter().sum();
    own.requests += all;
    own.errors += if is_error { all } else { 0 };
    own.latency.merge(&LatencyHistogram::from_counts(counts));
}

impl Traffic {
    pub(super) fn new(address: String) -> Self {
        Self { address, clock: Clock::system(), state: Mutex::default(), read: tokio::sync::Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to count for the revisions of a route that is about to be applied. `names` are those of its Services.
    pub(super) async fn begin(&self, route: &Route, namespace: &str, names: &[(Slot, String)]) {
        let news = {
            let state = self.state();
            let own = state.services.get(&route.service);
            let counts = |slot: &paas_core::model::RouteSlot| {
                let present = own.and_then(|own| own.get(&slot.slot)?.first());
                present.is_some_and(|present| present.revision == slot.revision)
            };
            own.is_none() || !route.slots.iter().all(counts)
        };
        if !news {
            return;
        }
        let now = self.clock.now();
        {
            let mut state = self.state();
            state.services.entry(route.service.clone()).or_default();
            for (slot, name) in names {
                state.backends.insert(backend(namespace, name), (route.service.clone(), *slot));
            }
        }
        // What was counted so far is of those before. A gateway that does not answer keeps no release waiting.
        if !route.hosts.is_empty()
            && let Err(error) = self.refresh(Instant::now()).await
        {
            tracing::warn!(%error, "requests may be counted for the revision after theirs");
        }
        self.state().turn(route, now);
    }

    pub(super) fn forget(&self, service: &ServiceId) {
        self.state().forget(service);
    }

    /// What was counted for a service.
    pub(super) async fn of(&self, service: &ServiceId) -> Result<Vec<SlotTraffic>> {
        if !self.state().services.contains_key(service) {
            return Ok(Vec::new());
        }
        let now = Instant::now();
        self.refresh(now.checked_sub(FRESH).unwrap_or(now)).await?;
        let state = self.state();
        let mut all: Vec<SlotTraffic> =
            state.services.get(service).into_iter().flat_map(HashMap::values).flatten().cloned().collect();
        all.sort_by_key(|own| std::cmp::Reverse((own.revision, own.since)));
        Ok(all)
    }

    /// Asks the gateways, unless they were asked after `oldest`.
    async fn refresh(&self, oldest: Instant) -> Result<()> {
        let mut read = self.read.lock().await;
        if read.is_some_and(|began| began >= oldest) {
            return Ok(());
        }
        let began = Instant::now();
        let gateways = metrics::gateways(&self.address).await?;
        self.state().keep(&gateways);
        let wanted: HashSet<String> = self.state().backends.keys().cloned().collect();
        let is_wanted = |service: &str| candidates(service).any(|name| wanted.contains(name));
        let readings = gateways.iter().map(|at| metrics::read(*at, is_wanted));
        let readings = futures_util::future::join_all(readings).await;
        let mut failure = Error::unavailable("nobody tells metrics").with("metrics", &self.address);
        let mut any = false;
        for (at, reading) in gateways.into_iter().zip(readings) {
            match reading {
                Ok(reading) => {
                    self.state().add(at, reading);
                    any = true;
                }
                Err(error) => failure = error,
            }
        }
        if !any {
            return Err(failure);
        }
        *read = Some(began);
        Ok(())
    }
}

impl State {
    /// Counts for the revisions of a route from now on.
    fn turn(&mut self, route: &Route, now: Timestamp) {
        let Some(own) = self.services.get_mut(&route.service) else { return };
        for slot in &route.slots {
            let revisions = own.entry(slot.slot).or_default();
            if revisions.first().is_none_or(|present| present.revision != slot.revision) {
                revisions.retain(|past| past.revision != slot.revision);
                revisions.insert(0, SlotTraffic::new(slot.slot, slot.revision, now));
                revisions.truncate(REMEMBERED);
            }
        }
    }
}

#[cfg(test)]
mod tests;
