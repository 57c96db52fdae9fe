//! A pipeline that lines are sent to, over a real socket and to a real store, with a directory that a test describes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use paas_core::memory::{MemoryLogSource, MemoryLogStore};
use paas_core::model::{
    Alert, AlertKey, AppId, Clock, FieldName, InstanceId, LogBatch, LogBucket, LogCount, LogCredential,
    LogEntry, LogOrder, LogOrigin, LogPage, LogPosition, LogQuarantine, LogQuery, LogRules, LogSender,
    LogStream, LogTail, Resource, RevisionNumber, Scope, Secret, TailItem, TenantId, Timestamp,
};
use paas_core::port::{Backend, LogDirectory, LogPipeline, LogPorts, LogService, LogSink, LogStore};
use paas_core::{Error, Result};
use paas_logs::{EmbeddedLogStore, IntakeConfig, LogStoreConfig, Pipeline, PipelineConfig};
use tokio::task::JoinHandle;

/// 2026-11-27T01:02:03.456Z
pub(crate) const NOW: Timestamp = Timestamp(1_795_741_323_456);

pub(crate) fn service(tenant: &str) -> Resource {
    let ids = ("e-1".parse().unwrap(), "a-1".parse().unwrap(), "s-1".parse().unwrap());
    Resource::Service(tenant.parse().unwrap(), ids.0, ids.1, ids.2)
}

pub(crate) fn origin(tenant: &str, instance: &str) -> LogOrigin {
    let instance = InstanceId::new(instance).unwrap();
    LogOrigin::new(&service(tenant), RevisionNumber(3), instance, LogStream::Combined).unwrap()
}

/// What a test says of services, credentials and instances.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) rules: Mutex<LogRules>,
    pub(crate) senders: Mutex<HashMap<String, LogCredential>>,
    pub(crate) instances: Mutex<HashMap<String, LogOrigin>>,
    pub(crate) raised: Mutex<Vec<Alert>>,
    pub(crate) failures: AtomicU32,
}

fn fails(failures: &AtomicU32) -> Result<()> {
    let less = |left: u32| left.checked_sub(1);
    match failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
        Ok(_) => Err(Error::unavailable("not now").with_retry_after(Duration::from_secs(7))),
        Err(_) => Ok(()),
    }
}

#[async_trait]
impl LogDirectory for Directory {
    async fn service(&self, _: &LogOrigin) -> Result<Option<LogService>> {
        fails(&self.failures)?;
        let mut service = LogService::new("shop".parse()?, "web".parse()?);
        service.rules = vec![self.rules.lock().unwrap().clone()];
        service.secrets = vec![Secret::new("hunter2!")?];
        Ok(Some(service))
    }
    async fn sender(&self, token: &Secret) -> Result<Option<LogCredential>> {
        let token = String::from_utf8_lossy(token.expose());
        Ok(self.senders.lock().unwrap().get(&*token).cloned())
    }
    async fn instance(&self, id: &str) -> Result<Option<LogOrigin>> {
        Ok(self.instances.lock().unwrap().get(id).cloned())
    }
    async fn last_alert(&self, _: &AlertKey) -> Result<Option<Alert>> {
        Ok(None)
    }
    async fn raise(&self, _: &AlertKey, alert: Alert) -> Result<()> {
        self.raised.lock().unwrap().push(alert);
        Ok(())
    }
    async fn changes(&self) -> Result<BoxStream<'static, AppId>> {
        Ok(futures_util::stream::pending().boxed())
    }
}

/// A store that refuses so many times before it takes anything, and can be slow.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) inner: EmbeddedLogStore,
    pub(crate) failures: AtomicU32,
    pub(crate) is_stuck: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Backend for Store {
    fn name(&self) -> &'static str {
        "moody"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl LogStore for Store {
    async fn append(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()> {
        fails(&self.failures)?;
        if self.is_stuck.load(Ordering::Relaxed) {
            std::future::pending().await
        }
        self.inner.append(scope, batches).await
    }
    async fn ends(&self, scope: &Scope, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        self.inner.ends(scope, resource).await
    }
    async fn search(&self, scope: &Scope, query: &LogQuery) -> Result<LogPage> {
        self.inner.search(scope, query).await
    }
    async fn histogram(&self, scope: &Scope, query: &LogQuery, step: Duration) -> Result<Vec<LogBucket>> {
        self.inner.histogram(scope, query, step).await
    }
    async fn top(
        &self,
        scope: &Scope,
        query: &LogQuery,
        field: &FieldName,
        most: usize,
    ) -> Result<Vec<LogCount>> {
        self.inner.top(scope, query, field, most).await
    }
    async fn purge(&self, scope: &Scope, tenant: &TenantId, before: Option<Timestamp>) -> Result<()> {
        self.inner.purge(scope, tenant, before).await
    }
}

/// All of it.
pub(crate) struct Bed {
    pub(crate) address: SocketAddr,
    pub(crate) directory: Arc<Directory>,
    pub(crate) store: Arc<Store>,
    /// Where rules may send lines.
    pub(crate) archive: MemoryLogStore,
    pub(crate) ports: LogPorts,
    pipeline: Arc<Pipeline>,
    serving: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

/// Tokens: `one` and `two` of a service of a tenant each, and `nodes` of a collector.
pub(crate) async fn bed(json: &str, change: impl FnOnce(&mut PipelineConfig, &mut IntakeConfig)) -> Bed {
    let folder = tempfile::tempdir().unwrap();
    let inner = EmbeddedLogStore::open(LogStoreConfig::new(folder.path().join("logs"))).await.unwrap();
    let store = Arc::new(Store { inner, failures: 0.into(), is_stuck: false.into() });
    let credential = |id: &str, sender| LogCredential::new(id.parse().unwrap(), id, sender, NOW).unwrap();
    let own = |tenant: &str| LogSender::service(&service(tenant)).unwrap();
    let senders = [
        ("one", credential("l-1", own("t-1"))),
        ("two", credential("l-2", own("t-2"))),
        ("nodes", credential("l-3", LogSender::Collector)),
    ];
    let directory = Arc::new(Directory {
        rules: Mutex::new(serde_json::from_str(json).unwrap()),
        senders: Mutex::new(senders.into_iter().map(|(token, own)| (token.to_owned(), own)).collect()),
        instances: Mutex::default(),
        raised: Mutex::default(),
        failures: 0.into(),
    });
    let clock = Clock::fixed(NOW);
    let source = Arc::new(MemoryLogSource::new(clock.clone()));
    let scope = Scope::testing(Resource::Platform);
    let archive = MemoryLogStore::new();
    let ports = LogPorts::new(source, Some(store.clone()), directory.clone(), scope, clock)
        .with_sink("archive", LogSink::Store(Arc::new(archive.clone())));
    let mut intake = IntakeConfig::new(([127, 0, 0, 1], 0).into());
    let mut config = PipelineConfig::default();
    change(&mut config, &mut intake);
    config.intake = Some(intake);
    let pipeline = Arc::new(Pipeline::new(config));
    pipeline.check().await.unwrap();
    let serving = tokio::spawn({
        let (pipeline, ports) = (pipeline.clone(), ports.clone());
        async move { pipeline.serve(ports).await }
    });
    let address = pipeline.intake_address().await.unwrap();
    Bed { address, directory, store, archive, ports, pipeline, serving, _folder: folder }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Bed {
    /// What is stored of a tenant, the oldest first.
    pub(crate) async fn entries(&self, tenant: &str) -> Vec<LogEntry> {
        let mut query = LogQuery::of(Resource::Tenant(tenant.parse().unwrap()));
        (query.order, query.limit) = (LogOrder::Oldest, 1_000);
        self.store.inner.search(&self.ports.scope, &query).await.unwrap().entries
    }

    pub(crate) async fn lines(&self, tenant: &str) -> Vec<String> {
        let entries = self.entries(tenant).await;
        entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect()
    }

    pub(crate) async fn quarantine(&self) -> Vec<LogQuarantine> {
        self.pipeline.quarantine(&self.ports.scope).await.unwrap()
    }

    /// What a service of a tenant is sent from now on.
    pub(crate) async fn tail(&self, tenant: &str) -> BoxStream<'static, Result<TailItem>> {
        let tail = LogTail::follow(service(tenant));
        self.pipeline.tail(&self.ports.scope, self.ports.clone(), tail).await.unwrap()
    }

    /// Another replica on the same store.
    pub(crate) async fn replica(&self) -> (SocketAddr, JoinHandle<()>) {
        let mut config = PipelineConfig::default();
        config.intake = Some(IntakeConfig::new(([127, 0, 0, 1], 0).into()));
        let pipeline = Arc::new(Pipeline::new(config));
        let (own, ports) = (pipeline.clone(), self.ports.clone());
        let serving = tokio::spawn(async move { own.serve(ports).await });
        (pipeline.intake_address().await.unwrap(), serving)
    }

    pub(crate) fn stop(&self) {
        self.serving.abort();
    }
}
