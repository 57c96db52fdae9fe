//! A log store that needs nothing but a folder.
//!
//! Lines are acknowledged once the journal has them on the disk. They wait in memory until they make a block, which is
//! written to the open segment of their tenant: compressed columns, and a filter of the words in it. Full segments are sealed,
//! and never change again. What is in segments is synced before the journal forgets it. `docs/log-store-format.md` tells
//! what stands in the files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use paas_core::Result;
use paas_core::model::{
    FieldName, LogBatch, LogBucket, LogCount, LogOrigin, LogPage, LogPosition, LogQuery, Resource, Scope,
    TenantId, Timestamp,
};
use paas_core::port::{Backend, LogStore};

use crate::disk::Native;
use crate::disk::read_only::ReadOnly;
use crate::folder::{blocking, take, take_shared};
use ask::Ask;
use inner::Inner;

pub use reader::LogStoreReader;
pub use report::{
    LogLoss, LogStoreFinding, LogStoreRepair, LogStoreRepaired, LogStoreReport, LogStoreSeverity,
};

mod ask;
mod block;
mod cache;
mod check;
mod files;
mod folder;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod inner;
mod journal;
mod keep;
mod lines;
mod pool;
mod reader;
mod repair;
mod report;
mod salvage;
mod sealing;
mod search;
mod segment;
mod tenant;
mod words;

#[cfg(test)]
mod tests;

/// How large things grow, in bytes.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    /// The text of a block: enough for zstd to find what repeats, and soon read for a single line.
    block: usize,
    /// The text of a segment that is sealed.
    segment: u64,
    /// A file of the journal, before what it has goes to segments.
    journal: u64,
}

impl Sizes {
    const STANDARD: Self = Self { block: 256 << 10, segment: 16 << 20, journal: 32 << 20 };
}

/// Between two looks for what is too old.
const PAUSE: Duration = Duration::from_secs(60);

/// Where an embedded log store keeps its lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogStoreConfig {
    /// A folder, which is made if it is not there. It belongs to the store alone, and to one process at a time.
    pub folder: PathBuf,
    /// How long lines are kept, counted from when they were written; at least that long, and up to a segment longer.
    pub age: Duration,
    /// How many bytes of files a tenant may have, besides those of its last lines: the oldest segments of who has more go.
    pub bytes: u64,
}

impl LogStoreConfig {
    /// A store in this folder, of the lines of thirty days, and of at most 10 GiB of files for each tenant.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), age: Duration::from_secs(30 * 24 * 60 * 60), bytes: 10 << 30 }
    }
}

/// A log store in a folder. Cloning shares it.
#[derive(Clone, Debug)]
pub struct EmbeddedLogStore(Arc<Inner>);

impl EmbeddedLogStore {
    /// Opens the store of a folder, or makes one.
    ///
    /// # Errors
    /// `Unavailable` where another process has it, or the disk cannot be read or written; `Internal` where a file is damaged.
    pub async fn open(config: LogStoreConfig) -> Result<Self> {
        let open = move || {
            let folder = &config.folder;
            let lock = take(folder)?;
            let inner = Inner::open(Arc::new(Native), folder, Sizes::STANDARD, Some(lock))?;
            Ok((Arc::new(inner), config))
        };
        let (inner, config) = blocking(open).await?;
        tokio::spawn(keep_up(Arc::downgrade(&inner), config));
        Ok(Self(inner))
    }

    /// Looks at the lines of a folder, and changes nothing in it: also where another process has the store open.
    ///
    /// ```
    /// # use paas_core::model::{LogQuery, Resource, Scope, TenantId};
    /// # use paas_core::port::LogStore;
    /// # use paas_logs::{EmbeddedLogStore, LogStoreConfig};
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
    /// # let (folder, scope) = (tempfile::tempdir()?, Scope::testing(Resource::Platform));
    /// # let folder = folder.path();
    /// let writes = EmbeddedLogStore::open(LogStoreConfig::new(folder)).await?;
    /// let reads = EmbeddedLogStore::open_read_only(folder).await?;
    /// let query = LogQuery::of(Resource::Tenant(TenantId::new("t-1")?));
    /// assert!(reads.search(&scope, &query).await?.entries.is_empty());
    /// # drop(writes);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `NotFound` where there is no store; `Denied` where its files may not be read.
    pub async fn open_read_only(folder: impl Into<PathBuf>) -> Result<LogStoreReader> {
        LogStoreReader::open(Arc::new(Native), folder.into()).await
    }

    /// Reads every byte of a store that nobody has open, and tells what is not as it should be. Changes nothing.
    ///
    /// It takes as much memory as a file of the journal or a segment, and what is known of the origins of one tenant.
    ///
    /// ```
    /// # use paas_logs::{EmbeddedLogStore, LogStoreConfig};
    /// # tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
    /// # let folder = tempfile::tempdir()?;
    /// # let folder = folder.path();
    /// # drop(EmbeddedLogStore::open(LogStoreConfig::new(folder)).await?);
    /// let report = EmbeddedLogStore::verify(folder).await?;
    /// println!("{report}");
    /// if !report.is_sound() {
    ///     println!("{}", EmbeddedLogStore::repair(folder).await?);
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Unavailable` where a process has the store open, or its files cannot be read; `NotFound` where there is none.
    pub async fn verify(folder: impl Into<PathBuf>) -> Result<LogStoreReport> {
        let folder = folder.into();
        blocking(move || {
            let _lock = take_shared(&folder)?;
            check::store(&ReadOnly(Arc::new(Native)), &folder)
        })
        .await
    }

    /// Makes a damaged store one that opens again, and loses as little as can be: what is whole in damaged files is written
    /// anew. The files themselves are put into the folder `damaged` of the store; nothing is deleted. Where nothing is damaged
    /// nothing is done. What a crash interrupts is done by the next repair.
    ///
    /// # Errors
    /// `Unavailable` where a process has the store open, or the disk cannot be read or written; `NotFound` where there is none.
    pub async fn repair(folder: impl Into<PathBuf>) -> Result<LogStoreRepair> {
        let folder = folder.into();
        blocking(move || {
            let _lock = take(&folder)?;
            repair::store(&Native, &folder, Sizes::STANDARD)
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &AtomicBool) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        run(&self.0, work).await
    }
}

/// Works on a store in a thread that may wait. Where nobody waits for the answer any more, searches end early.
async fn run<S: Send + Sync + 'static, T: Send + 'static>(
    store: &Arc<S>,
    work: impl FnOnce(&S, &AtomicBool) -> Result<T> + Send + 'static,
) -> Result<T> {
    /// Tells when it goes.
    struct Waiting(Arc<AtomicBool>);
    impl Drop for Waiting {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let waiting = Waiting(Arc::default());
    let (store, given_up) = (Arc::clone(store), Arc::clone(&waiting.0));
    blocking(move || work(&store, &given_up)).await
}

/// Writes what opening has left in memory, and then forgets what is too old or too much, for as long as somebody has the store.
async fn keep_up(store: Weak<Inner>, config: LogStoreConfig) {
    if let Some(inner) = store.upgrade()
        && let Err(error) = blocking(move || inner.unburden()).await
    {
        tracing::warn!(?error, "lines wait in memory");
    }
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(inner) = store.upgrade() else { return };
        let (age, bytes) = (config.age, config.bytes);
        if let Err(error) = blocking(move || inner.retain(age, bytes)).await {
            tracing::warn!(?error, "old lines stay in the log store");
        }
    }
}

#[async_trait]
impl Backend for EmbeddedLogStore {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn check(&self) -> Result<()> {
        self.run(|store, _| Ask::check(store)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LogStore for EmbeddedLogStore {
    async fn append(&self, _: &Scope, batches: &[LogBatch]) -> Result<()> {
        let batches = batches.to_vec();
        self.run(move |store, _| store.append(&batches)).await
    }

    async fn ends(&self, _: &Scope, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        Ok(self.0.ends(resource))
    }

    async fn search(&self, _: &Scope, query: &LogQuery) -> Result<LogPage> {
        let query = query.clone();
        self.run(move |store, given_up| store.search(&query, given_up)).await
    }

    async fn histogram(&self, _: &Scope, query: &LogQuery, step: Duration) -> Result<Vec<LogBucket>> {
        let query = query.clone();
        self.run(move |store, given_up| store.histogram(&query, step, given_up)).await
    }

    async fn top(
        &self,
        _: &Scope,
        query: &LogQuery,
        field: &FieldName,
        most: usize,
    ) -> Result<Vec<LogCount>> {
        let (query, field) = (query.clone(), field.clone());
        self.run(move |store, given_up| store.top(&query, &field, most, given_up)).await
    }

    async fn purge(&self, _: &Scope, tenant: &TenantId, before: Option<Timestamp>) -> Result<()> {
        let tenant = tenant.clone();
        self.run(move |store, _| store.purge(&tenant, before)).await
    }
}
