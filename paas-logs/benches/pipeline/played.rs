//! Backends that cost next to nothing, so that what is measured is the pipeline's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_core::model::{
    Alert, AlertKey, AppId, FieldName, LogBatch, LogBucket, LogCount, LogCredential, LogItem, LogOrigin,
    LogPage, LogPosition, LogQuery, LogRules, LogSelector, Resource, Scope, Secret, TenantId, Timestamp,
};
use paas_core::port::{Backend, LogDirectory, LogService, LogSource, LogStore};
use paas_core::{Error, Result};
use tokio::sync::broadcast;

/// A source that gives what it is told to, to all who follow.
#[derive(Debug)]
pub(crate) struct Played {
    batches: broadcast::Sender<LogBatch>,
    pub(crate) followers: AtomicU64,
}

impl Played {
    pub(crate) fn new() -> Self {
        Self { batches: broadcast::Sender::new(1 << 16), followers: AtomicU64::new(0) }
    }

    pub(crate) fn play(&self, batch: LogBatch) {
        // Nobody may follow.
        let _ = self.batches.send(batch);
    }
}

#[async_trait]
impl Backend for Played {
    fn name(&self) -> &'static str {
        "played"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl LogSource for Played {
    async fn lines(&self, _: &Scope, selector: LogSelector) -> Result<BoxStream<'static, Result<LogItem>>> {
        if !selector.follow {
            return Ok(stream::empty().boxed());
        }
        self.followers.fetch_add(1, Ordering::Relaxed);
        let batches = stream::unfold(self.batches.subscribe(), async |mut batches| {
            Some((batches.recv().await.expect("the bench reads fast enough"), batches))
        });
        let wanted = batches.filter(move |batch| {
            let is_wanted = selector.resource.contains(&batch.origin.resource());
            async move { is_wanted }
        });
        Ok(wanted.map(|batch| Ok(LogItem::Batch(batch))).boxed())
    }
}

/// A store that counts lines, and forgets them.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    pub(crate) lines: AtomicU64,
}

#[async_trait]
impl Backend for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl LogStore for Counting {
    async fn append(&self, _: &Scope, batches: &[LogBatch]) -> Result<()> {
        let lines: usize = batches.iter().map(|batch| batch.starts.len()).sum();
        self.lines.fetch_add(lines as u64, Ordering::Relaxed);
        Ok(())
    }
    async fn ends(&self, _: &Scope, _: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        Ok(Vec::new())
    }
    async fn search(&self, _: &Scope, _: &LogQuery) -> Result<LogPage> {
        Ok(LogPage::default())
    }
    async fn histogram(&self, _: &Scope, _: &LogQuery, _: Duration) -> Result<Vec<LogBucket>> {
        Err(Error::unsupported("histogram"))
    }
    async fn top(&self, _: &Scope, _: &LogQuery, _: &FieldName, _: usize) -> Result<Vec<LogCount>> {
        Err(Error::unsupported("top"))
    }
    async fn purge(&self, _: &Scope, _: &TenantId, _: Option<Timestamp>) -> Result<()> {
        Ok(())
    }
}

/// A directory in which every service has these rules.
#[derive(Debug)]
pub(crate) struct Alike(pub(crate) LogRules);

#[async_trait]
impl LogDirectory for Alike {
    async fn service(&self, _: &LogOrigin) -> Result<Option<LogService>> {
        let mut service = LogService::new("shop".parse()?, "web".parse()?);
        service.rules = vec![self.0.clone()];
        Ok(Some(service))
    }
    async fn sender(&self, _: &Secret) -> Result<Option<LogCredential>> {
        Ok(None)
    }
    async fn instance(&self, _: &str) -> Result<Option<LogOrigin>> {
        Ok(None)
    }
    async fn last_alert(&self, _: &AlertKey) -> Result<Option<Alert>> {
        Ok(None)
    }
    async fn raise(&self, _: &AlertKey, _: Alert) -> Result<()> {
        Ok(())
    }
    async fn changes(&self) -> Result<BoxStream<'static, AppId>> {
        Ok(stream::pending().boxed())
    }
}

/// These rules, as a file would say them.
pub(crate) fn rules(json: &str) -> Arc<Alike> {
    Arc::new(Alike(serde_json::from_str(json).unwrap()))
}
