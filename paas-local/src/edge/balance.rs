//! Which slot a request goes to, and which endpoint of it.
//!
//! Slots are chosen by a low-discrepancy sequence: request `n` stands at the fractional part of `n` times the golden
//! ratio, and the weights cut that line into parts. One atomic increment, exact to a few requests in 10,000, and
//! unlike a weighted round robin it has no short period that clients who alternate two kinds of request could fall
//! in step with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;
use hyper::header::COOKIE;

use super::table::Service;
use super::traffic::SlotTraffic;
use super::usage::{Endpoint, Kind, Lease};

/// 2^64 divided by the golden ratio.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
/// The number of places a sticky client can have.
const PLACES: u64 = 10_000;

/// One slot, compiled.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) weight: u64,
    /// Gets new work: by weight or by the header rule.
    pub(crate) open: bool,
    pub(crate) endpoints: Vec<Arc<Endpoint>>,
    pub(crate) traffic: Arc<SlotTraffic>,
    pub(crate) cursor: AtomicU64,
}

/// Why a request goes to its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// The header rule said so: it may not go elsewhere.
    Header(usize),
    /// By its client's place among the weights.
    Sticky(usize),
    /// As `Sticky`, by a client that has no place yet and gets this one.
    NewClient(usize, u64),
    /// By the weights.
    Weight(usize),
}

impl Choice {
    pub(crate) fn slot(self) -> usize {
        let (Self::Header(slot) | Self::Sticky(slot) | Self::NewClient(slot, _) | Self::Weight(slot)) = self;
        slot
    }
}

/// What a search for an endpoint found.
#[derive(Debug)]
pub(crate) enum Pick {
    Lease(Lease),
    /// An endpoint was closed meanwhile: there is a newer table.
    Stale,
    /// None is left that was not tried.
    Empty,
}

impl Slot {
    /// The weight that counts: none without endpoints.
    pub(crate) fn share(&self) -> u64 {
        if self.endpoints.is_empty() { 0 } else { self.weight }
    }

    /// Leases the endpoint with the least open work, in turn among equals. Those that failed lately come last, those
    /// in `tried` not at all.
    pub(crate) fn lease(&self, kind: Kind, tried: &[Arc<Endpoint>]) -> Pick {
        let count = self.endpoints.len();
        if count == 0 {
            return Pick::Empty;
        }
        let start = self.cursor.fetch_add(1, Ordering::Relaxed) as usize % count;
        let (before, after) = self.endpoints.split_at(start);
        let mut best: Option<(bool, u64, &Arc<Endpoint>)> = None;
        for endpoint in after.iter().chain(before) {
            if tried.iter().any(|known| Arc::ptr_eq(known, endpoint)) {
                continue;
            }
            if endpoint.is_closed() {
                return Pick::Stale;
            }
            let rank = (endpoint.is_avoided(), endpoint.open());
            if best.is_none_or(|(avoided, open, _)| rank < (avoided, open)) {
                best = Some((rank.0, rank.1, endpoint));
            }
        }
        match best {
            None => Pick::Empty,
            Some((_, _, endpoint)) => endpoint.lease(kind).map_or(Pick::Stale, Pick::Lease),
        }
    }
}

impl Service {
    /// Chooses the slot of a request.
    pub(crate) fn choose(&self, headers: Option<&HeaderMap>) -> Option<Choice> {
        if let (Some((name, value, slot)), Some(headers)) = (&self.header, headers)
            && !self.slots[*slot].endpoints.is_empty()
            && headers.get_all(name).iter().any(|given| given == value)
        {
            return Some(Choice::Header(*slot));
        }
        if self.total == 0 {
            return None;
        }
        let Some(cookie) = &self.sticky else {
            return Some(Choice::Weight(self.by_weight()));
        };
        if let Some(place) = headers.and_then(|headers| place_in(headers, cookie)) {
            return Some(Choice::Sticky(self.at(place, PLACES)));
        }
        let place = spread(self.runtime.clients.fetch_add(1, Ordering::Relaxed), PLACES);
        Some(Choice::NewClient(self.at(place, PLACES), place))
    }

    fn by_weight(&self) -> usize {
        let ticket = self.runtime.tickets.fetch_add(1, Ordering::Relaxed);
        self.slot_at(spread(ticket, self.total))
    }

    /// The slot at `place` of `places`. A client's place stays while weights change, so only as many clients move as
    /// the weights do, and none on a slot that grows.
    fn at(&self, place: u64, places: u64) -> usize {
        self.slot_at(place * self.total / places)
    }

    fn slot_at(&self, mut position: u64) -> usize {
        for (i, slot) in self.slots.iter().enumerate() {
            if position < slot.share() {
                return i;
            }
            position -= slot.share();
        }
        0
    }

    /// Another slot that serves by weight, for a request whose slot has nobody left to ask.
    pub(crate) fn fallback(&self, choice: Choice, tried: &[Arc<Endpoint>]) -> Option<usize> {
        if matches!(choice, Choice::Header(_)) {
            return None;
        }
        let fresh = |slot: &Slot| slot.endpoints.iter().any(|e| !tried.iter().any(|t| Arc::ptr_eq(t, e)));
        (0..self.slots.len())
            .find(|i| *i != choice.slot() && self.slots[*i].share() > 0 && fresh(&self.slots[*i]))
    }
}

/// The place of the `n`-th in a range, spread evenly.
fn spread(n: u64, range: u64) -> u64 {
    ((u128::from(n.wrapping_mul(STEP)) * u128::from(range)) >> 64) as u64
}

/// A client's place from its cookie, if it is one of ours.
fn place_in(headers: &HeaderMap, cookie: &str) -> Option<u64> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == cookie)
        .and_then(|(_, value)| value.parse().ok())
        .filter(|place| *place < PLACES)
}
