//! The platform's records, in redb.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use paas_core::model::{Epoch, Key, Record, RecordChange, RecordKind, Scope, TenantId, Version, limit};
use paas_core::port::{Backend, Expected, StateStore};
use paas_core::{Error, Result};

use crate::DataDir;
use crate::batch::{Answer, Batcher};
use crate::database::Database;
use crate::file;
use paas_core::backend::Fence;
use watch::Watchers;

mod table;
#[cfg(test)]
mod tests;
mod watch;

/// Keeps records in one redb file: `state.redb` in the data directory.
///
/// Writes that wait at the same time share one commit and one sync; each is decided by itself, in the order of
/// arrival. Reads see the newest commit and wait for nobody. A disk that is full costs the writes that met it and
/// nothing else.
#[derive(Debug)]
pub struct RedbStateStore {
    // Dropped first: its thread finishes what was handed in.
    writer: Batcher<Write>,
    database: Arc<Database>,
    watchers: Arc<Watchers>,
    fence: Arc<Fence>,
    _data: Arc<DataDir>,
}

#[derive(Debug)]
struct Write {
    key: Key,
    epoch: Option<Epoch>,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Put(Bytes, Expected, Answer<Version>),
    Delete(Version, Answer<()>),
}

impl RedbStateStore {
    /// Opens the database, made where it is missing, and checks all of it.
    ///
    /// # Errors
    /// `Internal` where the file is damaged, `Unavailable` where it is open already or the disk fails.
    pub async fn open(data: &Arc<DataDir>) -> Result<Self> {
        let data = Arc::clone(data);
        file::blocking(move || {
            let database = Arc::new(Database::open(&data.state())?);
            let (watchers, fence) = (Arc::new(Watchers::default()), Arc::new(Fence::default()));
            let version = table::prepare(&database)?;
            let mut committer = table::Committer::new(&database, &watchers, &fence, version);
            let writer = Batcher::start("paas-state", move |batch| committer.commit(batch))?;
            Ok(Self { writer, database, watchers, fence, _data: data })
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let database = Arc::clone(&self.database);
        file::blocking(move || work(&database)).await
    }
}

impl Drop for RedbStateStore {
    fn drop(&mut self) {
        self.watchers.close();
    }
}

#[async_trait]
impl Backend for RedbStateStore {
    fn name(&self) -> &'static str {
        "redb"
    }

    async fn check(&self) -> Result<()> {
        if !self.writer.alive() {
            return Err(Error::unavailable("the thread of the store has stopped: open the store again"));
        }
        self.read(|database| table::version(database).map(drop)).await
    }
}

#[async_trait]
impl StateStore for RedbStateStore {
    async fn get(&self, scope: &Scope, key: &Key) -> Result<Option<Record>> {
        self.fence.see(scope);
        let key = key.clone();
        self.read(move |database| table::get(database, &key)).await
    }

    async fn put(&self, scope: &Scope, key: &Key, value: Bytes, expected: Expected) -> Result<Version> {
        self.fence.admit(scope)?;
        if value.len() > limit::STATE_VALUE {
            return Err(Error::invalid("the value is too long")
                .with("key", key)
                .with("bytes", value.len())
                .with("longest", limit::STATE_VALUE));
        }
        let (key, epoch) = (key.clone(), scope.epoch());
        self.writer.run(|answer| Write { key, epoch, change: Change::Put(value, expected, answer) }).await
    }

    async fn delete(&self, scope: &Scope, key: &Key, expected: Version) -> Result<()> {
        self.fence.admit(scope)?;
        let (key, epoch) = (key.clone(), scope.epoch());
        self.writer.run(|answer| Write { key, epoch, change: Change::Delete(expected, answer) }).await
    }

    async fn list(&self, scope: &Scope, kind: RecordKind, tenant: Option<TenantId>) -> Result<Vec<Record>> {
        self.fence.see(scope);
        self.read(move |database| table::list(database, kind, tenant.as_ref())).await
    }

    async fn watch(
        &self,
        scope: &Scope,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<BoxStream<'static, RecordChange>> {
        self.fence.see(scope);
        Ok(self.watchers.watch(kind, tenant))
    }
}
