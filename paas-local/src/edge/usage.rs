//! Who is being asked right now: the count of open work per endpoint, and the moment it is conclusively zero.
//!
//! One word per endpoint holds "closed to new work" and the number of open leases, and both change in one atomic
//! step. So once an endpoint is closed its count only falls, and a count of zero that was seen closed stays zero.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use super::clock;
use super::pool::Pool;

const CLOSED: u64 = 1 << 63;

/// What the edge tells those who listen to its events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum Event {
    /// The endpoint gets no new work and has none open: its instance can stop.
    Drained {
        /// The service's id.
        service: String,
        /// The instance's id.
        endpoint: String,
        /// Where it listened.
        addr: SocketAddr,
    },
    /// Events were lost because the reader was slow: observe again.
    Lagged,
}

pub(crate) type Events = broadcast::Sender<Event>;

/// One instance as the edge knows it, across all tables that name it.
pub(crate) struct Endpoint {
    pub(crate) service: Arc<str>,
    pub(crate) id: Box<str>,
    pub(crate) addr: SocketAddr,
    pub(crate) pool: Pool,
    word: AtomicU64,
    connections: AtomicU32,
    tunnels: AtomicU32,
    strikes: AtomicU32,
    avoid_until: AtomicU64,
    events: Events,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("service", &self.service)
            .field("id", &self.id)
            .field("addr", &self.addr)
            .field("closed", &self.is_closed())
            .field("open", &self.open())
            .finish_non_exhaustive()
    }
}

impl Endpoint {
    pub(crate) fn new(service: Arc<str>, id: &str, addr: SocketAddr, events: Events) -> Self {
        Self {
            service,
            id: id.into(),
            addr,
            pool: Pool::default(),
            word: AtomicU64::new(CLOSED),
            connections: AtomicU32::new(0),
            tunnels: AtomicU32::new(0),
            strikes: AtomicU32::new(0),
            avoid_until: AtomicU64::new(0),
            events,
        }
    }

    /// Counts one more piece of work, unless the endpoint is closed.
    pub(crate) fn lease(self: &Arc<Self>, kind: Kind) -> Option<Lease> {
        self.word
            .try_update(Ordering::AcqRel, Ordering::Acquire, |word| (word & CLOSED == 0).then_some(word + 1))
            .ok()?;
        let lease = Lease { endpoint: self.clone(), kind };
        if let Some(count) = lease.kind_count() {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Some(lease)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.word.load(Ordering::Acquire) & CLOSED != 0
    }

    pub(crate) fn open(&self) -> u64 {
        self.word.load(Ordering::Acquire) & !CLOSED
    }

    /// Whether it is closed and nothing is open; conclusive until it is opened again.
    pub(crate) fn is_drained(&self) -> bool {
        self.word.load(Ordering::Acquire) == CLOSED
    }

    /// Lets new work in.
    pub(crate) fn admit(&self) {
        self.word.fetch_and(!CLOSED, Ordering::AcqRel);
    }

    /// Lets no new work in, and drops the idle connections so that the instance can stop.
    pub(crate) fn close(&self) {
        let before = self.word.fetch_or(CLOSED, Ordering::AcqRel);
        self.pool.clear();
        if before == 0 {
            self.announce();
        }
    }

    /// Other endpoints are preferred for a while that grows with each failure, to at most 2 s.
    pub(crate) fn penalise(&self) {
        let strikes = self.strikes.fetch_add(1, Ordering::Relaxed).min(5);
        let pause = Duration::from_millis(100 << strikes).min(Duration::from_secs(2));
        self.avoid_until.store(clock::now().saturating_add(pause.as_millis() as u64), Ordering::Relaxed);
    }

    /// It answers again.
    pub(crate) fn forgive(&self) {
        if self.strikes.load(Ordering::Relaxed) != 0 {
            self.strikes.store(0, Ordering::Relaxed);
            self.avoid_until.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn is_avoided(&self) -> bool {
        let until = self.avoid_until.load(Ordering::Relaxed);
        until != 0 && clock::now() < until
    }

    pub(crate) fn usage(&self) -> EndpointUsage {
        let word = self.word.load(Ordering::Acquire);
        let open = word & !CLOSED;
        let connections = u64::from(self.connections.load(Ordering::Relaxed)).min(open);
        let tunnels = u64::from(self.tunnels.load(Ordering::Relaxed)).min(open - connections);
        EndpointUsage {
            id: self.id.to_string(),
            addr: self.addr,
            closed: word & CLOSED != 0,
            named: false,
            open,
            requests: open - connections - tunnels,
            connections,
            tunnels,
            idle: self.pool.len(),
        }
    }

    fn announce(&self) {
        // No receiver is fine: whoever comes later observes first.
        let _ = self.events.send(Event::Drained {
            service: self.service.to_string(),
            endpoint: self.id.to_string(),
            addr: self.addr,
        });
    }
}

/// What is open at one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointUsage {
    /// The instance's id.
    pub id: String,
    /// Where it listens.
    pub addr: SocketAddr,
    /// It gets no new work: removed, or in a slot without weight.
    pub closed: bool,
    /// Its service's route names it.
    #[serde(default)]
    pub named: bool,
    /// All that is open; closed and 0 means drained.
    pub open: u64,
    /// Requests that are not answered to the end.
    pub requests: u64,
    /// TCP connections of a `tcp` service.
    pub connections: u64,
    /// Upgraded connections such as WebSockets.
    pub tunnels: u64,
    /// Idle connections kept for reuse; they do not keep an endpoint from being drained.
    pub idle: usize,
}

impl EndpointUsage {
    /// Whether its instance can stop without hurting anyone.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.closed && self.open == 0
    }
}

/// What a lease is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Connection,
    Tunnel,
}

/// One piece of open work at an endpoint; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Lease {
    endpoint: Arc<Endpoint>,
    kind: Kind,
}

impl Lease {
    pub(crate) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// The request became a tunnel.
    pub(crate) fn into_tunnel(mut self) -> Self {
        self.kind = Kind::Tunnel;
        self.endpoint.tunnels.fetch_add(1, Ordering::Relaxed);
        self
    }

    fn kind_count(&self) -> Option<&AtomicU32> {
        match self.kind {
            Kind::Request => None,
            Kind::Connection => Some(&self.endpoint.connections),
            Kind::Tunnel => Some(&self.endpoint.tunnels),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(count) = self.kind_count() {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        if self.endpoint.word.fetch_sub(1, Ordering::AcqRel) == CLOSED + 1 {
            self.endpoint.announce();
        }
    }
}
