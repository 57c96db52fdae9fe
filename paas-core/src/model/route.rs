//! How requests find the instances of a service.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::{Address, Endpoint, Protocol};
use super::id::{AppId, EnvironmentId, InstanceId, ServiceId, TenantId};
use super::release::HeaderMatch;
use super::revision::{Digest, RevisionNumber};
use super::scope::Resource;
use super::service::Domain;
use super::time::Timestamp;
use super::workload::Slot;

/// A public name of a route.
pub type RouteHost = Domain;

/// The endpoints of one slot and their share of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteSlot {
    /// Which slot.
    pub slot: Slot,
    /// The revision it runs, for counting.
    pub revision: RevisionNumber,
    /// Its share: this weight of the sum of all weights. A slot of weight 0 gets only what a header sends it.
    pub weight: u32,
    /// Where its ready instances listen.
    pub endpoints: Vec<Endpoint>,
}

/// The whole desired state of one service's port: its stable address, its domains, and where requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Route {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its app.
    pub app: AppId,
    /// The service.
    pub service: ServiceId,
    /// What is spoken.
    pub protocol: Protocol,
    /// Public names.
    pub hosts: Vec<RouteHost>,
    /// At most two, with different slots.
    pub slots: Vec<RouteSlot>,
    /// Requests with this header go to that slot.
    pub header: Option<(HeaderMatch, Slot)>,
    /// A cookie of this name keeps a client on its slot.
    pub sticky: Option<String>,
}

impl Route {
    /// A route without endpoints: it holds the service's address.
    #[must_use]
    pub fn new(
        tenant: TenantId,
        environment: EnvironmentId,
        app: AppId,
        service: ServiceId,
        protocol: Protocol,
    ) -> Self {
        Self {
            tenant,
            environment,
            app,
            service,
            protocol,
            hosts: Vec::new(),
            slots: Vec::new(),
            header: None,
            sticky: None,
        }
    }

    /// The service, as a resource.
    #[must_use]
    pub fn resource(&self) -> Resource {
        Resource::Service(
            self.tenant.clone(),
            self.environment.clone(),
            self.app.clone(),
            self.service.clone(),
        )
    }

    /// Its digest, which [`RouteStatus::applied`] repeats.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}

/// How many requests, connections and tunnels an endpoint has open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointUse {
    /// The endpoint's instance.
    pub instance: InstanceId,
    /// How many are open. An endpoint that is no longer in the route and has none open is drained.
    pub open: u64,
    /// When it left the route, if it did.
    pub left: Option<Timestamp>,
}

/// A route as its router sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RouteStatus {
    /// The app of the service.
    pub app: AppId,
    /// The service.
    pub service: ServiceId,
    /// The digest of the route in force.
    pub applied: Digest,
    /// The stable address.
    pub address: Address,
    /// Instances that the route names, those of a slot without weight too.
    pub routed: Vec<InstanceId>,
    /// Endpoints with something open, in the route or not.
    pub in_use: Vec<EndpointUse>,
    /// Why requests to its domains do not arrive, where that is known: the edge that they come through refuses it.
    #[serde(default)]
    pub message: Option<String>,
}

impl RouteStatus {
    /// A status with nothing open.
    #[must_use]
    pub fn new(app: AppId, service: ServiceId, applied: Digest, address: Address) -> Self {
        Self { app, service, applied, address, routed: Vec::new(), in_use: Vec::new(), message: None }
    }

    /// Whether an instance gets no new requests and has none open.
    #[must_use]
    pub fn is_drained(&self, instance: &InstanceId) -> bool {
        !self.routed.contains(instance)
            && !self.in_use.iter().any(|used| used.instance == *instance && used.open > 0)
    }
}

/// Counts of latencies in buckets whose upper bounds double from 1 ms: `<= 1 ms, <= 2 ms, … <= 2^22 ms, more`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyHistogram {
    counts: [u64; Self::BUCKETS],
}

impl LatencyHistogram {
    /// How many buckets there are.
    pub const BUCKETS: usize = 24;

    /// From counts per bucket.
    #[must_use]
    pub fn from_counts(counts: [u64; Self::BUCKETS]) -> Self {
        Self { counts }
    }

    /// The bucket a latency falls into.
    #[must_use]
    pub fn bucket(latency: Duration) -> usize {
        let millis = latency.as_micros().div_ceil(1_000).max(1);
        let bucket = u128::BITS - (millis - 1).leading_zeros();
        usize::try_from(bucket).unwrap_or(Self::BUCKETS).min(Self::BUCKETS - 1)
    }

    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        self.counts[Self::bucket(latency)] += 1;
    }

    /// The bucket bound that a share of all latencies does not exceed, in milliseconds; `None` without any.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.counts.iter().sum();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = ((total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut seen = 0;
        self.counts.iter().enumerate().find_map(|(bucket, count)| {
            seen += count;
            (seen >= rank && total > 0).then(|| Duration::from_millis(1 << bucket))
        })
    }

    /// Adds what another histogram has counted.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count = count.saturating_add(more);
        }
    }

    /// The counts since `earlier`, which is a reading of the same counters.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut counts = self.counts;
        for (count, before) in counts.iter_mut().zip(earlier.counts) {
            *count = count.saturating_sub(before);
        }
        Self { counts }
    }
}

/// Requests of one slot since the counters' start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SlotTraffic {
    /// The slot.
    pub slot: Slot,
    /// The revision that answered.
    pub revision: RevisionNumber,
    /// When counting began; another value means that the counters began anew.
    pub since: Timestamp,
    /// Requests answered or failed.
    pub requests: u64,
    /// Of those, answers of 500 and above, and requests without an answer.
    pub errors: u64,
    /// How long they took.
    pub latency: LatencyHistogram,
}

impl SlotTraffic {
    /// Counters at zero.
    #[must_use]
    pub fn new(slot: Slot, revision: RevisionNumber, since: Timestamp) -> Self {
        Self { slot, revision, since, requests: 0, errors: 0, latency: LatencyHistogram::default() }
    }

    /// What was counted after `earlier`; all of it where the counters began anew in between.
    #[must_use]
    pub fn after(&self, earlier: Option<&Self>) -> Self {
        let Some(earlier) =
            earlier.filter(|earlier| earlier.since == self.since && earlier.revision == self.revision)
        else {
            return self.clone();
        };
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            latency: self.latency.since(&earlier.latency),
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_their_buckets() {
        for (micros, bucket) in
            [(0, 0), (1_000, 0), (1_001, 1), (2_000, 1), (2_001, 2), (4_000, 2), (u64::MAX, 23)]
        {
            assert_eq!(LatencyHistogram::bucket(Duration::from_micros(micros)), bucket, "{micros}");
        }
    }

    #[test]
    fn a_quantile_is_a_bound() {
        let mut histogram = LatencyHistogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=100).for_each(|millis| histogram.record(Duration::from_millis(millis)));
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_millis(64)));
        assert_eq!(histogram.quantile(1.0), Some(Duration::from_millis(128)));
    }
}
