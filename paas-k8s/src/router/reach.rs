//! To whom the cluster would bring requests: what its endpoint slices say of our Services.
//!
//! An instance is ready before the cluster has told everybody. A gateway that is sent to a slot too early finds nobody there,
//! and refuses what it was to bring.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use paas_core::{Error, Result};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::follow;

/// The label by which a slice names its Service.
const SERVICE: &str = "kubernetes.io/service-name";
/// How long a call waits for the cluster, whatever for and however often; a pass that was refused is repeated. It is half of
/// what a guard gives the whole call unless told otherwise.
pub(super) const LONGEST: Duration = Duration::from_secs(5);
/// How long somebody must have been ready. A gateway learns of endpoints and of routes by watches of its own, in no order: one
/// that is told of a route in the moment in which we see somebody there may still see nobody.
const SETTLED: Duration = Duration::from_millis(500);

/// Which of our Services have somebody ready behind them.
#[derive(Debug, Default)]
pub(super) struct Reach {
    slices: Mutex<HashMap<String, Slice>>,
    changed: Notify,
}

#[derive(Debug)]
struct Slice {
    version: u64,
    namespace: String,
    service: String,
    /// Since when somebody has been ready.
    ready_since: Option<Instant>,
}

impl Slice {
    fn of(slice: &EndpointSlice) -> Option<Self> {
        let meta = &slice.metadata;
        // Without a word it counts as ready.
        let is_ready = |conditions: Option<bool>| conditions.unwrap_or(true);
        Some(Self {
            version: meta.resource_version.as_ref()?.parse().ok()?,
            namespace: meta.namespace.clone()?,
            service: meta.labels.as_ref()?.get(SERVICE)?.clone(),
            ready_since: slice
                .endpoints
                .iter()
                .any(|endpoint| is_ready(endpoint.conditions.as_ref().and_then(|it| it.ready)))
                .then(Instant::now),
        })
    }
}

impl Reach {
    fn slices(&self) -> MutexGuard<'_, HashMap<String, Slice>> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when somebody is ready behind a Service.
    fn since(&self, namespace: &str, service: &str) -> Option<Instant> {
        let slices = self.slices();
        let own = slices.values().filter(|own| own.service == service && own.namespace == namespace);
        own.filter_map(|own| own.ready_since).min()
    }

    /// Waits until somebody is ready behind each of these Services, and everybody can know. `until` bounds all of a call's
    /// waits together: its guard gives up on the whole call, and would only say that it took too long.
    ///
    /// # Errors
    /// `Unavailable` where somewhere nobody is by then.
    pub(super) async fn wait(&self, namespace: &str, services: &[String], until: Instant) -> Result<()> {
        for service in services {
            self.wait_for(namespace, service, until).await?;
        }
        Ok(())
    }

    async fn wait_for(&self, namespace: &str, service: &str, until: Instant) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            let settled = self.since(namespace, service).map(|since| since + SETTLED);
            let now = Instant::now();
            if settled.is_some_and(|settled| settled <= now) {
                return Ok(());
            }
            if now >= until {
                return Err(Error::unavailable("the cluster brings no requests to the ready instances yet")
                    .with("namespace", namespace)
                    .with("endpoints of", service)
                    .with("seconds", LONGEST.as_secs()));
            }
            // Either may be the reason to look again.
            let look = settled.map_or(until, |settled| settled.min(until));
            drop(tokio::time::timeout_at(look, changed).await);
        }
    }
}

/// How slices come in.
pub(super) struct Shelf(pub(super) Arc<Reach>);

impl follow::Shelf<EndpointSlice> for Shelf {
    fn put(&self, object: EndpointSlice) {
        let Some(uid) = object.metadata.uid.clone() else { return };
        let Some(slice) = Slice::of(&object) else { return };
        let mut slices = self.0.slices();
        let known = slices.get(&uid);
        if known.is_none_or(|known| known.version < slice.version) {
            let before = known.and_then(|known| known.ready_since);
            let ready_since = slice.ready_since.map(|now| before.unwrap_or(now));
            slices.insert(uid, Slice { ready_since, ..slice });
        }
        drop(slices);
        self.0.changed.notify_waiters();
    }

    fn remove(&self, uid: &str, _: u64) {
        self.0.slices().remove(uid);
    }

    fn keep(&self, uids: &HashSet<String>, version: u64) {
        self.0.slices().retain(|uid, own| own.version > version || uids.contains(uid));
    }

    fn reset(&self) {}
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::follow::Shelf as _;

    fn slice(uid: &str, version: u64, service: &str, ready: &[bool]) -> EndpointSlice {
        let endpoint = |ready: &bool| json!({ "addresses": ["10.0.0.1"], "conditions": { "ready": ready } });
        serde_json::from_value(json!({
            "metadata": {
                "uid": uid, "namespace": "room", "resourceVersion": version.to_string(),
                "labels": { "kubernetes.io/service-name": service },
            },
            "addressType": "IPv4",
            "endpoints": ready.iter().map(endpoint).collect::<Vec<_>>(),
        }))
        .unwrap()
    }

    async fn wait(reach: &Reach, namespace: &str, service: &str) -> Result<()> {
        reach.wait(namespace, &[service.to_owned()], Instant::now() + LONGEST).await
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_reached_before_a_slice_has_somebody_ready() {
        let reach = Arc::new(Reach::default());
        let shelf = Shelf(Arc::clone(&reach));
        shelf.put(slice("a", 1, "web-blue", &[false, false]));
        shelf.put(slice("b", 2, "web-green", &[true]));
        let error = wait(&reach, "room", "web-blue").await.unwrap_err();
        assert!(error.is_retryable(), "{error:?}");
        assert!(wait(&reach, "another", "web-green").await.is_err());
        wait(&reach, "room", "web-green").await.unwrap();
        let waiting = tokio::spawn({
            let reach = Arc::clone(&reach);
            async move { wait(&reach, "room", "web-blue").await }
        });
        tokio::task::yield_now().await;
        shelf.put(slice("a", 3, "web-blue", &[false, true]));
        waiting.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_counts_once_everybody_can_know_of_them() {
        let reach = Arc::new(Reach::default());
        let shelf = Shelf(Arc::clone(&reach));
        let begun = Instant::now();
        shelf.put(slice("a", 1, "web-blue", &[true]));
        wait(&reach, "room", "web-blue").await.unwrap();
        assert!(begun.elapsed() >= SETTLED, "after {:?}", begun.elapsed());
        // Another instance changes nothing; that all were away begins anew.
        shelf.put(slice("a", 2, "web-blue", &[true, true]));
        let again = Instant::now();
        wait(&reach, "room", "web-blue").await.unwrap();
        assert_eq!(again.elapsed(), Duration::ZERO);
        shelf.put(slice("a", 3, "web-blue", &[false]));
        shelf.put(slice("a", 4, "web-blue", &[true]));
        wait(&reach, "room", "web-blue").await.unwrap();
        assert!(again.elapsed() >= SETTLED);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_old_or_gone_says_nothing() {
        let reach = Arc::new(Reach::default());
        let shelf = Shelf(Arc::clone(&reach));
        shelf.put(slice("a", 5, "web-blue", &[false]));
        shelf.put(slice("a", 4, "web-blue", &[true]));
        assert!(wait(&reach, "room", "web-blue").await.is_err());
        shelf.put(slice("a", 6, "web-blue", &[true]));
        wait(&reach, "room", "web-blue").await.unwrap();
        shelf.remove("a", 7);
        assert_eq!(reach.since("room", "web-blue"), None);
        shelf.put(slice("b", 7, "web-blue", &[true]));
        shelf.keep(&HashSet::new(), 8);
        assert_eq!(reach.since("room", "web-blue"), None);
    }

    /// A guard gives a call ten seconds, in which the route is written as well.
    #[tokio::test(start_paused = true)]
    async fn two_slots_that_nobody_is_reached_at_are_waited_for_together() {
        let reach = Arc::new(Reach::default());
        let shelf = Shelf(Arc::clone(&reach));
        let late = tokio::spawn(async move {
            tokio::time::sleep(LONGEST * 9 / 10).await;
            shelf.put(slice("a", 1, "web-blue", &[true]));
        });
        let began = Instant::now();
        let both = ["web-blue".to_owned(), "web-green".to_owned()];
        let error = reach.wait("room", &both, began + LONGEST).await.unwrap_err();
        assert!(error.is_retryable() && began.elapsed() <= LONGEST, "{error:?} after {:?}", began.elapsed());
        late.await.unwrap();
    }
}
