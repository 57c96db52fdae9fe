//! The conformance suites, on the backends that need nothing installed.
#![allow(clippy::unwrap_used)] // Fixtures of a test binary are not inside `#[test]`.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::model::WhenFull;
use paas_core::port::{LogQueue, LogStore};
use paas_logs::{EmbeddedLogStore, LogStoreConfig, WalConfig, WalLogQueue};
use paas_testkit::suite::log_queue::{LogQueueFixture, LogQueueTraits};
use paas_testkit::suite::{self, Durability};
use paas_testkit::{Conformance, Fixture, Pace};
use tempfile::TempDir;

/// A store in a folder of its own.
#[derive(Debug)]
struct LogStores(TempDir);

impl Default for LogStores {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Fixture for LogStores {
    type Port = dyn LogStore;
    type Capabilities = Durability;

    fn capabilities(&self) -> Durability {
        Durability { durable: true }
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn LogStore>>> {
        Box::pin(async {
            let store = EmbeddedLogStore::open(LogStoreConfig::new(self.0.path().join("logs"))).await?;
            Ok(Arc::new(store) as Arc<dyn LogStore>)
        })
    }

    fn pace(&self) -> Pace {
        Pace::Real
    }
}

/// A queue in a folder of its own.
#[derive(Debug)]
struct LogQueues(TempDir, WhenFull);

const ROOM: u64 = 16 << 20;

impl LogQueues {
    fn new(full: WhenFull) -> Self {
        Self(tempfile::tempdir().unwrap(), full)
    }

    async fn queue(&self) -> Result<Arc<dyn LogQueue>> {
        let mut config = WalConfig::new(self.0.path().join("queue"));
        (config.bytes, config.full) = (ROOM, self.1);
        Ok(Arc::new(WalLogQueue::open(config).await?))
    }
}

impl Fixture for LogQueues {
    type Port = dyn LogQueue;
    type Capabilities = LogQueueTraits;

    fn capabilities(&self) -> LogQueueTraits {
        let drops = self.1 == WhenFull::DropOldest;
        LogQueueTraits { durable: true, refuses: !drops, drops }
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn LogQueue>>> {
        Box::pin(self.queue())
    }

    fn pace(&self) -> Pace {
        Pace::Real
    }
}

impl LogQueueFixture for LogQueues {
    fn too_much(&self) -> usize {
        3 * ROOM as usize / 2
    }
}

fn main() -> ExitCode {
    let (refusing, dropping) = (|| LogQueues::new(WhenFull::Refuse), || LogQueues::new(WhenFull::DropOldest));
    let suites = [
        suite::log_queue::suite("local", refusing),
        suite::log_queue::guarded("local", refusing),
        suite::log_queue::suite("local+drop", dropping),
        suite::log_store::suite("local", LogStores::default),
        suite::log_store::guarded("local", LogStores::default),
    ];
    Conformance::new(suites).with_table(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).run()
}
