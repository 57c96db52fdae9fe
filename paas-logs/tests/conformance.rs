//! The conformance suites, on the backends that need nothing installed.
#![allow(clippy::unwrap_used)] // Fixtures of a test binary are not inside `#[test]`.

use std::process::ExitCode;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::port::LogStore;
use paas_logs::{EmbeddedLogStore, LogStoreConfig};
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

fn main() -> ExitCode {
    let suites = [
        suite::log_store::suite("local", LogStores::default),
        suite::log_store::guarded("local", LogStores::default),
    ];
    Conformance::new(suites).with_table(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).run()
}
