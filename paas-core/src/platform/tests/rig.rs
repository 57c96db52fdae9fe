//! Several platforms on the same backends, and a state store with trouble to order.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use super::*;
use crate::engine::EngineConfig;
use crate::guard::{Guard, Interceptor};
use crate::model::{Key, Record, RecordChange, RecordKind, Version};
use crate::port::{Backend, Expected};

/// What happens once, just before a record of a kind is written.
#[derive(Default)]
pub(super) struct Before(Mutex<Option<(&'static str, BoxFuture<'static, ()>)>>);

impl std::fmt::Debug for Before {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Before")
    }
}

impl Before {
    pub(super) fn set(&self, kind: &'static str, what: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock().unwrap() = Some((kind, Box::pin(what)));
    }

    async fn happen(&self, kind: RecordKind) {
        let what = self.0.lock().unwrap().take_if(|(before, _)| *before == kind.as_str());
        if let Some((_, what)) = what {
            what.await;
        }
    }
}

/// A state store with trouble to order.
#[derive(Debug, Default)]
pub(super) struct Troubled {
    pub(super) inner: MemoryStateStore,
    pub(super) latency_ms: AtomicU64,
    /// The next delete of an app's record fails.
    pub(super) fail_app_delete: AtomicBool,
    /// Listing revisions (only the collector does) takes 5 s.
    pub(super) slow_gc: AtomicBool,
    pub(super) gc_waits: tokio::sync::Notify,
    /// The next list of all apps takes 5 s to arrive.
    pub(super) slow_apps: AtomicBool,
    /// No record of an app can be written.
    pub(super) full: AtomicBool,
    /// Nothing can be read, for this reason.
    pub(super) unreadable: Mutex<Option<ErrorKind>>,
    /// Reads of anything but the lease.
    pub(super) reads: AtomicU64,
    /// So many renewals of the lease to come are refused.
    pub(super) refused_renewals: AtomicU64,
    /// So many renewals of the lease to come are stored, and the answer is lost.
    pub(super) lost_renewals: AtomicU64,
    /// How long a stored renewal of the lease takes to be answered.
    pub(super) renewal_ms: AtomicU64,
    /// How late a change is told.
    pub(super) told_after_ms: AtomicU64,
    pub(super) before: Before,
}

impl Troubled {
    fn count(&self, kind: &RecordKind) {
        if kind.as_str() != "lease" {
            self.reads.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The lease as it is stored.
    pub(super) fn lease(&self) -> Record {
        self.inner.records().into_iter().find(|record| record.key.kind.as_str() == "lease").unwrap()
    }

    /// The epoch that the lease tells.
    pub(super) fn epoch(&self) -> u64 {
        let value: serde_json::Value = serde_json::from_slice(&self.lease().value).unwrap();
        value["value"]["epoch"].as_u64().unwrap()
    }

    async fn put_lease(&self, scope: &Scope, key: &Key, value: Bytes, expected: Expected) -> Result<Version> {
        let one_of = |left: &AtomicU64| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        };
        if one_of(&self.refused_renewals) {
            return Err(Error::unavailable("trouble").permanent());
        }
        let stored = self.inner.put(scope, key, value, expected).await;
        if one_of(&self.lost_renewals) {
            return Err(Error::unavailable("trouble").permanent());
        }
        tokio::time::sleep(Duration::from_millis(self.renewal_ms.load(Ordering::SeqCst))).await;
        stored
    }
}

#[async_trait]
impl Backend for Troubled {
    fn name(&self) -> &'static str {
        "troubled"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl StateStore for Troubled {
    async fn get(&self, scope: &Scope, key: &Key) -> Result<Option<Record>> {
        self.count(&key.kind);
        tokio::time::sleep(Duration::from_millis(self.latency_ms.load(Ordering::SeqCst))).await;
        if let Some(kind) = *self.unreadable.lock().unwrap() {
            return Err(Error::new(kind, "trouble").permanent());
        }
        self.inner.get(scope, key).await
    }
    async fn put(&self, scope: &Scope, key: &Key, value: Bytes, expected: Expected) -> Result<Version> {
        if key.kind.as_str() == "lease" {
            return self.put_lease(scope, key, value, expected).await;
        }
        self.before.happen(key.kind).await;
        if key.kind.as_str() == "app" && self.full.load(Ordering::SeqCst) {
            return Err(Error::unavailable("cannot write").with_source(std::io::Error::other("disk full")));
        }
        self.inner.put(scope, key, value, expected).await
    }
    async fn delete(&self, scope: &Scope, key: &Key, expected: Version) -> Result<()> {
        if key.kind.as_str() == "app" && self.fail_app_delete.swap(false, Ordering::SeqCst) {
            return Err(Error::unavailable("trouble").permanent());
        }
        self.inner.delete(scope, key, expected).await
    }
    async fn list(&self, scope: &Scope, kind: RecordKind, tenant: Option<TenantId>) -> Result<Vec<Record>> {
        self.count(&kind);
        let is_of_all = tenant.is_none();
        let listed = self.inner.list(scope, kind, tenant).await;
        if kind.as_str() == "app" && is_of_all && self.slow_apps.swap(false, Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        if kind.as_str() == "revision" && self.slow_gc.load(Ordering::SeqCst) {
            self.gc_waits.notify_one();
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
        listed
    }
    async fn watch(
        &self,
        scope: &Scope,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<BoxStream<'static, RecordChange>> {
        let late = Duration::from_millis(self.told_after_ms.load(Ordering::SeqCst));
        let changes = self.inner.watch(scope, kind, tenant).await?;
        Ok(changes
            .then(move |change| async move {
                tokio::time::sleep(late).await;
                change
            })
            .boxed())
    }
}

pub(super) struct Rig {
    pub(super) clock: Clock,
    pub(super) scheduler: MemoryScheduler,
    pub(super) router: MemoryRouter,
    pub(super) volumes: MemoryVolumeStore,
    pub(super) state: Arc<Troubled>,
}

impl Rig {
    pub(super) fn new() -> Self {
        let clock = Clock::runtime(Timestamp(1_000_000));
        Self {
            scheduler: MemoryScheduler::new(clock.clone()),
            router: MemoryRouter::new().with_clock(clock.clone()),
            volumes: MemoryVolumeStore::new(),
            state: Arc::new(Troubled::default()),
            clock,
        }
    }
    fn builder(&self) -> PlatformBuilder {
        compose(&self.clock)
            .scheduler(Arc::new(self.scheduler.clone()))
            .router(Arc::new(self.router.clone()))
            .volumes(Arc::new(self.volumes.clone()))
            .state(self.state.clone())
    }
    pub(super) async fn platform(&self, config: EngineConfig) -> Platform {
        self.builder().engine(config).build().await.unwrap()
    }
    /// A platform all of whose calls this one is told of, and who uses it.
    pub(super) async fn intercepted(&self, interceptor: impl Interceptor + 'static) -> (Platform, Principal) {
        let guard = Guard::default().interceptor(interceptor);
        let platform = self.builder().guard(guard).build().await.unwrap();
        let user = user_of(&platform).await;
        (platform, user)
    }
    pub(super) async fn world(&self, config: EngineConfig) -> World {
        let platform = self.platform(config).await;
        let user = user_of(&platform).await;
        World {
            platform,
            scheduler: self.scheduler.clone(),
            router: self.router.clone(),
            volumes: self.volumes.clone(),
            user,
        }
    }
}

/// Somebody of a tenant of it.
async fn user_of(platform: &Platform) -> Principal {
    let operator = Principal::operator("ops");
    let tenant = platform.ensure_tenant(&operator, TenantName::new("acme").unwrap()).await.unwrap();
    Principal::user("ann", tenant.id)
}

pub(super) fn follower() -> EngineConfig {
    EngineConfig { lead: false, ..EngineConfig::default() }
}

pub(super) fn named(name: &str) -> EngineConfig {
    EngineConfig { replica: name.into(), ..EngineConfig::default() }
}
