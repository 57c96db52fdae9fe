//! Records in a sorted map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::lock;
use crate::backend::Feed;
use crate::model::{Key, Record, RecordChange, RecordKind, Scope, TenantId, Version, limit};
use crate::port::{Expected, StateStore};
use crate::{Error, Result};

/// Keeps records in memory. Versions come from one counter, so none comes twice, whatever was deleted.
#[derive(Clone, Debug)]
pub struct MemoryStateStore {
    records: Arc<Mutex<Records>>,
}

#[derive(Debug)]
struct Records {
    map: BTreeMap<Key, Record>,
    version: u64,
    feed: Feed<RecordChange>,
}

impl Default for MemoryStateStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStateStore {
    /// An empty store whose watchers may be 1,024 changes behind.
    #[must_use]
    pub fn new() -> Self {
        Self::with_watch_capacity(1_024)
    }

    /// An empty store whose watchers are told `Reset` once they are more than `changes` behind.
    #[must_use]
    pub fn with_watch_capacity(changes: usize) -> Self {
        let records = Records { map: BTreeMap::new(), version: 0, feed: Feed::new(changes) };
        Self { records: Arc::new(Mutex::new(records)) }
    }

    /// Every record there is, by key.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        lock(&self.records).map.values().cloned().collect()
    }

    /// How many writes were done.
    #[must_use]
    pub fn writes(&self) -> u64 {
        lock(&self.records).version
    }
}

fn unexpected(key: &Key, found: Option<&Record>) -> Error {
    let found = found.map_or_else(|| "none".to_owned(), |record| record.version.0.to_string());
    Error::conflict("the record is not the one expected").with("key", key).with("found", found)
}

fn selects(kind: RecordKind, tenant: Option<&TenantId>, key: &Key) -> bool {
    key.kind == kind && (tenant.is_none() || key.tenant.as_ref() == tenant)
}

#[async_trait]
impl StateStore for MemoryStateStore {
    async fn get(&self, _: &Scope, key: &Key) -> Result<Option<Record>> {
        Ok(lock(&self.records).map.get(key).cloned())
    }

    async fn put(&self, _: &Scope, key: &Key, value: Bytes, expected: Expected) -> Result<Version> {
        if value.len() > limit::STATE_VALUE {
            return Err(Error::invalid("the value is too long")
                .with("key", key)
                .with("bytes", value.len())
                .with("longest", limit::STATE_VALUE));
        }
        let mut records = lock(&self.records);
        let found = records.map.get(key);
        let holds = match expected {
            Expected::Absent => found.is_none(),
            Expected::Version(version) => found.is_some_and(|record| record.version == version),
        };
        if !holds {
            return Err(unexpected(key, found));
        }
        records.version += 1;
        let record = Record { key: key.clone(), value, version: Version(records.version) };
        records.map.insert(key.clone(), record.clone());
        records.feed.send(RecordChange::Put(record));
        Ok(Version(records.version))
    }

    async fn delete(&self, _: &Scope, key: &Key, expected: Version) -> Result<()> {
        let mut records = lock(&self.records);
        match records.map.get(key) {
            None => return Ok(()),
            Some(record) if record.version == expected => {}
            found => return Err(unexpected(key, found)),
        }
        records.map.remove(key);
        records.version += 1;
        records.feed.send(RecordChange::Deleted(key.clone()));
        Ok(())
    }

    async fn list(&self, _: &Scope, kind: RecordKind, tenant: Option<TenantId>) -> Result<Vec<Record>> {
        let records = lock(&self.records);
        Ok(records.map.values().filter(|r| selects(kind, tenant.as_ref(), &r.key)).cloned().collect())
    }

    async fn watch(
        &self,
        _: &Scope,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<BoxStream<'static, RecordChange>> {
        let changes = lock(&self.records).feed.watch(|| RecordChange::Reset);
        let own = move |change: &RecordChange| {
            std::future::ready(match change {
                RecordChange::Put(record) => selects(kind, tenant.as_ref(), &record.key),
                RecordChange::Deleted(key) => selects(kind, tenant.as_ref(), key),
                RecordChange::Reset => true,
            })
        };
        Ok(changes.filter(own).boxed())
    }
}
