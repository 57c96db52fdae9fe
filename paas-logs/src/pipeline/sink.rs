//! Where lines go once all is done to them.

use std::sync::Arc;

use paas_core::model::{LogBatch, Scope};
use paas_core::port::{LogPorts, LogQueue, LogStore};
use paas_core::{ErrorKind, Result};
use tokio::sync::Semaphore;

use super::{FIRST_PAUSE, LONGEST_PAUSE};

/// So many put lines in at once.
const AT_ONCE: usize = 32;

/// Takes lines in, however long that takes.
#[derive(Debug)]
pub(super) struct Sink {
    to: To,
    turns: Semaphore,
}

#[derive(Debug)]
enum To {
    Store(Arc<dyn LogStore>),
    Queue(Arc<dyn LogQueue>),
}

impl Sink {
    /// The queue, where there is one, else the store; `None` where there is neither.
    pub(super) fn first(ports: &LogPorts) -> Option<Self> {
        let queue = ports.queue.clone().map(To::Queue);
        Some(Self::to(queue.or_else(|| ports.store.clone().map(To::Store))?))
    }

    pub(super) fn store(store: Arc<dyn LogStore>) -> Self {
        Self::to(To::Store(store))
    }

    fn to(to: To) -> Self {
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
            To::Store(store) => store.append(scope, batches).await,
            To::Queue(queue) => queue.publish(scope, batches).await,
        }
    }
}
