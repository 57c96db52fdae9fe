//! What is asked of the lines that there are, whoever keeps them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use paas_core::Result;
use paas_core::backend::{SpanCounts, ValueCounts};
use paas_core::model::{FieldName, LogBucket, LogCount, LogEvent, LogPage, LogQuery, TenantId};

use super::files::Files;
use super::search::Search;
use super::tenant::Tenant;
use crate::error::failed;

/// Answers queries with what tenants have. A search ends early where nobody waits for its answer any more.
pub(super) trait Ask {
    /// The tenant that a query is about, if it has any lines.
    fn asked(&self, tenant: &TenantId) -> Result<Option<Arc<Tenant>>>;

    fn files(&self) -> &Files;

    /// The folder of all tenants.
    fn root(&self) -> &Path;

    /// Whether there is anything to ask.
    fn check(&self) -> Result<()> {
        let listed = self.files().disk().names(self.root());
        listed.map(drop).map_err(|cause| failed("list tenants", self.root(), cause))
    }

    fn search(&self, query: &LogQuery, given_up: &AtomicBool) -> Result<LogPage> {
        let search = Search::new(query, given_up)?;
        let Some(tenant) = self.asked(query.tenant()?)? else { return Ok(LogPage::default()) };
        search.page(&tenant, self.files())
    }

    fn histogram(&self, query: &LogQuery, step: Duration, given_up: &AtomicBool) -> Result<Vec<LogBucket>> {
        let mut spans = SpanCounts::new(step)?;
        let query = of_all(query);
        let search = Search::new(&query, given_up)?;
        let Some(tenant) = self.asked(query.tenant()?)? else { return Ok(Vec::new()) };
        search.visit(&tenant, self.files(), |_, row| spans.add(row.time))?;
        spans.finish()
    }

    fn top(
        &self,
        query: &LogQuery,
        field: &FieldName,
        most: usize,
        given_up: &AtomicBool,
    ) -> Result<Vec<LogCount>> {
        let query = of_all(query);
        let search = Search::new(&query, given_up)?;
        let Some(tenant) = self.asked(query.tenant()?)? else { return Ok(Vec::new()) };
        let mut values = ValueCounts::default();
        search.visit(&tenant, self.files(), |lines, row| {
            if let Some(value) = lines.stored(row).field(field.as_str()) {
                values.add(&value);
            }
        })?;
        Ok(values.finish(most))
    }
}

/// A query, wherever a page of it would begin.
fn of_all(query: &LogQuery) -> LogQuery {
    let mut query = query.clone();
    query.after = None;
    query
}
