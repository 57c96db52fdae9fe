//! The conformance suites, on the backends that need nothing installed.
#![allow(clippy::unwrap_used)] // Fixtures of a test binary are not inside `#[test]`.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use paas_core::model::{Alert, Notification, WhenFull};
use paas_core::port::{LogQueue, LogStore, Notifier};
use paas_core::{Error, Result};
use paas_logs::{EmbeddedLogStore, LogStoreConfig, WalConfig, WalLogQueue, WebhookNotifier};
use paas_testkit::suite::log_queue::{LogQueueFixture, LogQueueTraits};
use paas_testkit::suite::notifier::{NotifierFixture, NotifierTraits, Recipient};
use paas_testkit::suite::{self, Durability};
use paas_testkit::{Conformance, Fixture, Pace};
use tempfile::TempDir;
use tokio::sync::OnceCell;

#[path = "webhook/receiver.rs"]
mod receiver;

use receiver::{Answer, Call, Receiver, SECRET};

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

/// A webhook, and an endpoint in this process.
#[derive(Debug, Default)]
struct Webhooks(OnceCell<Receiver>);

impl Fixture for Webhooks {
    type Port = dyn Notifier;
    type Capabilities = NotifierTraits;

    fn capabilities(&self) -> NotifierTraits {
        NotifierTraits { asks: true, deadline: true }
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Notifier>>> {
        Box::pin(async {
            let mut config = self.0.get_or_init(Receiver::start).await.config();
            config.deadline = Duration::from_secs(1);
            Ok(Arc::new(WebhookNotifier::connect(config).await?) as Arc<dyn Notifier>)
        })
    }

    fn pace(&self) -> Pace {
        Pace::Real
    }
}

impl NotifierFixture for Webhooks {
    fn taken(&self) -> BoxFuture<'_, Result<Vec<Notification>>> {
        let calls = self.0.get().unwrap().taken();
        Box::pin(async move {
            let mut taken: Vec<Notification> = Vec::new();
            for call in &calls {
                let told = told(call)?;
                if taken.iter().all(|known| known.alert.id != told.alert.id) {
                    taken.push(told);
                }
            }
            Ok(taken)
        })
    }

    fn recipient(&self, recipient: Recipient) {
        self.0.get().unwrap().answer(match recipient {
            Recipient::Takes => Answer::status(204),
            Recipient::Refuses => Answer::status(410),
            Recipient::Asks(pause) => {
                let pause = pause.as_secs().to_string();
                Answer::Status(429, vec![("retry-after", pause)], Bytes::new())
            }
            Recipient::IsSilent => Answer::Nothing,
            _ => Answer::status(500),
        });
    }
}

/// What a call tells whoever makes sure of who calls.
fn told(call: &Call) -> Result<Notification> {
    assert!(call.is_signed(SECRET));
    let body = call.json();
    let data = &body["data"];
    assert_eq!(data["id"], call.header("webhook-id"));
    let unread = |cause| Error::internal("this is no alert").with_source(cause);
    let read = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
    let at = serde_json::from_value(body["timestamp"].clone()).map_err(unread)?;
    let mut alert = Alert::new(read("id"), at, read("notify"), read("query"));
    alert.count = serde_json::from_value(data["count"].clone()).map_err(unread)?;
    alert.within = Duration::from_secs(if data["within"] == "1m 30s" { 90 } else { 0 });
    alert.held_back = serde_json::from_value(data["held_back"].clone()).map_err(unread)?;
    alert.lines = serde_json::from_value(data["lines"].clone()).map_err(unread)?;
    let (tenant, environment) = (read("tenant").parse()?, read("environment").parse()?);
    let mut told = Notification::new(tenant, environment, read("app").parse()?, alert);
    told.service = serde_json::from_value(data["service"].clone()).map_err(unread)?;
    told.instance = serde_json::from_value(data["instance"].clone()).map_err(unread)?;
    Ok(told)
}

fn main() -> ExitCode {
    let (refusing, dropping) = (|| LogQueues::new(WhenFull::Refuse), || LogQueues::new(WhenFull::DropOldest));
    let suites = [
        suite::log_queue::suite("local", refusing),
        suite::log_queue::guarded("local", refusing),
        suite::log_queue::suite("local+drop", dropping),
        suite::log_store::suite("local", LogStores::default),
        suite::log_store::guarded("local", LogStores::default),
        suite::notifier::suite("webhook", Webhooks::default),
        suite::notifier::guarded("webhook", Webhooks::default),
    ];
    Conformance::new(suites).with_table(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).run()
}
