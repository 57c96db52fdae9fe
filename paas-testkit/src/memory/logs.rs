//! The log source and the log queue.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::memory::{MemoryLogQueue, MemoryLogSource};
use paas_core::model::{Clock, LogOrigin, LogStream, RevisionNumber, WhenFull};
use paas_core::port::{LogQueue, LogSource};
use paas_core::{Error, Result};

use crate::suite::log_queue::{LogQueueFixture, LogQueueTraits};
use crate::suite::log_source::{LogSourceFixture, LogSourceTraits};
use crate::{Fixture, World};

/// [`MemoryLogSource`] with room for 1 MiB of each origin.
#[derive(Debug)]
pub struct LogSources {
    backend: MemoryLogSource,
}

impl Default for LogSources {
    fn default() -> Self {
        Self { backend: MemoryLogSource::new(Clock::system()) }
    }
}

impl Fixture for LogSources {
    type Port = dyn LogSource;
    type Capabilities = LogSourceTraits;

    fn capabilities(&self) -> LogSourceTraits {
        LogSourceTraits { bounded: true, streams: true, offsets: true }
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn LogSource>>> {
        let backend: Arc<dyn LogSource> = Arc::new(self.backend.clone());
        Box::pin(async move { Ok(backend) })
    }
}

impl LogSourceFixture for LogSources {
    fn origin<'a>(&'a self, world: &'a World) -> BoxFuture<'a, Result<LogOrigin>> {
        let (service, instance) = (world.service_resource(), world.instance());
        let origin = LogOrigin::new(&service, RevisionNumber(1), instance, LogStream::Stdout);
        Box::pin(async move { origin.ok_or_else(|| Error::internal("an origin is a service's")) })
    }

    fn emit<'a>(&'a self, origin: &'a LogOrigin, line: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.backend.push(origin, line);
        Box::pin(async { Ok(()) })
    }

    fn overflow<'a>(&'a self, origin: &'a LogOrigin) -> BoxFuture<'a, Result<()>> {
        let line = [b'.'; 1_000];
        (0..2_000).for_each(|_| self.backend.push(origin, line));
        Box::pin(async { Ok(()) })
    }
}

/// [`MemoryLogQueue`] with room for 2 MiB.
#[derive(Debug)]
pub struct LogQueues {
    backend: MemoryLogQueue,
    full: WhenFull,
}

const ROOM: usize = 2 << 20;

impl Default for LogQueues {
    fn default() -> Self {
        Self::with(WhenFull::Refuse)
    }
}

impl LogQueues {
    fn with(full: WhenFull) -> Self {
        Self { backend: MemoryLogQueue::with_capacity(ROOM, full), full }
    }

    /// The one that drops its oldest lines.
    #[must_use]
    pub fn drop_oldest() -> Self {
        Self::with(WhenFull::DropOldest)
    }
}

impl Fixture for LogQueues {
    type Port = dyn LogQueue;
    type Capabilities = LogQueueTraits;

    fn capabilities(&self) -> LogQueueTraits {
        let drops = self.full == WhenFull::DropOldest;
        LogQueueTraits { durable: false, refuses: !drops, drops }
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn LogQueue>>> {
        let backend: Arc<dyn LogQueue> = Arc::new(self.backend.clone());
        Box::pin(async move { Ok(backend) })
    }
}

impl LogQueueFixture for LogQueues {
    fn too_much(&self) -> usize {
        2 * ROOM
    }
}
