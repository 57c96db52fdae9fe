//! The routes as requests see them: an immutable snapshot, replaced as a whole.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::{HeaderName, HeaderValue};
use paas_core::{Error, Result};

use super::balance::Slot;
use super::host::Hosts;
use super::route::{HostRule, Protocol, Route, SlotName};
use super::traffic::{ServiceTraffic, SlotTraffic};
use super::usage::{Endpoint, EndpointUsage, Events};

/// How many (slot, revision) counters of a service are kept.
const KEPT_REVISIONS: usize = 8;

/// What outlives the tables that name a service: endpoints with open work, counters, the places in the sequences.
#[derive(Debug)]
pub(crate) struct Runtime {
    pub(crate) service: Arc<str>,
    pub(crate) tickets: AtomicU64,
    pub(crate) clients: AtomicU64,
    endpoints: Mutex<Vec<Arc<Endpoint>>>,
    traffic: Mutex<Vec<Arc<SlotTraffic>>>,
    events: Events,
}

impl Runtime {
    pub(crate) fn new(service: Arc<str>, events: Events) -> Self {
        Self {
            service,
            tickets: AtomicU64::new(0),
            clients: AtomicU64::new(0),
            endpoints: Mutex::default(),
            traffic: Mutex::default(),
            events,
        }
    }

    fn endpoint(&self, id: &str, addr: std::net::SocketAddr) -> Arc<Endpoint> {
        let mut known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|e| &*e.id == id && e.addr == addr) {
            return found.clone();
        }
        let new = Arc::new(Endpoint::new(self.service.clone(), id, addr, self.events.clone()));
        known.push(new.clone());
        new
    }

    fn slot_traffic(&self, slot: SlotName, revision: u64) -> Arc<SlotTraffic> {
        let mut known = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.iter().find(|t| t.slot == slot && t.revision == revision) {
            return found.clone();
        }
        if known.len() >= KEPT_REVISIONS {
            known.remove(0);
        }
        let new = Arc::new(SlotTraffic::new(slot, revision));
        known.push(new.clone());
        new
    }

    /// Closes every endpoint that `service` (the current table's entry) does not use, and forgets those of them that
    /// it does not even name once they are drained.
    pub(crate) fn settle(&self, service: Option<&Service>) {
        let mut known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|endpoint| {
            let slot = service.and_then(|s| s.slot_of(endpoint));
            if !slot.is_some_and(|slot| slot.open) {
                endpoint.close();
            }
            slot.is_some() || !endpoint.is_drained()
        });
    }

    pub(crate) fn endpoints(&self) -> Vec<EndpointUsage> {
        let known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().map(|endpoint| endpoint.usage()).collect()
    }

    pub(crate) fn all_endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether no closed endpoint has open work.
    pub(crate) fn is_drained(&self) -> bool {
        let known = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().all(|endpoint| !endpoint.is_closed() || endpoint.is_drained())
    }

    pub(crate) fn traffic(&self) -> ServiceTraffic {
        let known = self.traffic.lock().unwrap_or_else(PoisonError::into_inner);
        ServiceTraffic { service: self.service.to_string(), slots: known.iter().map(|t| t.usage()).collect() }
    }
}

/// A service's route, compiled.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) id: Arc<str>,
    pub(crate) protocol: Protocol,
    pub(crate) slots: Vec<Slot>,
    /// The weights of the slots that have endpoints.
    pub(crate) total: u64,
    pub(crate) header: Option<(HeaderName, HeaderValue, usize)>,
    pub(crate) sticky: Option<Box<str>>,
    pub(crate) runtime: Arc<Runtime>,
    pub(crate) listen: Vec<String>,
    pub(crate) hosts: Vec<HostRule>,
}

impl Service {
    /// Compiles a validated route; endpoints that are known keep their counts and connections.
    pub(crate) fn compile(route: &Route, runtime: &Arc<Runtime>) -> Result<Self> {
        let header = match &route.header {
            None => None,
            Some(rule) => {
                let wrong = |e: &dyn std::fmt::Display| Error::invalid("wrong header rule").with("value", e);
                let name = HeaderName::from_bytes(rule.name.as_bytes()).map_err(|e| wrong(&e))?;
                let value = HeaderValue::from_str(&rule.value).map_err(|e| wrong(&e))?;
                route.slots.iter().position(|slot| slot.slot == rule.slot).map(|slot| (name, value, slot))
            }
        };
        let target = header.as_ref().map(|(_, _, slot)| *slot);
        let slots: Vec<Slot> = route
            .slots
            .iter()
            .enumerate()
            .map(|(i, rule)| Slot {
                weight: u64::from(rule.weight),
                open: rule.weight > 0 || target == Some(i),
                endpoints: rule.endpoints.iter().map(|e| runtime.endpoint(&e.id, e.addr)).collect(),
                traffic: runtime.slot_traffic(rule.slot, rule.revision),
                cursor: AtomicU64::new(0),
            })
            .collect();
        Ok(Self {
            id: runtime.service.clone(),
            protocol: route.protocol,
            total: slots.iter().map(Slot::share).sum(),
            slots,
            header,
            sticky: route.sticky.as_deref().map(Into::into),
            runtime: runtime.clone(),
            listen: route.listen.clone(),
            hosts: route.hosts.clone(),
        })
    }

    fn slot_of(&self, endpoint: &Arc<Endpoint>) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.endpoints.iter().any(|known| Arc::ptr_eq(known, endpoint)))
    }

    fn admit(&self) {
        for endpoint in self.slots.iter().filter(|slot| slot.open).flat_map(|slot| &slot.endpoints) {
            endpoint.admit();
        }
    }
}

/// All services at one moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) services: HashMap<Arc<str>, Arc<Service>>,
    /// By listener; the listener belongs to one service.
    internal: HashMap<Box<str>, Arc<str>>,
    /// By listener.
    shared: HashMap<Box<str>, Arc<Hosts>>,
}

impl Table {
    /// The table with one service set (or removed); rebuilds only what the change touches.
    pub(crate) fn with(&self, id: &Arc<str>, service: Option<Service>) -> Result<Self> {
        let mut next = self.clone();
        let old = next.services.remove(id);
        let moved = match (&old, &service) {
            (Some(old), Some(new)) => old.listen != new.listen || old.hosts != new.hosts,
            _ => true,
        };
        if let Some(service) = service {
            next.services.insert(id.clone(), Arc::new(service));
        }
        if moved { next.rebuilt() } else { Ok(next) }
    }

    /// A table of many services, as at the start.
    pub(crate) fn of(services: impl IntoIterator<Item = Service>) -> Result<Self> {
        let services = services.into_iter().map(|service| (service.id.clone(), Arc::new(service))).collect();
        Self { services, ..Self::default() }.rebuilt()
    }

    fn rebuilt(mut self) -> Result<Self> {
        let mut shared: BTreeMap<&str, Hosts> = BTreeMap::new();
        let mut internal: HashMap<Box<str>, Arc<str>> = HashMap::new();
        for service in self.services.values() {
            for listener in &service.listen {
                if let Some(holder) = internal.insert(listener.as_str().into(), service.id.clone()) {
                    return Err(taken("the listener belongs to another service", &service.id, &holder)
                        .with("listener", listener));
                }
            }
            for rule in &service.hosts {
                shared.entry(&rule.listener).or_default().insert(rule, &service.id).map_err(|holder| {
                    taken("domain and path belong to another service", &service.id, &holder)
                        .with("domain", &rule.domain)
                        .with("path", &rule.path)
                })?;
            }
        }
        if let Some(listener) = shared.keys().find(|listener| internal.contains_key(**listener)) {
            let holder = &internal[*listener];
            return Err(Error::conflict("the listener is one service's own and cannot have hosts")
                .with("listener", listener)
                .with("held_by", holder));
        }
        self.shared = shared.into_iter().map(|(name, hosts)| (name.into(), Arc::new(hosts))).collect();
        self.internal = internal;
        Ok(self)
    }

    /// The service that a listener belongs to.
    pub(crate) fn by_listener(&self, listener: &str) -> Option<&Arc<Service>> {
        self.services.get(self.internal.get(listener)?)
    }

    /// The service of a request on any listener.
    pub(crate) fn find(&self, listener: &str, host: &str, path: &str) -> Option<&Arc<Service>> {
        match self.shared.get(listener) {
            Some(hosts) => self.services.get(hosts.find(host, path)?),
            None => self.by_listener(listener),
        }
    }

    /// The names of all listeners that routes need.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = &str> {
        self.internal.keys().chain(self.shared.keys()).map(AsRef::as_ref)
    }
}

fn taken(message: &str, service: &str, holder: &str) -> Error {
    let (first, second) = if service < holder { (service, holder) } else { (holder, service) };
    Error::conflict(message).with("services", format_args!("{first}, {second}"))
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CACHE: RefCell<Option<(u64, u64, Arc<Table>)>> = const { RefCell::new(None) };
}

/// The current table. Reading is one atomic load while nothing changed; each worker thread keeps its own reference.
#[derive(Debug)]
pub(crate) struct Tables {
    id: u64,
    version: AtomicU64,
    current: Mutex<Arc<Table>>,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            version: AtomicU64::new(1),
            current: Mutex::default(),
        }
    }
}

impl Tables {
    /// Calls `look` with the current table.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&Arc<Table>) -> R) -> R {
        let version = self.version.load(Ordering::Acquire);
        CACHE.with_borrow_mut(|cache| match cache {
            Some((id, seen, table)) if *id == self.id && *seen == version => look(table),
            _ => {
                let table = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
                look(&cache.insert((self.id, version, table)).2)
            }
        })
    }

    /// Replaces the table. Endpoints that gain work are opened before, those that lose it are closed after, so that
    /// a request sees an endpoint closed only when a newer table is there to be read.
    ///
    /// `touched` are the services whose endpoints may have changed.
    pub(crate) fn publish(&self, table: &Arc<Table>, touched: &[Arc<Runtime>]) {
        for runtime in touched {
            if let Some(service) = table.services.get(&runtime.service) {
                service.admit();
            }
        }
        {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            *current = table.clone();
            self.version.fetch_add(1, Ordering::Release);
        }
        for runtime in touched {
            runtime.settle(table.services.get(&runtime.service).map(AsRef::as_ref));
        }
    }
}
