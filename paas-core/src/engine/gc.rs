//! Removes records that nothing refers to, an hour after they were first seen so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::record::AppRecord;
use super::store::{DOMAIN, OPERATION, REVISION, Store, domain_key, revision_key};
use crate::Result;
use crate::model::{Key, RecordKind};

/// How long a record must have been unreferenced: a deploy writes its revision and its claims of domains first, and the
/// reference after them.
const REST: Duration = Duration::from_secs(3_600);
/// How often to look.
const EVERY: Duration = Duration::from_secs(600);
/// Archived operations kept for each tenant; ids sort by time, so the oldest go first.
const OPERATIONS: usize = 1_000;

/// Remembers since when records have been unreferenced.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    last: Option<Instant>,
    unreferenced: BTreeMap<Key, Instant>,
}

impl Collector {
    /// Looks, if it is time.
    pub(crate) async fn collect(&mut self, store: &Store, apps: &[AppRecord]) -> Result<()> {
        let now = Instant::now();
        if self.last.is_some_and(|last| now < last + EVERY) {
            return Ok(());
        }
        self.last = Some(now);
        let mut referenced = BTreeSet::new();
        for app in apps {
            for known in &app.revisions {
                referenced.insert(revision_key(&app.tenant, &app.id, &known.digest)?);
                let revision = store.revision(&app.tenant, &app.id, &known.digest).await?;
                for domain in revision.spec.services.values().flat_map(|service| &service.domain) {
                    referenced.insert(domain_key(domain)?);
                }
            }
        }
        self.remove_unreferenced(store, &referenced, now).await?;
        operations(store).await
    }

    async fn remove_unreferenced(
        &mut self,
        store: &Store,
        referenced: &BTreeSet<Key>,
        now: Instant,
    ) -> Result<()> {
        let records = [keys(store, REVISION).await?, keys(store, DOMAIN).await?].concat();
        let garbage: BTreeSet<Key> = records.into_iter().filter(|key| !referenced.contains(key)).collect();
        self.unreferenced.retain(|key, _| garbage.contains(key));
        for key in garbage {
            let since = *self.unreferenced.entry(key.clone()).or_insert(now);
            if now >= since + REST {
                store.delete(&key).await?;
                self.unreferenced.remove(&key);
            }
        }
        Ok(())
    }
}

async fn keys(store: &Store, kind: RecordKind) -> Result<Vec<Key>> {
    Ok(store.state.list(&store.scope, kind, None).await?.into_iter().map(|record| record.key).collect())
}

async fn operations(store: &Store) -> Result<()> {
    let mut tenants: BTreeMap<_, Vec<Key>> = BTreeMap::new();
    for key in keys(store, OPERATION).await? {
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
