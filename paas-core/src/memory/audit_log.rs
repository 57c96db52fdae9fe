//! An audit log as a list.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::model::{AuditEntry, AuditId, AuditOutcome, AuditQuery, AuditRecord, Scope};
use crate::port::AuditLog;
use crate::{Error, Result};

/// Keeps entries in memory, in the order of their beginnings.
#[derive(Clone, Debug, Default)]
pub struct MemoryAuditLog {
    records: Arc<Mutex<Vec<AuditRecord>>>,
}

impl MemoryAuditLog {
    /// An empty log.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every entry, oldest first.
    #[must_use]
    pub fn records(&self) -> Vec<AuditRecord> {
        lock(&self.records).clone()
    }
}

#[async_trait]
impl AuditLog for MemoryAuditLog {
    async fn begin(&self, _: &Scope, entry: AuditEntry) -> Result<AuditId> {
        let mut records = lock(&self.records);
        // Sorts as it counts, up to ten thousand million million entries.
        let id = AuditId::new(format!("u-{:016}", records.len() + 1))?;
        records.push(AuditRecord::new(id.clone(), entry));
        Ok(id)
    }

    async fn end(&self, _: &Scope, id: &AuditId, outcome: AuditOutcome) -> Result<()> {
        let mut records = lock(&self.records);
        let record = records
            .iter_mut()
            .find(|record| record.id == *id)
            .ok_or_else(|| Error::not_found("no such entry").with("entry", id))?;
        record.outcome.get_or_insert(outcome);
        Ok(())
    }

    async fn search(&self, _: &Scope, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
        let records = lock(&self.records);
        let mut found: Vec<AuditRecord> =
            records.iter().filter(|record| query.matches(record)).cloned().collect();
        found.sort_by(|a, b| (b.entry.at, &b.id).cmp(&(a.entry.at, &a.id)));
        found.truncate(query.bounded_limit());
        Ok(found)
    }
}
