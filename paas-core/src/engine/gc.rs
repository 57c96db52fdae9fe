//! Removes records that nothing refers to, an hour after they were first seen so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::record::AppRecord;
use super::store::{APP, DOMAIN, OPERATION, REVISION, Store, Versioned, domain_key, revision_key};
use crate::Result;
use crate::model::{Key, RecordKind, Version};

/// How long a record must have been unreferenced: a deploy writes its revision and its claims of domains first, and the
/// reference after them.
const REST: Duration = Duration::from_secs(3_600);
/// How often to look.
const EVERY: Duration = Duration::from_secs(600);
/// Archived operations kept for each tenant; ids sort by time, so the oldest go first.
const OPERATIONS: usize = 1_000;

/// Remembers since when records have been unreferenced, and at which version: who refers to one again writes it first.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    last: Option<Instant>,
    unreferenced: BTreeMap<Key, (Version, Instant)>,
}

impl Collector {
    /// Whether it is time to look.
    pub(crate) fn is_due(&self) -> bool {
        self.last.is_none_or(|last| Instant::now() >= last + EVERY)
    }

    /// Looks once. What goes wrong is told, and tried again the next time.
    pub(crate) async fn collect(mut self, store: Store) -> Self {
        self.last = Some(Instant::now());
        if let Err(error) = self.look(&store).await {
            tracing::warn!(?error, "cannot look for records that nothing refers to");
        }
        self
    }

    async fn look(&mut self, store: &Store) -> Result<()> {
        // What is garbage is listed before what refers to it, so that a reference made in between counts.
        let records = [records(store, REVISION).await?, records(store, DOMAIN).await?].concat();
        let (apps, broken) = store.list_readable::<AppRecord>(APP).await?;
        if broken == 0 {
            let mut referenced = BTreeSet::new();
            for Versioned { value: app, .. } in &apps {
                for known in &app.revisions {
                    referenced.insert(revision_key(&app.tenant, &app.id, &known.digest)?);
                    for domain in &known.domains {
                        referenced.insert(domain_key(domain)?);
                    }
                }
            }
            self.remove_unreferenced(store, records, &referenced).await?;
        }
        operations(store).await
    }

    async fn remove_unreferenced(
        &mut self,
        store: &Store,
        records: Vec<(Key, Version)>,
        referenced: &BTreeSet<Key>,
    ) -> Result<()> {
        let now = Instant::now();
        let garbage: BTreeMap<Key, Version> =
            records.into_iter().filter(|(key, _)| !referenced.contains(key)).collect();
        self.unreferenced.retain(|key, (version, _)| garbage.get(key) == Some(version));
        for (key, version) in garbage {
            let (_, since) = *self.unreferenced.entry(key.clone()).or_insert((version, now));
            if now >= since + REST {
                store.delete_unchanged(&key, version).await?;
                self.unreferenced.remove(&key);
            }
        }
        Ok(())
    }
}

async fn records(store: &Store, kind: RecordKind) -> Result<Vec<(Key, Version)>> {
    let listed = store.state.list(&store.scope, kind, None).await?;
    Ok(listed.into_iter().map(|record| (record.key, record.version)).collect())
}

async fn operations(store: &Store) -> Result<()> {
    let mut tenants: BTreeMap<_, Vec<Key>> = BTreeMap::new();
    for (key, _) in records(store, OPERATION).await? {
        tenants.entry(key.tenant.clone()).or_default().push(key);
    }
    for mut of_tenant in tenants.into_values() {
        of_tenant.sort();
        let excess = of_tenant.len().saturating_sub(OPERATIONS);
        for key in of_tenant.into_iter().take(excess) {
            store.delete(&key).await?;
        }
    }
    Ok(())
}
