//! Where lines go once all is done to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use paas_core::model::{LogBatch, Scope};
use paas_core::port::{LogPorts, LogSink};
use paas_core::{Error, ErrorKind, Result};
use tokio::sync::Semaphore;

use super::{FIRST_PAUSE, LONGEST_PAUSE};
use crate::process::{Parted, Routes};

/// So many put lines in at once.
const AT_ONCE: usize = 32;

/// Takes lines in, however long that takes.
#[derive(Debug)]
pub(super) struct Sink {
    to: LogSink,
    turns: Semaphore,
}

impl Sink {
    pub(super) fn new(to: LogSink) -> Self {
        Self { to, turns: Semaphore::new(AT_ONCE) }
    }

    /// Puts batches in. Where some are refused for good, each is put in for itself; one that still is refused is lost, and that is
    /// told: else nothing after it would ever get further.
    pub(super) async fn put(&self, scope: &Scope, batches: Vec<Arc<LogBatch>>) {
        let batches: Vec<LogBatch> = batches.into_iter().map(Arc::unwrap_or_clone).collect();
        let Err(error) = self.put_together(scope, &batches).await else { return };
        tracing::warn!(?error, "some log lines are refused");
        for batch in &batches {
            if let Err(error) = self.put_together(scope, std::slice::from_ref(batch)).await {
                let (resource, lines) = (batch.origin.resource(), batch.starts.len());
                tracing::error!(?error, %resource, lines, "lines are lost: the log store or queue refuses them");
            }
        }
    }

    /// Puts batches in, and tries again as long as that may help.
    async fn put_together(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_to_put(scope, batches).await {
                // A disk that may not be written to, say, may be again.
                Err(error) if error.kind() != ErrorKind::Invalid => {
                    tracing::warn!(?error, "the log store or queue takes no lines for now");
                    tokio::time::sleep(error.retry_after().unwrap_or(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    async fn try_to_put(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()> {
        // The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        match &self.to {
            LogSink::Store(store) => store.append(scope, batches).await,
            LogSink::Queue(queue) => queue.publish(scope, batches).await,
            _ => Err(Error::unsupported("log_sink")),
        }
    }
}

/// All places where lines go.
#[derive(Debug)]
pub(crate) struct Sinks {
    main: Sink,
    others: BTreeMap<String, Sink>,
}

/// Lines on their way to places.
#[derive(Debug, Default)]
pub(super) struct Load {
    main: Vec<Arc<LogBatch>>,
    others: BTreeMap<String, Vec<Arc<LogBatch>>>,
}

impl Load {
    pub(super) fn is_empty(&self) -> bool {
        self.main.is_empty()
    }

    pub(super) fn add(&mut self, lines: Parted) {
        self.main.push(lines.rest);
        for (to, batch) in lines.routed {
            self.others.entry(to).or_default().push(Arc::new(batch));
        }
    }
}

impl Sinks {
    /// The queue, where there is one, or else the store, and others by their names; `None` where there is neither.
    pub(crate) fn of(ports: &LogPorts) -> Option<Self> {
        let queue = ports.queue.clone().map(LogSink::Queue);
        let main = Sink::new(queue.or_else(|| ports.store.clone().map(LogSink::Store))?);
        let other = |(name, to): (&String, &LogSink)| (name.clone(), Sink::new(to.clone()));
        Some(Self { main, others: ports.sinks.iter().map(other).collect() })
    }

    /// Parts lines by where they go. A deploy is refused that names a place which is not there; lines for one that was there once go
    /// where all others go.
    pub(crate) fn part(&self, routes: &Routes, batch: Arc<LogBatch>) -> Parted {
        routes.part(batch, |name| self.others.contains_key(name))
    }

    /// Puts a batch in at one of the other places, once, for whoever keeps it where that fails. `Ok` means that it is there, even
    /// where others put in lines of the same output meanwhile.
    #[cfg(feature = "intake")]
    pub(crate) async fn try_to_put(&self, scope: &Scope, to: &str, batch: LogBatch) -> Result<()> {
        let Some(sink) = self.others.get(to) else { return Err(Error::not_found("there is no such place")) };
        sink.try_to_put(scope, std::slice::from_ref(&batch)).await?;
        let LogSink::Store(store) = &sink.to else { return Ok(()) };
        let ends = store.ends(scope, &batch.origin.resource()).await?;
        match ends.into_iter().find(|(origin, _)| *origin == batch.origin) {
            Some((_, end)) if end != batch.end() => {
                Err(Error::unavailable("others have put in lines of the same output"))
            }
            _ => Ok(()),
        }
    }

    /// Puts lines in. What goes elsewhere does first: up to where the store has lines, they are not read again.
    pub(super) async fn put(&self, scope: &Scope, load: Load) {
        for (name, batches) in load.others {
            if let Some(sink) = self.others.get(&name) {
                sink.put(scope, batches).await;
            }
        }
        self.main.put(scope, load.main).await;
    }
}
