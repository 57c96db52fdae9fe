//! The output of instances, as the keeper drains it.
//!
//! One task reads the keeper's spool, cuts it into whole lines, and keeps the newest in a bounded ring. An offset is
//! committed only once its lines have left the ring, so after a restart of the platform the ring is filled again.

mod lines;
mod reader;
mod ring;

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use paas_core::Result;
use paas_core::model::{LogItem, LogSelector, Scope};
use paas_core::port::{Backend, LogSource};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::keeper::{Keeper, SpoolItem};
use crate::scheduler::Origins;
use lines::Lines;
use reader::Reader;
use ring::Ring;

/// Reads what instances write.
#[derive(Debug)]
pub struct LocalLogSource {
    shared: Arc<Shared>,
    task: AbortHandle,
}

#[derive(Debug, Default)]
struct Shared {
    ring: Mutex<Ring>,
    changed: watch::Sender<u64>,
}

impl Shared {
    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LocalLogSource {
    /// Follows a keeper's output from what was committed last.
    pub(crate) fn new(keeper: &Keeper, origins: Origins) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(drain(keeper.clone(), origins, Arc::clone(&shared))).abort_handle();
        Self { shared, task }
    }
}

impl Drop for LocalLogSource {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Moves output from the spool into the ring, for ever.
async fn drain(keeper: Keeper, origins: Origins, shared: Arc<Shared>) {
    let mut lines = Lines::new(origins);
    let mut spool = keeper.spool(None);
    while let Some(item) = spool.next().await {
        let (items, next) = match item {
            Ok(SpoolItem::Record(record)) => {
                let next = record.next;
                (lines.take(record), next)
            }
            // Whose it was nobody knows. How much each origin misses shows at its next line, by its position; a sum
            // here would count that twice.
            Ok(SpoolItem::Gap { to, .. }) => {
                let reason = "output came faster than it was read, or was lost with the keeper".to_owned();
                (vec![LogItem::Gap { origin: None, bytes: 0, reason }], to)
            }
            Err(error) => {
                tracing::warn!(?error, "cannot read output");
                continue;
            }
        };
        let free = {
            let mut ring = shared.ring();
            items.into_iter().for_each(|item| ring.push(item, next));
            ring.take_freed()
        };
        shared.changed.send_modify(|count| *count += 1);
        if let Some(offset) = free
            && let Err(error) = keeper.commit(offset).await
        {
            tracing::warn!(?error, "cannot commit read output");
        }
    }
}

#[async_trait]
impl Backend for LocalLogSource {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl LogSource for LocalLogSource {
    async fn lines(&self, _: &Scope, selector: LogSelector) -> Result<BoxStream<'static, Result<LogItem>>> {
        Ok(Reader::new(&self.shared, selector).stream())
    }
}
