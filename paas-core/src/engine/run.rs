//! The engine's loop: lead, listen, look.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::StreamExt;
use tokio::sync::{broadcast, watch};
use tokio::time::Instant;

use super::leader::Leader;
use super::lease::{Lease, not_leading};
use super::ports::{EngineEvent, Ports};
use super::reconcile::RevisionCache;
use super::store::Store;
use super::trouble::Troubles;
use crate::Result;
use crate::model::{Action, AppId, Clock, Epoch, Principal, Resource, Scope};
use crate::port::Selector;

/// How an engine works.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineConfig {
    /// The name of this replica of the platform: stable over its restarts, and different from every other replica's.
    pub replica: String,
    /// How long a leader may be silent before another takes over.
    pub lease: Duration,
    /// How often every app is looked at, whatever events say.
    pub resync: Duration,
    /// How many apps are looked at at once.
    pub concurrency: usize,
    /// Whether this replica may lead. One that may not still accepts calls: it stores what is asked for, and the
    /// leader acts on it.
    pub lead: bool,
}

impl Default for EngineConfig {
    /// One replica, 15 s of lease, a look at least every 30 s, 16 at once.
    fn default() -> Self {
        Self {
            replica: "single".to_owned(),
            lease: Duration::from_secs(15),
            resync: Duration::from_secs(30),
            concurrency: 16,
            lead: true,
        }
    }
}

/// Makes every app what its record says, as long as it leads.
#[derive(Debug)]
pub struct Engine {
    pub(super) ports: Ports,
    pub(super) store: Store,
    pub(super) clock: Clock,
    config: EngineConfig,
    pub(super) revisions: RevisionCache,
    pub(super) events: broadcast::Sender<EngineEvent>,
    pub(super) troubles: Troubles,
    leads: watch::Sender<bool>,
}

impl Engine {
    /// An engine that does nothing until it runs.
    #[must_use]
    pub fn new(ports: Ports, config: EngineConfig, clock: Clock) -> Self {
        // The lease is written before there is a term.
        let scope = Scope::granted(Principal::Engine, Resource::Platform, &Action::ALL);
        let store = Store { state: Arc::clone(&ports.state), scope };
        let (events, _) = broadcast::channel(1_024);
        let (revisions, troubles) = (RevisionCache::default(), Troubles::default());
        Self { ports, store, clock, config, revisions, events, troubles, leads: watch::Sender::new(false) }
    }

    /// What happens in operations, and what somebody else has changed, while this replica leads. A slow listener misses events;
    /// an operation has its own.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<EngineEvent> {
        self.events.subscribe()
    }

    /// Whether this replica leads.
    pub(crate) fn leads(&self) -> watch::Receiver<bool> {
        self.leads.subscribe()
    }

    /// How many apps it keeps revisions of.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> usize {
        self.revisions.apps()
    }

    /// Why the last look at an app failed, if it did, and this replica leads.
    pub(crate) fn trouble(&self, app: &AppId) -> Option<String> {
        self.troubles.of(app)
    }

    /// Runs until `stop` turns true; then it lets the lease go. Dropping the future is like a crash: safe, and the
    /// next leader waits for the lease to run out.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        if !self.config.lead {
            return stopped(&mut stop).await;
        }
        let mut lease = Lease::new(self.store.clone(), self.config.replica.clone(), self.config.lease);
        while !*stop.borrow() {
            match lease.hold().await {
                Ok(Some(term)) => {
                    tracing::info!(epoch = term.epoch.0, "leads");
                    self.leads.send_replace(true);
                    let led = tokio::select! {
                        biased;
                        () = stopped(&mut stop) => None,
                        () = lease.keep(term) => Some(Err(not_leading())),
                        led = self.lead(term.epoch) => Some(led),
                    };
                    // From now on others write.
                    self.leads.send_replace(false);
                    self.troubles.clear();
                    self.revisions.clear();
                    match led {
                        None => break,
                        Some(Ok(later)) => {
                            tracing::warn!(later = later.0, "a later leader has written");
                            lease.surpass(later);
                        }
                        Some(Err(error)) => tracing::warn!(?error, "stopped leading"),
                    }
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(?error, "cannot reach the lease"),
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = tokio::time::sleep(lease.beat()) => {}
            }
        }
        if let Err(error) = lease.release().await {
            tracing::warn!(?error, "cannot release the lease");
        }
    }

    /// Leads in a term, whoever sees to it that it lasts, until a leader of a later one was met: tells of which.
    async fn lead(&self, epoch: Epoch) -> Result<Epoch> {
        let mut leader = Leader::new(self, epoch);
        // A call that reads raises the bar for every leader before this one.
        self.ports.scheduler.list(&leader.scope, &Selector::All).await?;
        self.ports.router.observe(&leader.scope, &Selector::All).await?;
        leader.listen().await;
        leader.resync().await;
        let mut resync = Instant::now() + self.config.resync;
        loop {
            leader.fill(self.config.concurrency);
            leader.rooms.fill(self.config.concurrency);
            let due = [leader.queue.next_due(), leader.rooms.next_due()];
            let due = due.into_iter().flatten().fold(resync, Instant::min);
            tokio::select! {
                biased;
                Some((item, outcome)) = leader.passes.next() => {
                    if let Some(later) = leader.finish(&item, outcome) {
                        return Ok(later);
                    }
                }
                Some(apps) = leader.listings.next() => leader.listed(apps)?,
                Some(collector) = leader.collections.next() => leader.collected(collector),
                Some(wake) = leader.wakes.next() => leader.hear(wake).await,
                Some((item, outcome)) = leader.rooms.repairs.next() => {
                    if let Some(room) = leader.rooms.finish(&item, outcome) {
                        // Nobody listening is fine.
                        let _ = self.events.send(EngineEvent::Drift(room));
                    }
                }
                Some(word) = leader.rooms.words.next() => leader.rooms.hear(word),
                () = tokio::time::sleep_until(due) => {
                    if Instant::now() >= resync {
                        leader.resync().await;
                        resync = Instant::now() + self.config.resync;
                    }
                }
            }
        }
    }
}

/// Returns once `stop` is true, or nobody is left who could make it so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // The guard it gives must not live on: it cannot cross threads.
    drop(stop.wait_for(|stop| *stop).await);
}
