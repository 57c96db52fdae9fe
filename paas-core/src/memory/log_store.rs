//! Stored lines in a map by their places.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::lock;
use crate::Result;
use crate::backend::{SpanCounts, ValueCounts};
use crate::model::{
    FieldName, LogBatch, LogBucket, LogCount, LogEntry, LogEvent, LogKey, LogMatcher, LogOrder, LogOrigin,
    LogPage, LogPosition, LogQuery, Resource, Scope, TenantId, Timestamp,
};
use crate::port::LogStore;

/// Keeps lines in memory, as many as there is room for: the oldest of a tenant go first.
#[derive(Clone, Debug)]
pub struct MemoryLogStore {
    tenants: Arc<Mutex<BTreeMap<TenantId, Lines>>>,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Lines {
    entries: BTreeMap<LogKey, LogEntry>,
    bytes: usize,
    ends: BTreeMap<LogOrigin, LogPosition>,
}

impl Default for MemoryLogStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLogStore {
    /// Keeps 64 MiB of each tenant.
    #[must_use]
    pub fn new() -> Self {
        Self::with_capacity(64 * 1024 * 1024)
    }

    /// Keeps so many bytes of each tenant, not counting what stands around lines.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self { tenants: Arc::default(), capacity }
    }

    /// Calls `each` with every line that matches, in the order of time.
    fn visit(&self, query: &LogQuery, mut each: impl FnMut(&LogEntry)) -> Result<()> {
        let matcher = query.filter.matcher()?;
        let tenants = lock(&self.tenants);
        let Some(lines) = tenants.get(query.tenant()?) else { return Ok(()) };
        let query = LogQuery { after: None, ..query.clone() };
        lines.entries.values().filter(|entry| is_wanted(&query, &matcher, entry)).for_each(&mut each);
        Ok(())
    }
}

/// How many bytes of the room a line takes.
fn weight(entry: &LogEntry) -> usize {
    entry.line.len() + entry.fields.len()
}

fn is_wanted(query: &LogQuery, matcher: &LogMatcher, entry: &LogEntry) -> bool {
    query.covers(&entry.origin) && query.reaches(&entry.key()) && matcher.matches(entry)
}

impl Lines {
    fn append(&mut self, batch: &LogBatch, capacity: usize) {
        let origin = Arc::new(batch.origin.clone());
        let known = self.ends.get(&batch.origin).copied();
        for line in batch.lines().filter(|line| known.is_none_or(|end| line.position >= end)) {
            let text = Bytes::copy_from_slice(line.bytes);
            let entry = LogEntry::new(Arc::clone(&origin), line.position, line.time, line.level, text);
            let entry = entry.with_fields(line.fields);
            self.bytes += weight(&entry);
            self.entries.insert(entry.key(), entry);
        }
        self.ends.insert(batch.origin.clone(), known.map_or(batch.end(), |end| end.max(batch.end())));
        while self.bytes > capacity
            && let Some((_, oldest)) = self.entries.pop_first()
        {
            self.bytes -= weight(&oldest);
        }
    }

    fn forget_before(&mut self, time: Timestamp) {
        while let Some(oldest) = self.entries.first_entry().filter(|oldest| oldest.key().time < time) {
            self.bytes -= weight(&oldest.remove());
        }
    }

    fn page(&self, query: &LogQuery, matcher: &LogMatcher) -> LogPage {
        let after = query.after.as_ref();
        let wanted = |entry: &&LogEntry| is_wanted(query, matcher, entry);
        let limit = query.bounded_limit();
        let mut entries: Vec<LogEntry> = match query.order {
            LogOrder::Newest => {
                let range = (Bound::Unbounded, after.map_or(Bound::Unbounded, Bound::Excluded));
                let found = self.entries.range::<LogKey, _>(range).rev().map(|(_, entry)| entry);
                found.filter(wanted).take(limit + 1).cloned().collect()
            }
            LogOrder::Oldest => {
                let range = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
                let found = self.entries.range::<LogKey, _>(range).map(|(_, entry)| entry);
                found.filter(wanted).take(limit + 1).cloned().collect()
            }
        };
        let is_more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| is_more).map(LogEntry::key);
        LogPage::new(entries, next)
    }
}

#[async_trait]
impl LogStore for MemoryLogStore {
    async fn append(&self, _: &Scope, batches: &[LogBatch]) -> Result<()> {
        let mut tenants = lock(&self.tenants);
        for batch in batches {
            tenants.entry(batch.origin.tenant.clone()).or_default().append(batch, self.capacity);
        }
        Ok(())
    }

    async fn ends(&self, _: &Scope, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        let tenants = lock(&self.tenants);
        let all = tenants.values().flat_map(|lines| &lines.ends);
        let own = all.filter(|(origin, _)| resource.contains(&origin.resource()));
        Ok(own.map(|(origin, end)| (origin.clone(), *end)).collect())
    }

    async fn search(&self, _: &Scope, query: &LogQuery) -> Result<LogPage> {
        let matcher = query.filter.matcher()?;
        let tenants = lock(&self.tenants);
        let lines = tenants.get(query.tenant()?);
        Ok(lines.map(|lines| lines.page(query, &matcher)).unwrap_or_default())
    }

    async fn histogram(&self, _: &Scope, query: &LogQuery, step: Duration) -> Result<Vec<LogBucket>> {
        let mut spans = SpanCounts::new(step)?;
        self.visit(query, |entry| spans.add(entry.time))?;
        spans.finish()
    }

    async fn top(
        &self,
        _: &Scope,
        query: &LogQuery,
        field: &FieldName,
        most: usize,
    ) -> Result<Vec<LogCount>> {
        let mut values = ValueCounts::default();
        self.visit(query, |entry| {
            if let Some(value) = entry.field(field.as_str()) {
                values.add(&value);
            }
        })?;
        Ok(values.finish(most))
    }

    async fn purge(&self, _: &Scope, tenant: &TenantId, before: Option<Timestamp>) -> Result<()> {
        let mut tenants = lock(&self.tenants);
        match before {
            None => drop(tenants.remove(tenant)),
            Some(time) => tenants.get_mut(tenant).into_iter().for_each(|lines| lines.forget_before(time)),
        }
        Ok(())
    }
}
