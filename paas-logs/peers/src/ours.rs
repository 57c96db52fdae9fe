//! The embedded store.

use std::path::{Path, PathBuf};
use std::time::Duration;

use paas_core::model::{LogBatch, LogFilter, LogQuery, Resource, Scope, Timestamp};
use paas_core::port::LogStore;
use paas_logs::{EmbeddedLogStore, LogStoreConfig};
use tokio::runtime::Runtime;

use crate::corpus::{FREQUENT, TENANTS, tenant};
use crate::store::{Question, Store};

/// A store that was just opened, and all that it takes to ask it.
#[derive(Debug)]
pub(crate) struct Ours {
    runtime: Runtime,
    store: EmbeddedLogStore,
    scope: Scope,
}

impl Ours {
    /// Stores lines, a sync for each batch.
    pub(crate) fn fill(folder: &Path, batches: &[LogBatch]) {
        let ours = Self::open(folder);
        for batch in batches {
            let stored = ours.store.append(&ours.scope, std::slice::from_ref(batch));
            ours.runtime.block_on(stored).unwrap();
        }
    }

    pub(crate) fn open(folder: &Path) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let store = runtime.block_on(EmbeddedLogStore::open(LogStoreConfig::new(folder))).unwrap();
        Self { runtime, store, scope: Scope::testing(Resource::Platform) }
    }

    /// Brings all lines to segments, and gives the folder of these: nothing is as old as what is forgotten.
    pub(crate) fn settle(&self, folder: &Path) -> PathBuf {
        for tenant in (0..TENANTS).map(tenant) {
            let settled = self.store.purge(&self.scope, &tenant, Some(Timestamp(0)));
            self.runtime.block_on(settled).unwrap();
        }
        folder.join("tenants")
    }
}

impl Store for Ours {
    fn answer(&mut self, question: &Question) -> usize {
        let all = LogQuery::of(Resource::Tenant(tenant(0)));
        let matching = |word: &str| all.clone().matching(word.parse::<LogFilter>().unwrap());
        let search = |query: &LogQuery| {
            self.runtime.block_on(self.store.search(&self.scope, query)).unwrap().entries.len()
        };
        match question {
            Question::Newest => search(&all),
            Question::Rare(word) => search(&matching(word)),
            Question::Count => {
                let (query, minute) = (matching(FREQUENT), Duration::from_secs(60));
                let spans = self.store.histogram(&self.scope, &query, minute);
                let spans = self.runtime.block_on(spans).unwrap();
                spans.iter().map(|span| span.count).sum::<u64>() as usize
            }
        }
    }
}
