//! From the lines of a request to the store, by way of the rules of their services.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use paas_core::model::{LogBatch, LogOrigin, LogPosition};
use paas_core::port::{LogPorts, LogStore};
use paas_core::{Error, ErrorKind, Result};
use tokio::sync::OwnedMutexGuard;

use super::alerts::Alerts;
use super::answer::Refusal;
use super::draft::Draft;
use crate::pipeline::{Pushed, Service, Services, Sinks};

/// Before there are more outputs, those are forgotten that nobody sends to now.
const MOST: usize = 10_000;
/// How often lines are given other places where another replica has stored some of the same output.
const TRIES: usize = 4;
/// Who is refused comes again after this, where nobody says more.
const PAUSE: Duration = Duration::from_secs(1);

/// Gives lines their places, and stores them.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) services: Arc<Services>,
    pub(super) alerts: Alerts,
    pub(super) pushed: Arc<Pushed>,
    pub(super) ports: LogPorts,
    pub(super) store: Arc<dyn LogStore>,
    /// Where lines go instead that rules send there.
    pub(super) sinks: Sinks,
    pub(super) places: Places,
}

/// Lines and the rules that they go by.
type Output = (Arc<Service>, LogBatch);

/// What became of lines.
struct Done {
    /// All of them, for whoever watches.
    shown: Vec<LogBatch>,
    /// Those that are stored elsewhere.
    routed: Vec<(String, LogBatch)>,
    /// Whether each output ends within a private key.
    in_key: Vec<bool>,
}

impl Commit {
    /// Stores the lines of some outputs, all of them or, as far as anybody is told, none. `Ok` means that what the rules leave of
    /// them survives a crash.
    pub(super) async fn store(&self, drafts: Vec<(LogOrigin, Draft)>) -> Result<(), Refusal> {
        if drafts.is_empty() {
            return Ok(());
        }
        let mut outputs = Vec::new();
        for (origin, draft) in drafts {
            let service =
                self.services.of(&self.ports, &origin).await.map_err(|error| self.refusal(&error))?;
            if service.is_unknown() {
                return Err(Refusal::new(StatusCode::UNAUTHORIZED, "the service of these lines is gone"));
            }
            outputs.push((service, draft.batch(origin, LogPosition::offset(0, 0))));
        }
        // One after the other, so that each gets its places in the order in which they are stored.
        outputs.sort_by(|(_, one), (_, other)| one.origin.cmp(&other.origin));
        let mut places = Vec::new();
        for (_, batch) in &outputs {
            places.push(self.places.lock(&batch.origin, &self.ports).await);
        }
        for attempt in 0..TRIES {
            for (place, (_, batch)) in places.iter_mut().zip(&mut outputs) {
                batch.position = place.take(batch.buffer.len());
            }
            let in_key: Vec<bool> = places.iter().map(|place| place.is_in_key).collect();
            let done = self.append(&outputs, in_key, attempt == 0).await?;
            if self.are_stored(&outputs, &mut places).await? {
                self.route(done.routed).await?;
                places.iter_mut().zip(done.in_key).for_each(|(place, is_in_key)| place.is_in_key = is_in_key);
                self.pushed.tell(done.shown);
                return Ok(());
            }
        }
        Err(Refusal::busy("other replicas store lines of the same output", PAUSE))
    }

    /// Lines are counted before they are stored, and nobody sees them before.
    async fn append(&self, outputs: &[Output], in_key: Vec<bool>, is_first: bool) -> Result<Done, Refusal> {
        let work = outputs.to_vec();
        let processed = tokio::task::spawn_blocking(move || processed(work, in_key, is_first)).await;
        let (done, in_key) =
            processed.map_err(|error| self.refusal(&Error::internal("rules failed").with_source(error)))?;
        let (mut shown, mut stored, mut routed) = (Vec::with_capacity(done.len()), Vec::new(), Vec::new());
        for (service, batch) in done {
            if is_first {
                let counted = self.alerts.count(&self.ports, &service, &batch).await;
                if let Err(error) = counted {
                    self.uncount(outputs);
                    return Err(self.refusal(&error));
                }
            }
            let parted = self.sinks.part(service.routes(), Arc::new(batch.clone()));
            routed.extend(parted.routed);
            stored.push(Arc::unwrap_or_clone(parted.rest));
            shown.push(batch);
        }
        if let Err(error) = self.store.append(&self.ports.scope, &stored).await {
            self.uncount(outputs);
            return Err(self.refusal(&error));
        }
        Ok(Done { shown, routed, in_key })
    }

    /// Stores lines elsewhere, once their places are certain. Where that fails, whoever sends sends all of them again.
    async fn route(&self, routed: Vec<(String, LogBatch)>) -> Result<(), Refusal> {
        for (to, batch) in routed {
            let put = self.sinks.try_to_put(&self.ports.scope, &to, batch).await;
            put.map_err(|error| self.refusal(&error))?;
        }
        Ok(())
    }

    /// Lines that are not stored come again, and are counted then.
    fn uncount(&self, outputs: &[Output]) {
        outputs.iter().for_each(|(_, batch)| self.alerts.forget(&batch.origin.app));
    }

    /// Whether all lines were stored in their places. They were not where another replica has stored later ones of the same
    /// output meanwhile: the store takes ours for known. Then they get later places.
    async fn are_stored(
        &self,
        outputs: &[Output],
        places: &mut [OwnedMutexGuard<Place>],
    ) -> Result<bool, Refusal> {
        let mut are_stored = true;
        let mut known = None;
        for ((_, batch), place) in outputs.iter().zip(places) {
            let resource = batch.origin.resource();
            if known.as_ref().is_none_or(|(of, _)| *of != resource) {
                let ends = self.store.ends(&self.ports.scope, &resource).await;
                known = Some((resource, ends.map_err(|error| self.refusal(&error))?));
            }
            let ends = known.as_ref().map_or(&[][..], |(_, ends)| ends);
            let end = ends.iter().find(|(origin, _)| *origin == batch.origin).map(|(_, end)| *end);
            // Of a tenant that is forgotten meanwhile there is none.
            if let Some(end) = end.filter(|end| *end != batch.end()) {
                are_stored = false;
                **place = Place { is_in_key: place.is_in_key, ..Place::begin(end.incarnation + 1) };
            }
        }
        Ok(are_stored)
    }

    fn refusal(&self, error: &Error) -> Refusal {
        if error.kind() == ErrorKind::Invalid {
            let why = format!("the lines cannot be stored: {}", error.message());
            return Refusal::new(StatusCode::BAD_REQUEST, why);
        }
        tracing::warn!(?error, "lines that were sent are not taken for now");
        Refusal::busy("lines cannot be stored now", error.retry_after().unwrap_or(PAUSE))
    }
}

/// What the rules leave of lines that were sent together: what belongs together is in one request. And whether each output
/// ends within a private key, as it may have begun.
fn processed(outputs: Vec<Output>, mut in_key: Vec<bool>, counts: bool) -> (Vec<Output>, Vec<bool>) {
    let mut done = Vec::with_capacity(outputs.len());
    for ((service, batch), is_in_key) in outputs.into_iter().zip(&mut in_key) {
        let mut joiner = service.joiner(&batch.origin).within_key(*is_in_key);
        let whole = joiner.push(batch);
        let (last, ends_in_key) = joiner.finish_for_now();
        *is_in_key = ends_in_key;
        for events in [whole, last].into_iter().flatten() {
            done.push((Arc::clone(&service), service.processor().process(events, counts)));
        }
    }
    (done, in_key)
}

impl Draft {
    fn batch(self, origin: LogOrigin, position: LogPosition) -> LogBatch {
        let mut batch = LogBatch::stamped(origin, Bytes::from(self.text), self.starts, Vec::new(), position);
        (batch.times, batch.levels, batch.fields) = (self.times, self.levels, self.fields);
        batch
    }
}

/// Where the outputs end that lines were sent of.
#[derive(Debug, Default)]
pub(super) struct Places {
    known: Mutex<HashMap<LogOrigin, Arc<tokio::sync::Mutex<Place>>>>,
    /// The last incarnation that was begun: a later one is greater, whatever the clock says.
    incarnation: AtomicU64,
}

/// Where the next line goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    incarnation: u64,
    sequence: u64,
    /// The last line ended within a private key: what comes next may be the rest.
    is_in_key: bool,
}

impl Place {
    /// Sequences begin anywhere, so that no two replicas that began at the same moment take lines of the other for their own.
    fn begin(incarnation: u64) -> Self {
        Self { incarnation, is_in_key: false, sequence: RandomState::new().build_hasher().finish() >> 16 }
    }

    /// What is tried is never tried again with the same place: nobody knows whether it was stored.
    fn take(&mut self, bytes: usize) -> LogPosition {
        let position = LogPosition::offset(self.incarnation, self.sequence);
        self.sequence += bytes as u64;
        position
    }
}

impl Places {
    async fn lock(&self, origin: &LogOrigin, ports: &LogPorts) -> OwnedMutexGuard<Place> {
        let place = {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MOST && !known.contains_key(origin) {
                known.retain(|_, place| Arc::strong_count(place) > 1);
            }
            let place = known.entry(origin.clone()).or_insert_with(|| {
                let now = ports.clock.now().0;
                let last = self.incarnation.fetch_max(now, Ordering::Relaxed);
                let incarnation =
                    if now > last { now } else { self.incarnation.fetch_add(1, Ordering::Relaxed) + 1 };
                Arc::new(tokio::sync::Mutex::new(Place::begin(incarnation)))
            });
            Arc::clone(place)
        };
        place.lock_owned().await
    }
}
