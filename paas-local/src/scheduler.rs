//! Runs workloads as processes of this machine, held by the keeper.
//!
//! The keeper starts processes again and holds them while the platform is away; this side decides which there should
//! be, asks whether they are ready, and tells how they fare. What it must know of an instance after its own crash is
//! kept with the process, so that it finds everything by asking the keeper.

mod exec;
mod instance;
mod launch;
mod log_origin;
mod pool;
mod port;
mod probe;
mod reap;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use paas_core::backend::HintFeed;
use paas_core::model::{Clock, Digest, IdSource, Scope, Workload, WorkloadKey, WorkloadStatus};
use paas_core::port::{Backend, Hints, Scheduler, SchedulerCapabilities, SecretStore, Selector};
use paas_core::{Error, ErrorKind, Result};
use tokio::task::AbortHandle;

use crate::keeper::Keeper;
use crate::volume::DirectoryVolumeStore;
use launch::Launch;
pub(crate) use log_origin::Origins;
use paas_core::backend::Fence;
use pool::Pool;

/// How long instances that were found after a restart may take to answer their first readiness check.
const ADOPTION: Duration = Duration::from_secs(2);

/// A scheduler for programs of this host (`run`).
#[derive(Debug, Clone)]
pub struct LocalScheduler {
    inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    keeper: Keeper,
    secrets: Arc<dyn SecretStore>,
    volumes: Arc<DirectoryVolumeStore>,
    /// Working directories of instances.
    work: PathBuf,
    clock: Clock,
    ids: IdSource,
    fence: Fence,
    pool: std::sync::Mutex<Pool>,
    ports: port::Ports,
    feed: HintFeed,
    listening: std::sync::Mutex<Option<AbortHandle>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(task) = self.listening.get_mut().ok().and_then(Option::take) {
            task.abort();
        }
    }
}

impl LocalScheduler {
    /// Finds what the keeper holds and goes on with it.
    ///
    /// # Errors
    /// `Unavailable` without a keeper, or where the folder for working directories cannot be made.
    pub async fn open(
        keeper: Keeper,
        secrets: Arc<dyn SecretStore>,
        volumes: Arc<DirectoryVolumeStore>,
        work: PathBuf,
        clock: Clock,
    ) -> Result<Self> {
        tokio::fs::create_dir_all(&work).await.map_err(|cause| {
            Error::unavailable("cannot make the folder for working directories")
                .with("path", work.display())
                .with_source(cause)
        })?;
        let inner = Arc::new(Inner {
            keeper,
            secrets,
            volumes,
            work,
            ids: IdSource::random(clock.clone()),
            clock,
            fence: Fence::default(),
            pool: std::sync::Mutex::default(),
            ports: port::Ports::default(),
            feed: HintFeed::new(4_096),
            listening: std::sync::Mutex::new(None),
        });
        let events = inner.keeper.events();
        Inner::adopt(&inner).await?;
        let listening = tokio::spawn(reap::listen(Arc::downgrade(&inner), events));
        if let Ok(mut slot) = inner.listening.lock() {
            *slot = Some(listening.abort_handle());
        }
        let _ = tokio::time::timeout(ADOPTION, Inner::adopted(&inner)).await;
        Ok(Self { inner })
    }

    /// Tells which instance's output is whose.
    pub(crate) fn origins(&self) -> Origins {
        Origins::new(&self.inner)
    }
}

#[async_trait]
impl Backend for LocalScheduler {
    fn name(&self) -> &'static str {
        "local"
    }

    async fn check(&self) -> Result<()> {
        self.inner.keeper.list().await.map(drop)
    }
}

#[async_trait]
impl Scheduler for LocalScheduler {
    fn capabilities(&self) -> SchedulerCapabilities {
        let mut capabilities = SchedulerCapabilities::new(&["run"]);
        capabilities.volumes = true;
        capabilities.fenced = true;
        capabilities
    }

    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        self.inner.fence.admit(scope)?;
        let launch = Launch::resolve(&self.inner, scope, workload).await?;
        // Secrets were read in between: somebody else may lead by now.
        self.inner.fence.admit(scope)?;
        Inner::apply(&self.inner, workload, launch);
        Ok(workload.digest())
    }

    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        self.inner.fence.see(scope);
        Ok(self.inner.pool().list(&selector.resource()))
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.inner.fence.see(scope);
        Ok(self.inner.feed.hints(scope))
    }

    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        self.inner.fence.admit(scope)?;
        Inner::remove(&self.inner, key);
        Ok(())
    }
}

/// Refuses a workload that no process can be.
pub(super) fn unsupported(workload: &Workload) -> Error {
    let words: Vec<&str> = workload.template.sources.iter().map(paas_core::model::Source::word).collect();
    Error::new(ErrorKind::Unsupported, "this machine runs programs only (`run`)")
        .with("service", &workload.labels.service)
        .with("sources", words.join(", "))
}

impl Inner {
    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Tells whoever watches that something of a workload changed.
    fn tell(&self, key: &WorkloadKey) {
        self.feed.tell(key.resource(), &key.app);
    }

    fn tell_all(&self) {
        self.feed.reset();
    }
}
