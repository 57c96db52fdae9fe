//! Takes lines from the queue to the store.

use std::convert::Infallible;
use std::sync::Arc;

use futures_util::FutureExt;
use paas_core::model::{LogGroup, LogItem, Scope};
use paas_core::port::{LogConsumer, LogQueue, LogSink, LogStore};
use paas_core::{Error, Result};

use super::read::weight;
use super::sink::Sink;

/// The group of consumers that stores.
const GROUP: &str = "store";
/// About so many bytes are stored together.
const TOGETHER: usize = 1024 * 1024;

/// Stores what comes, and tells the queue once that is done, for as long as the queue can be read. What was stored and not told
/// comes again, and the store has it already.
pub(super) async fn store_on(
    scope: &Scope,
    queue: &dyn LogQueue,
    store: Arc<dyn LogStore>,
) -> Result<Infallible> {
    let group = LogGroup::new(GROUP).map_err(|error| Error::internal("a name is none").with_source(error))?;
    let (mut consumer, sink) = (queue.subscribe(scope, &group).await?, Sink::new(LogSink::Store(store)));
    loop {
        let batches = together(&mut *consumer).await?;
        sink.put(scope, batches.into_iter().map(Arc::new).collect()).await;
        consumer.commit().await?;
    }
}

/// What comes next, with what is there behind it.
async fn together(consumer: &mut dyn LogConsumer) -> Result<Vec<paas_core::model::LogBatch>> {
    let (mut batches, mut bytes) = (Vec::new(), 0);
    let mut next = Some(consumer.next().await);
    while let Some(item) = next {
        match item? {
            LogItem::Batch(batch) => {
                bytes += weight(&batch);
                batches.push(batch);
            }
            LogItem::Gap { bytes, reason, .. } => {
                tracing::error!(bytes, reason, "lines are lost in the log queue");
            }
            // A queue tells of nothing else.
            _ => {}
        }
        // Giving up a call loses nothing.
        next = if bytes < TOGETHER { consumer.next().now_or_never() } else { None };
    }
    Ok(batches)
}
