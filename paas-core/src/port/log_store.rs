//! Keeps log lines to be searched.

use std::time::Duration;

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{
    FieldName, LogBatch, LogBucket, LogCount, LogOrigin, LogPage, LogPosition, LogQuery, Resource, Scope,
    TenantId, Timestamp,
};

/// Keeps lines, and finds them again: those of the tenant that is asked about, and of no other.
///
/// Unstable until two unlike backends pass its suite.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LogStore: Backend {
    /// Stores lines. `Ok` means that all of them survive a crash and are found by whoever asks from now on. Idempotent: a
    /// line whose origin is stored up to or past its position is not stored again, so the batches of an origin come in its
    /// order.
    ///
    /// # Errors
    /// Where it fails, some of the batches may be stored: send all of them again.
    async fn append(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()>;

    /// Up to where each origin of a resource is stored: whoever collects goes on there. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn ends(&self, scope: &Scope, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>>;

    /// Lines in the order that is asked for, a page at a time. Idempotent.
    ///
    /// # Errors
    /// `Invalid` where the query is not of one tenant, or cannot be answered.
    async fn search(&self, scope: &Scope, query: &LogQuery) -> Result<LogPage>;

    /// How many lines match in each span of time that has any, in the order of time; the query's order, limit and place do
    /// not count. Idempotent.
    ///
    /// # Errors
    /// As for [`LogStore::search`]; `Invalid` where the step is no whole number of milliseconds of at least one, or gives
    /// more than 10,000 spans.
    async fn histogram(&self, scope: &Scope, query: &LogQuery, step: Duration) -> Result<Vec<LogBucket>>;

    /// The values of a field that most of the matching lines have, the most frequent first and then by the value; at most
    /// 1,000. The query's order, limit and place do not count. Idempotent.
    ///
    /// # Errors
    /// As for [`LogStore::search`].
    async fn top(
        &self,
        scope: &Scope,
        query: &LogQuery,
        field: &FieldName,
        most: usize,
    ) -> Result<Vec<LogCount>>;

    /// Forgets a tenant's lines from before this time; nothing is found of them any more, and their room is free in the end.
    /// With no time, forgets the tenant, and where its origins ended. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn purge(&self, scope: &Scope, tenant: &TenantId, before: Option<Timestamp>) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: LogStore + ?Sized> LogStore for Guarded<L> {
    async fn append(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()> {
        let call = call!(self, scope, "log_store", "append", Administer, super::owner(batches), idempotent);
        self.guard.run(call, || self.inner.append(scope, batches)).await
    }

    async fn ends(&self, scope: &Scope, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        let call = call!(self, scope, "log_store", "ends", ReadLogs, resource.clone(), idempotent);
        self.guard.run(call, || self.inner.ends(scope, resource)).await
    }

    async fn search(&self, scope: &Scope, query: &LogQuery) -> Result<LogPage> {
        let call = call!(self, scope, "log_store", "search", ReadLogs, query.resource.clone(), idempotent);
        self.guard.run(call, || self.inner.search(scope, query)).await
    }

    async fn histogram(&self, scope: &Scope, query: &LogQuery, step: Duration) -> Result<Vec<LogBucket>> {
        let call = call!(self, scope, "log_store", "histogram", ReadLogs, query.resource.clone(), idempotent);
        self.guard.run(call, || self.inner.histogram(scope, query, step)).await
    }

    async fn top(
        &self,
        scope: &Scope,
        query: &LogQuery,
        field: &FieldName,
        most: usize,
    ) -> Result<Vec<LogCount>> {
        let call = call!(self, scope, "log_store", "top", ReadLogs, query.resource.clone(), idempotent);
        self.guard.run(call, || self.inner.top(scope, query, field, most)).await
    }

    async fn purge(&self, scope: &Scope, tenant: &TenantId, before: Option<Timestamp>) -> Result<()> {
        let resource = Resource::Tenant(tenant.clone());
        let call = call!(self, scope, "log_store", "purge", Administer, resource, idempotent);
        self.guard.run(call, || self.inner.purge(scope, tenant, before)).await
    }
}
