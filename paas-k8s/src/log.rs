//! The output of instances, as the nodes keep it.
//!
//! A node keeps what a container writes in a file, begins a new one when that is full, and gives only the newest; of the
//! containers of an instance it gives the one that runs and the one before it. So whoever reads all the time gets all, and
//! who comes back late is told of a [gap](paas_core::model::LogItem::Gap).
//!
//! A pod is asked for by its name, which the next one of a StatefulSet has, too: whose output a stream gives is looked at once
//! it is open.

mod cursor;
mod instance;
mod lines;
mod order;
mod reader;
mod request;
mod streams;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use paas_core::Result;
use paas_core::model::{LogItem, LogSelector, Scope};
use paas_core::port::{Backend, LogSource};
use tokio::sync::watch;

use crate::scheduler::Outputs;
use crate::{Connection, KubeScheduler};
use streams::Streams;

/// What a company decides about how output is read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogsConfig {
    /// How many instances are read at once, by all readers together; at least one. Where there are more, each has its turn of
    /// ten seconds, and goes on where it was. 500 unless said otherwise.
    pub streams: usize,
}

impl Default for LogsConfig {
    fn default() -> Self {
        Self { streams: 500 }
    }
}

/// Reads what instances write, by the cluster's own interface for it.
///
/// A cluster does not tell the two outputs of an instance apart: lines come as
/// [`LogStream::Combined`](paas_core::model::LogStream::Combined), in the order in which they were written. Positions are the
/// nodes' stamps. Which instances there are comes from the scheduler's watches. A reader that is behind reads no faster than
/// it takes: what the node throws away meanwhile is a gap.
#[derive(Debug)]
pub struct KubeLogSource {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    connection: Connection,
    outputs: Outputs,
    streams: Streams,
    /// Tells readers that the source is gone.
    closed: watch::Sender<()>,
}

impl KubeLogSource {
    /// Reads what this scheduler's instances write.
    #[must_use]
    pub fn new(scheduler: &KubeScheduler) -> Self {
        Self::with_config(scheduler, &LogsConfig::default())
    }

    /// As [`KubeLogSource::new`], with the company's decisions.
    #[must_use]
    pub fn with_config(scheduler: &KubeScheduler, config: &LogsConfig) -> Self {
        let shared = Shared {
            connection: scheduler.connection().clone(),
            outputs: scheduler.outputs(),
            streams: Streams::new(config.streams),
            closed: watch::Sender::new(()),
        };
        Self { shared: Arc::new(shared) }
    }
}

impl Drop for KubeLogSource {
    fn drop(&mut self) {
        self.shared.streams.close();
        self.shared.closed.send_replace(());
    }
}

#[async_trait]
impl Backend for KubeLogSource {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self) -> Result<()> {
        self.shared.connection.check().await
    }
}

#[async_trait]
impl LogSource for KubeLogSource {
    async fn lines(
        &self,
        scope: &Scope,
        selector: LogSelector,
    ) -> Result<BoxStream<'static, Result<LogItem>>> {
        if !selector.follow {
            return Ok(reader::existing(&self.shared, &selector));
        }
        // From before the look at what is there.
        let hints = self.shared.outputs.hints(scope);
        Ok(reader::follow(&self.shared, selector, hints))
    }
}
