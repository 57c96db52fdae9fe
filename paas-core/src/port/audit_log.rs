//! Remembers who did what.

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{AuditEntry, AuditId, AuditOutcome, AuditQuery, AuditRecord, Resource, Scope};

/// An append-only log: an entry is written before an action and closed after it.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait AuditLog: Backend {
    /// Opens an entry. `Ok` means that it survives a crash. Not idempotent.
    ///
    /// # Errors
    /// Only those of the transport; the action must not be done then.
    async fn begin(&self, scope: &Scope, entry: AuditEntry) -> Result<AuditId>;

    /// Closes an entry; the first outcome stays. Idempotent.
    ///
    /// # Errors
    /// `NotFound` where there is no such entry.
    async fn end(&self, scope: &Scope, id: &AuditId, outcome: AuditOutcome) -> Result<()>;

    /// Entries, newest first; those that were never closed included. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn search(&self, scope: &Scope, query: &AuditQuery) -> Result<Vec<AuditRecord>>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: AuditLog + ?Sized> AuditLog for Guarded<A> {
    async fn begin(&self, scope: &Scope, entry: AuditEntry) -> Result<AuditId> {
        let call = crate::guard::Call {
            action: entry.action,
            ..call!(self, scope, "audit_log", "begin", Read, entry.resource.clone())
        };
        self.guard.run(call, || self.inner.begin(scope, entry.clone())).await
    }

    async fn end(&self, scope: &Scope, id: &AuditId, outcome: AuditOutcome) -> Result<()> {
        // Whoever could open an entry may close it; the id is known to nobody else.
        let call = crate::guard::Call {
            action: scope.any_action(),
            ..call!(self, scope, "audit_log", "end", Read, scope.resource().clone(), idempotent)
        };
        self.guard.run(call, || self.inner.end(scope, id, outcome.clone())).await
    }

    async fn search(&self, scope: &Scope, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
        let resource = query.tenant.clone().map_or(Resource::Platform, Resource::Tenant);
        let call = call!(self, scope, "audit_log", "search", ReadAudit, resource, idempotent);
        self.guard.run(call, || self.inner.search(scope, query)).await
    }
}
