//! One leader acts. Its term has an epoch that grows with every change of leader.
//!
//! A follower takes over once the lease has not been renewed for its whole length by the follower's own clock, so the
//! clocks of two machines need not agree. A leader that could not renew in time stops by its own clock, before a
//! follower may start; a leader that was suspended meanwhile is stopped by its epoch.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::defect::{self, Defect};
use super::store::{Store, Versioned, lease_key};
use crate::model::{Epoch, Version};
use crate::port::Expected;
use crate::{Error, ErrorKind, Result};

/// The lease as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    pub(crate) holder: String,
    pub(crate) epoch: Epoch,
    /// Grows with each renewal.
    pub(crate) renewals: u64,
}

/// The term that a leader holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Term {
    pub(crate) epoch: Epoch,
    /// When it ends unless it is renewed.
    pub(crate) until: Instant,
}

/// One candidate's view of the lease.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Store,
    holder: String,
    length: Duration,
    /// The version of somebody else's lease, and when it was first seen.
    seen: Option<(Version, Instant)>,
    held: Option<(Versioned<LeaseRecord>, Instant)>,
    /// The term that this process held last.
    last: Option<Epoch>,
    /// The latest epoch that somebody has written in, as far as it was seen: where the lease was deleted, it does not tell.
    latest: Epoch,
}

impl Lease {
    pub(crate) fn new(store: Store, holder: String, length: Duration) -> Self {
        Self { store, holder, length, seen: None, held: None, last: None, latest: Epoch(0) }
    }

    /// How often to call [`Lease::hold`].
    pub(crate) fn beat(&self) -> Duration {
        self.length / 4
    }

    /// Somebody has written in this epoch: a term of an earlier one is over, and the next is later.
    pub(crate) fn surpass(&mut self, epoch: Epoch) {
        self.latest = self.latest.max(epoch);
        self.held = None;
    }

    /// Takes or renews the lease; `None` while somebody else holds it.
    pub(crate) async fn hold(&mut self) -> Result<Option<Term>> {
        let started = Instant::now();
        match self.held.clone() {
            Some((lease, until)) if started < until => self.renew(lease, started).await,
            _ => self.take(started).await,
        }
    }

    async fn renew(&mut self, lease: Versioned<LeaseRecord>, started: Instant) -> Result<Option<Term>> {
        let value = LeaseRecord { renewals: lease.value.renewals + 1, ..lease.value };
        self.write(value, Expected::Version(lease.version), started).await
    }

    async fn take(&mut self, started: Instant) -> Result<Option<Term>> {
        self.held = None;
        let Some(lease) = self.store.get::<LeaseRecord>(&lease_key()?).await? else {
            let value = LeaseRecord { holder: self.holder.clone(), epoch: Epoch(self.latest.0 + 1), renewals: 0 };
            return self.write(value, Expected::Absent, started).await;
        };
        // Not when the reading began: the answer may have come late, and be about a lease renewed meanwhile.
        let now = Instant::now();
        // A lease without a holder was let go. One of one's own name is one's own, or was held by a process that is
        // gone; if that goes on to write, there are two of one name, and the lease goes by time.
        let own = self.last.is_none_or(|last| last == lease.value.epoch);
        let free = lease.value.holder.is_empty() || (lease.value.holder == self.holder && own);
        let expired = match self.seen {
            _ if free => true,
            Some((version, since)) if version == lease.version => started >= since + self.length,
            _ => {
                self.seen = Some((lease.version, now));
                false
            }
        };
        if !expired {
            return Ok(None);
        }
        let epoch = Epoch(lease.value.epoch.max(self.latest).0 + u64::from(!defect::has(Defect::TermReused)));
        let value = LeaseRecord { holder: self.holder.clone(), epoch, renewals: 0 };
        self.write(value, Expected::Version(lease.version), started).await
    }

    async fn write(
        &mut self,
        value: LeaseRecord,
        expected: Expected,
        started: Instant,
    ) -> Result<Option<Term>> {
        match self.store.put(&lease_key()?, &value, expected).await {
            Ok(version) => {
                let until = started + self.length;
                let epoch = value.epoch;
                self.last = Some(epoch);
                self.held = Some((Versioned { value, version }, until));
                self.seen = None;
                Ok(Some(Term { epoch, until }))
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                self.held = None;
                Ok(None)
            }
            Err(error) => {
                // It may have been written all the same; what is held by then is found out by reading.
                self.held = None;
                Err(error)
            }
        }
    }

    /// Gives the lease up, so that the next leader need not wait.
    pub(crate) async fn release(&mut self) -> Result<()> {
        let Some((lease, _)) = self.held.take() else { return Ok(()) };
        let value = LeaseRecord { holder: String::new(), ..lease.value };
        match self.store.put(&lease_key()?, &value, Expected::Version(lease.version)).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }
}

/// The error of whoever acts without leading.
pub(crate) fn not_leading() -> Error {
    Error::unavailable("this replica does not lead any more")
}
