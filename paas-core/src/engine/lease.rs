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
    held: Option<Held>,
    /// The term that this process held last.
    last: Option<Epoch>,
    /// The latest epoch that somebody has written in, as far as it was seen: where the lease was deleted, it does not tell.
    latest: Epoch,
}

/// What this process holds.
#[derive(Debug)]
struct Held {
    lease: LeaseRecord,
    /// `None` from before a write until its answer: it may have been stored, whatever is heard of it.
    version: Option<Version>,
    until: Instant,
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

    /// Renews a term until it is over. What fails is tried again as long as the term lasts.
    pub(crate) async fn keep(&mut self, mut term: Term) {
        loop {
            tokio::time::sleep_until(term.until.min(Instant::now() + self.beat())).await;
            if Instant::now() >= term.until {
                return;
            }
            match tokio::time::timeout_at(term.until, self.hold()).await {
                Ok(Ok(Some(renewed))) if renewed.epoch == term.epoch => term = renewed,
                Ok(Err(error)) => tracing::warn!(?error, "cannot renew the lease"),
                Ok(Ok(_)) | Err(_) => return,
            }
        }
    }

    /// Takes or renews the lease; `None` while somebody else holds it. Safe to cancel at any moment.
    pub(crate) async fn hold(&mut self) -> Result<Option<Term>> {
        let started = Instant::now();
        match &self.held {
            Some(held) if started < held.until => self.renew(started).await,
            _ => self.take(started).await,
        }
    }

    async fn renew(&mut self, started: Instant) -> Result<Option<Term>> {
        // A second time where a write that nobody heard of came first: this process's own, or that of somebody else.
        for _ in 0..2 {
            let Some(lease) = self.current().await? else { break };
            let value = LeaseRecord { renewals: lease.value.renewals + 1, ..lease.value };
            if let Some(term) = self.write(value, Expected::Version(lease.version), started).await? {
                return Ok(Some(term));
            }
        }
        self.held = None;
        Ok(None)
    }

    /// The lease as it is stored, if it is still that of this process's term.
    async fn current(&mut self) -> Result<Option<Versioned<LeaseRecord>>> {
        let Some(held) = &self.held else { return Ok(None) };
        if let Some(version) = held.version {
            return Ok(Some(Versioned { value: held.lease.clone(), version }));
        }
        // No other process writes this epoch: the next one's is later.
        let (holder, epoch) = (held.lease.holder.clone(), held.lease.epoch);
        let stored = self.store.get::<LeaseRecord>(&lease_key()?).await?;
        Ok(stored.filter(|lease| lease.value.holder == holder && lease.value.epoch == epoch))
    }

    async fn take(&mut self, started: Instant) -> Result<Option<Term>> {
        self.held = None;
        let Some(lease) = self.store.get::<LeaseRecord>(&lease_key()?).await? else {
            let value =
                LeaseRecord { holder: self.holder.clone(), epoch: Epoch(self.latest.0 + 1), renewals: 0 };
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

    /// `None` where somebody was faster. After an error the lease may have been written all the same.
    async fn write(
        &mut self,
        lease: LeaseRecord,
        expected: Expected,
        started: Instant,
    ) -> Result<Option<Term>> {
        if let Some(held) = &mut self.held {
            held.version = None;
        }
        match self.store.put(&lease_key()?, &lease, expected).await {
            Ok(version) => {
                let (epoch, until) = (lease.epoch, started + self.length);
                self.last = Some(epoch);
                self.held = Some(Held { lease, version: Some(version), until });
                self.seen = None;
                Ok(Some(Term { epoch, until }))
            }
            Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the lease up, so that the next leader need not wait.
    pub(crate) async fn release(&mut self) -> Result<()> {
        let Some(lease) = self.current().await? else { return Ok(()) };
        self.held = None;
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
