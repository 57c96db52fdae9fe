//! Routes through the edge: stable loopback addresses held by the keeper, domains on the public address.
//!
//! Nothing is kept here that a restart would lose: whose route a service's is, is noted with the route.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use paas_core::backend::{Fence, HintFeed};
use paas_core::model::{
    Address, AppId, Clock, Digest, EndpointUse, InstanceId, LatencyHistogram, Protocol, Resource,
    RevisionNumber, Route, RouteStatus, Scope, ServiceId, Slot, SlotTraffic, Timestamp,
};
use paas_core::port::{Backend, Hints, Router, RouterCapabilities, Selector};
use paas_core::{Error, Result};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;

use crate::edge::{
    self, Edge, EndpointRule, Event, HeaderRule, HostRule, ServiceUsage, SlotName, SlotRule, Stamp,
};
use crate::keeper::Keeper;

/// The pause before a lost edge is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// A router on the edge of this machine.
#[derive(Debug, Clone)]
pub struct LocalRouter {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    edge: Edge,
    keeper: Keeper,
    clock: Clock,
    fence: Fence,
    /// Grows with every change, over restarts too.
    generation: AtomicU64,
    /// Services whose address was reserved, and where it is.
    addresses: Mutex<BTreeMap<ServiceId, SocketAddr>>,
    /// Since when endpoints that are still in use have been out of their route.
    left: Mutex<BTreeMap<InstanceId, Timestamp>>,
    apps: Mutex<BTreeMap<String, Note>>,
    feed: HintFeed,
    listening: Mutex<Option<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.listening.get_mut().ok().and_then(Option::take) {
            task.abort();
        }
    }
}

/// What is noted with a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    service: Resource,
    protocol: Protocol,
    digest: Digest,
}

impl Note {
    fn ids(&self) -> Option<(AppId, ServiceId)> {
        match &self.service {
            Resource::Service(_, _, app, service) => Some((app.clone(), service.clone())),
            _ => None,
        }
    }
}

fn slot_name(slot: Slot) -> SlotName {
    match slot {
        Slot::Blue => SlotName::Blue,
        Slot::Green => SlotName::Green,
    }
}

fn listener(service: &ServiceId) -> String {
    format!("address-{service}")
}

impl LocalRouter {
    /// A router on an edge that runs or is about to.
    pub(crate) fn new(edge: Edge, keeper: Keeper, clock: Clock) -> Self {
        let inner = Arc::new(Inner {
            edge,
            keeper,
            generation: AtomicU64::new(clock.now().0),
            clock,
            fence: Fence::default(),
            addresses: Mutex::default(),
            left: Mutex::default(),
            apps: Mutex::default(),
            feed: HintFeed::new(4_096),
            listening: Mutex::new(None),
        });
        let task = tokio::spawn(listen(Arc::downgrade(&inner)));
        *lock(&inner.listening) = Some(task.abort_handle());
        Self { inner }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes on what the edge tells, over its restarts.
async fn listen(inner: std::sync::Weak<Inner>) {
    loop {
        let Some(edge) = inner.upgrade().map(|inner| inner.edge.clone()) else { return };
        if let Ok(mut events) = edge.events().await {
            // What happened before is found by looking.
            let Some(strong) = inner.upgrade() else { return };
            strong.feed.reset();
            drop(strong);
            while let Some(event) = events.next().await {
                let Some(strong) = inner.upgrade() else { return };
                strong.hear(&event);
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Inner {
    fn hear(&self, event: &Event) {
        let note = match event {
            Event::Drained { service, .. } => lock(&self.apps).get(service).cloned(),
            _ => None,
        };
        match note.and_then(|note| Some((note.service.clone(), note.ids()?.0))) {
            Some((service, app)) => self.feed.tell(service, &app),
            None => self.feed.reset(),
        }
    }

    fn stamp(&self, scope: &Scope, known: u64) -> Stamp {
        let now = self.clock.now().0.saturating_mul(1_000);
        let last = self.generation.fetch_max(now, Ordering::SeqCst).max(now);
        let generation = self.generation.fetch_add(1, Ordering::SeqCst).max(last) + 1;
        Stamp { epoch: scope.epoch().map_or(known, |epoch| epoch.0.max(known)), generation }
    }

    /// The address of a service, reserved the first time it is asked for.
    async fn address(&self, service: &ServiceId) -> Result<SocketAddr> {
        if let Some(known) = lock(&self.addresses).get(service) {
            return Ok(*known);
        }
        let any = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        let address = self.keeper.listen(&listener(service), any).await?;
        lock(&self.addresses).insert(service.clone(), address);
        Ok(address)
    }

    async fn status(&self, usage: ServiceUsage) -> Result<Option<RouteStatus>> {
        let Ok(note) = serde_json::from_str::<Note>(&usage.note) else { return Ok(None) };
        let Some((app, service)) = note.ids() else { return Ok(None) };
        let address = self.address(&service).await?;
        lock(&self.apps).insert(usage.service.clone(), note.clone());
        let address = Address::new(address.ip().to_string(), address.port(), note.protocol);
        let mut status = RouteStatus::new(app, service, note.digest, address);
        let now = self.clock.now();
        let mut left = lock(&self.left);
        for endpoint in usage.endpoints {
            let Ok(instance) = InstanceId::new(&endpoint.id) else { continue };
            if endpoint.named {
                left.remove(&instance);
                status.routed.push(instance.clone());
            }
            if endpoint.open == 0 {
                left.remove(&instance);
                continue;
            }
            let since = (!endpoint.named).then(|| *left.entry(instance.clone()).or_insert(now));
            status.in_use.push(EndpointUse { instance, open: endpoint.open, left: since });
        }
        Ok(Some(status))
    }
}

/// The edge's form of a route.
fn rule(route: &Route) -> Result<edge::Route> {
    let mut rule = edge::Route::new(route.service.as_str());
    rule.protocol = match route.protocol {
        Protocol::Tcp => edge::Protocol::Tcp,
        _ => edge::Protocol::Http,
    };
    rule.listen = vec![listener(&route.service)];
    rule.hosts = route
        .hosts
        .iter()
        .map(|host| HostRule { path: host.path.clone(), ..HostRule::new(host.host.clone()) })
        .collect();
    let endpoint = |endpoint: &paas_core::model::Endpoint| EndpointRule {
        id: endpoint.instance.to_string(),
        addr: endpoint.address,
    };
    let slots = route.slots.iter().map(|slot| SlotRule {
        slot: slot_name(slot.slot),
        revision: slot.revision.0,
        weight: slot.weight,
        endpoints: slot.endpoints.iter().map(endpoint).collect(),
    });
    rule.slots = slots.collect();
    rule.header = route.header.as_ref().map(|(header, slot)| HeaderRule {
        name: header.name.clone(),
        value: header.value.clone(),
        slot: slot_name(*slot),
    });
    rule.sticky.clone_from(&route.sticky);
    let note = Note { service: route.resource(), protocol: route.protocol, digest: route.digest() };
    rule.note = serde_json::to_string(&note)
        .map_err(|cause| Error::internal("a route's note cannot be written").with_source(cause))?;
    Ok(rule)
}

#[async_trait]
impl Backend for LocalRouter {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn check(&self) -> Result<()> {
        self.inner.edge.hello().await.map(drop)
    }
}

#[async_trait]
impl Router for LocalRouter {
    fn capabilities(&self) -> RouterCapabilities {
        let mut capabilities = RouterCapabilities::none();
        capabilities.weights = true;
        capabilities.internal_weights = true;
        capabilities.headers = true;
        capabilities.sticky = true;
        capabilities.traffic = true;
        capabilities.fenced = true;
        capabilities.immediate = true;
        capabilities.drains = true;
        capabilities
    }

    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address> {
        let inner = &self.inner;
        inner.fence.admit(scope)?;
        let rule = rule(route)?;
        let address = inner.address(&route.service).await?;
        let known = if scope.epoch().is_some() { 0 } else { inner.edge.hello().await?.epoch };
        let stamp = inner.stamp(scope, known);
        inner.edge.apply(stamp, &rule).await?;
        Ok(Address::new(address.ip().to_string(), address.port(), route.protocol))
    }

    async fn observe(&self, scope: &Scope, selector: &Selector) -> Result<Vec<RouteStatus>> {
        self.inner.fence.see(scope);
        let within = selector.resource();
        let mut found = Vec::new();
        for usage in self.inner.edge.observe_all().await? {
            let ours =
                serde_json::from_str::<Note>(&usage.note).is_ok_and(|note| within.contains(&note.service));
            if ours {
                found.extend(self.inner.status(usage).await?);
            }
        }
        Ok(found)
    }

    async fn traffic(&self, scope: &Scope, service: &Resource) -> Result<Vec<SlotTraffic>> {
        self.inner.fence.see(scope);
        let Resource::Service(.., id) = service else {
            return Err(Error::invalid("traffic is counted by service").with("resource", service));
        };
        let counted = match self.inner.edge.traffic(Some(id.as_str())).await {
            Err(error) if error.kind() == paas_core::ErrorKind::NotFound => return Ok(Vec::new()),
            counted => counted?,
        };
        let slots = counted.services.into_iter().flat_map(|service| service.slots);
        let mut found: Vec<_> = slots.map(|slot| slot_traffic(&slot)).collect();
        found.sort_by_key(|traffic| std::cmp::Reverse(traffic.revision));
        Ok(found)
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.inner.fence.see(scope);
        Ok(self.inner.feed.hints(scope))
    }

    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()> {
        let inner = &self.inner;
        inner.fence.admit(scope)?;
        let Resource::Service(.., id) = service else {
            return Err(Error::invalid("a route belongs to a service").with("resource", service));
        };
        let known = if scope.epoch().is_some() { 0 } else { inner.edge.hello().await?.epoch };
        let stamp = inner.stamp(scope, known);
        inner.edge.remove(stamp, id.as_str()).await?;
        // Whoever comes back gets another address: the old one was given up.
        inner.keeper.unlisten(&listener(id)).await?;
        lock(&inner.addresses).remove(id);
        lock(&inner.apps).remove(id.as_str());
        Ok(())
    }
}

fn slot_traffic(usage: &edge::SlotUsage) -> SlotTraffic {
    let slot = match usage.slot {
        SlotName::Blue => Slot::Blue,
        SlotName::Green => Slot::Green,
    };
    let mut traffic = SlotTraffic::new(slot, RevisionNumber(usage.revision), Timestamp(usage.since));
    traffic.requests = usage.requests;
    traffic.errors = usage.errors;
    let mut counts = [0; LatencyHistogram::BUCKETS];
    for (bucket, count) in &usage.latency.counts {
        // The upper bound of the finer bucket decides, so that a bound stays one.
        counts[LatencyHistogram::bucket(edge::bucket_floor(usize::from(*bucket) + 1))] += count;
    }
    traffic.latency = LatencyHistogram::from_counts(counts);
    traffic
}
