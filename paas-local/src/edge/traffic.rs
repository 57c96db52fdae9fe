//! Requests, errors and latency by slot and revision.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::clock;
use super::route::SlotName;

const SUB_BITS: u32 = 3;
const SUB: u64 = 1 << SUB_BITS;
/// 2^30 us is 18 minutes; what takes longer is in the last bucket.
const TOP: u32 = 30;
/// The number of latency buckets.
pub const BUCKETS: usize = ((TOP - SUB_BITS + 1) as usize) << SUB_BITS;

/// The bucket of a latency: microseconds below 8 have one each, above that each doubling is cut into 8 equal parts,
/// so a bucket is at most 12.5 % wide.
#[must_use]
pub fn bucket_of(latency: Duration) -> usize {
    let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX).min((1 << TOP) - 1);
    if us < SUB {
        return us as usize;
    }
    let octave = us.ilog2() - SUB_BITS;
    (((octave as u64 + 1) << SUB_BITS) + ((us >> octave) - SUB)) as usize
}

/// The smallest latency of a bucket.
#[must_use]
pub fn bucket_floor(bucket: usize) -> Duration {
    let bucket = bucket as u64;
    if bucket < SUB {
        return Duration::from_micros(bucket);
    }
    let octave = (bucket >> SUB_BITS) - 1;
    Duration::from_micros((SUB + (bucket & (SUB - 1))) << octave)
}

/// A latency histogram with fixed buckets ([`bucket_of`]); two merge by adding their counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Bucket and count, in order, without empty buckets.
    pub counts: Vec<(u16, u64)>,
}

impl Histogram {
    /// How many latencies it holds.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// An upper bound of the given quantile (0.0 to 1.0), at most 12.5 % too high; `None` when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let total = self.total();
        let rank = ((total as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts.iter().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank).then(|| bucket_floor(usize::from(*bucket) + 1))
        })
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.counts {
            match self.counts.binary_search_by_key(bucket, |(bucket, _)| *bucket) {
                Ok(at) => self.counts[at].1 += count,
                Err(at) => self.counts.insert(at, (*bucket, *count)),
            }
        }
    }

    /// What came since `earlier`, an older reading of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before =
            |bucket: &u16| earlier.counts.iter().find(|(b, _)| b == bucket).map_or(0, |(_, count)| *count);
        let counts =
            self.counts.iter().map(|(bucket, count)| (*bucket, count.saturating_sub(before(bucket))));
        Self { counts: counts.filter(|(_, count)| *count > 0).collect() }
    }
}

/// What one slot served with one revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotUsage {
    /// The slot.
    pub slot: SlotName,
    /// The revision that ran in it.
    pub revision: u64,
    /// Names this run of the counters: they only grow while it stays the same. Another value means that they began
    /// anew, because the edge was restarted or the route was removed meanwhile.
    pub since: u64,
    /// Requests (or TCP connections) that it was chosen for.
    pub requests: u64,
    /// Those of them that ended in a 5xx, without an answer, or cut off by the instance.
    pub errors: u64,
    /// Attempts repeated on another endpoint or connection.
    pub retries: u64,
    /// Requests that are open now.
    pub in_flight: u64,
    /// Time from the request's head to the answer's head; TCP: to the connection.
    pub latency: Histogram,
}

/// The traffic of one service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceTraffic {
    /// The service's id.
    pub service: String,
    /// By slot and revision.
    pub slots: Vec<SlotUsage>,
}

/// A reading of the counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Names this run of the edge.
    pub start: u64,
    /// By service.
    pub services: Vec<ServiceTraffic>,
}

/// The counters of one slot and revision.
#[derive(Debug)]
pub(crate) struct SlotTraffic {
    pub(crate) slot: SlotName,
    pub(crate) revision: u64,
    since: u64,
    requests: AtomicU64,
    errors: AtomicU64,
    retries: AtomicU64,
    in_flight: AtomicU64,
    buckets: Box<[AtomicU64; BUCKETS]>,
}

impl SlotTraffic {
    pub(crate) fn new(slot: SlotName, revision: u64) -> Self {
        Self {
            slot,
            revision,
            since: clock::stamp(),
            requests: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            in_flight: AtomicU64::new(0),
            buckets: Box::new([const { AtomicU64::new(0) }; BUCKETS]),
        }
    }

    pub(crate) fn begin(self: &Arc<Self>, started: Instant) -> Exchange {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Exchange { traffic: self.clone(), started, failed: false }
    }

    pub(crate) fn usage(&self) -> SlotUsage {
        let count = |(bucket, count): (usize, &AtomicU64)| (bucket as u16, count.load(Ordering::Relaxed));
        SlotUsage {
            slot: self.slot,
            revision: self.revision,
            since: self.since,
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            latency: Histogram {
                counts: self.buckets.iter().enumerate().map(count).filter(|(_, count)| *count > 0).collect(),
            },
        }
    }
}

/// One request from its slot's choice to its end.
#[derive(Debug)]
pub(crate) struct Exchange {
    traffic: Arc<SlotTraffic>,
    started: Instant,
    failed: bool,
}

impl Exchange {
    pub(crate) fn belongs_to(&self, traffic: &Arc<SlotTraffic>) -> bool {
        Arc::ptr_eq(&self.traffic, traffic)
    }

    pub(crate) fn answered(&mut self, error: bool) {
        self.traffic.buckets[bucket_of(self.started.elapsed())].fetch_add(1, Ordering::Relaxed);
        if error {
            self.failed();
        }
    }

    /// Counts the request as an error, once.
    pub(crate) fn failed(&mut self) {
        if !std::mem::replace(&mut self.failed, true) {
            self.traffic.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn retried(&self) {
        self.traffic.retries.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.traffic.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
