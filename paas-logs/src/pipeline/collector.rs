//! Takes the lines of all services to the store.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::future::{BoxFuture, OptionFuture};
use futures_util::stream::{BoxStream, StreamExt};
use paas_core::model::{LogBatch, LogItem, LogSelector, Resource};
use paas_core::port::{LogPorts, LogStore};
use paas_core::{Error, ErrorKind, Result};

use super::services::Services;
use super::stage::{Done, Stage};
use super::{FIRST_PAUSE, LONGEST_PAUSE, TICK};
use crate::alert::AlertCounts;

/// While so many bytes wait for the store, nothing more is read: the source keeps it, or tells what it could not keep.
const WAITING: usize = 8 * 1024 * 1024;

/// Reads the source, and hands on.
pub(super) struct Collector<'a> {
    ports: &'a LogPorts,
    store: &'a dyn LogStore,
    stage: Stage,
    alerts: AlertCounts,
    waiting: Vec<LogBatch>,
    bytes: usize,
}

impl<'a> Collector<'a> {
    pub(super) fn new(services: &Arc<Services>, ports: &'a LogPorts, store: &'a dyn LogStore) -> Self {
        let stage = Stage::new(Arc::clone(services), ports.clone(), true);
        Self { ports, store, stage, alerts: AlertCounts::default(), waiting: Vec::new(), bytes: 0 }
    }

    /// Goes on where the store ends, for as long as it can be read.
    pub(super) async fn run(mut self) -> Result<Infallible> {
        let mut items = self.open().await?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut appending: Option<BoxFuture<'a, ()>> = None;
        loop {
            if appending.is_none() && !self.waiting.is_empty() {
                self.bytes = 0;
                let (store, ports, batches) = (self.store, self.ports, std::mem::take(&mut self.waiting));
                appending = Some(Box::pin(append(store, ports, batches)));
            }
            tokio::select! {
                biased;
                Some(()) = OptionFuture::from(appending.as_mut()) => appending = None,
                item = items.next(), if self.bytes < WAITING => {
                    let item = item.ok_or_else(|| Error::unavailable("the log source has ended"))??;
                    self.take(item).await?;
                }
                _ = tick.tick() => {
                    let done = self.stage.overdue();
                    self.put(done).await?;
                }
            }
        }
    }

    async fn open(&self) -> Result<BoxStream<'static, Result<LogItem>>> {
        let scope = &self.ports.scope;
        let mut selector = LogSelector::follow(Resource::Platform);
        let ends = self.store.ends(scope, &Resource::Platform).await?;
        selector.after =
            ends.into_iter().map(|(origin, end)| (origin.instance, origin.stream, end)).collect();
        self.ports.source.lines(scope, selector).await
    }

    async fn take(&mut self, item: LogItem) -> Result<()> {
        let done = match item {
            LogItem::Batch(batch) => self.stage.take(batch).await?,
            LogItem::Gap { origin, bytes, reason } => {
                let instance = origin.as_ref().map(|origin| origin.instance.clone());
                let resource = origin.map(|origin| origin.resource().to_string());
                tracing::warn!(resource, bytes, reason, "lines are lost");
                self.stage.finish(instance.as_ref())
            }
            LogItem::Notice { instance, .. } => self.stage.finish(Some(&instance)),
            // A kind that a later version knows.
            _ => Vec::new(),
        };
        self.put(done).await
    }

    /// Lines are counted before they are stored: what is not stored is counted again after a crash.
    async fn put(&mut self, done: Vec<Done>) -> Result<()> {
        for (service, batch) in done {
            self.alerts.take(self.ports, service.alerts(), &batch).await?;
            self.bytes += weight(&batch);
            self.waiting.push(batch);
        }
        Ok(())
    }
}

/// About how much memory a batch takes.
fn weight(batch: &LogBatch) -> usize {
    batch.buffer.len() + 64 * batch.starts.len() + 512
}

/// Stores batches, however long that takes. Where some are refused for good, each is stored for itself; one that still is refused
/// is lost, and that is told: else no line after it would ever be stored.
async fn append(store: &dyn LogStore, ports: &LogPorts, batches: Vec<LogBatch>) {
    let Err(error) = append_together(store, ports, &batches).await else { return };
    tracing::warn!(?error, "the log store refuses some lines");
    for batch in &batches {
        if let Err(error) = append_together(store, ports, std::slice::from_ref(batch)).await {
            let (resource, lines) = (batch.origin.resource(), batch.starts.len());
            tracing::error!(?error, %resource, lines, "lines are lost: the log store refuses them");
        }
    }
}

/// Stores batches, and tries again as long as that may help.
async fn append_together(store: &dyn LogStore, ports: &LogPorts, batches: &[LogBatch]) -> Result<()> {
    let mut pause = FIRST_PAUSE;
    loop {
        match store.append(&ports.scope, batches).await {
            // A disk that may not be written to, say, may be again.
            Err(error) if error.kind() != ErrorKind::Invalid => {
                tracing::warn!(?error, "the log store takes no lines for now");
                tokio::time::sleep(error.retry_after().unwrap_or(pause)).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            outcome => return outcome,
        }
    }
}
