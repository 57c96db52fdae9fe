//! Keeps the platform's records.

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::Backend;
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{Key, Record, RecordChange, RecordKind, Resource, Scope, TenantId, Version};

/// What must be true of a record for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// There is none.
    Absent,
    /// It has this version.
    Version(Version),
}

/// Keeps the current state of records, never their history. Compare-and-swap of one key is all that is assumed.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait StateStore: Backend {
    /// A record, or `None`. After a `put` was acknowledged, every `get` gives that value or a later one. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn get(&self, scope: &Scope, key: &Key) -> Result<Option<Record>>;

    /// Writes a record. `Ok` means that it survives a crash. Not idempotent: the second of two equal calls conflicts.
    ///
    /// # Errors
    /// `Conflict` where the expectation does not hold; nothing is written then. `Invalid` where the value is longer
    /// than [`limit::STATE_VALUE`](crate::model::limit::STATE_VALUE).
    async fn put(&self, scope: &Scope, key: &Key, value: bytes::Bytes, expected: Expected)
    -> Result<Version>;

    /// Deletes a record of this version. `Ok` means that it stays deleted after a crash. A record that is missing is
    /// `Ok`, so that a repeated delete is.
    ///
    /// # Errors
    /// `Conflict` where it has another version.
    async fn delete(&self, scope: &Scope, key: &Key, expected: Version) -> Result<()>;

    /// All records of a kind, of one tenant or (`None`) of everybody, in the order of their keys. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn list(&self, scope: &Scope, kind: RecordKind, tenant: Option<TenantId>) -> Result<Vec<Record>>;

    /// Changes of records of a kind from the moment of the call on, each key's in order; a slow reader is told
    /// `Reset` instead of what it missed.
    ///
    /// # Errors
    /// `Unavailable` where nothing can be watched now.
    async fn watch(
        &self,
        scope: &Scope,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<BoxStream<'static, RecordChange>>;
}

fn resource(tenant: Option<&TenantId>) -> Resource {
    tenant.cloned().map_or(Resource::Platform, Resource::Tenant)
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: StateStore + ?Sized> StateStore for Guarded<S> {
    async fn get(&self, scope: &Scope, key: &Key) -> Result<Option<Record>> {
        let call = call!(self, scope, "state_store", "get", Read, key.resource(), idempotent);
        self.guard.run(call, || self.inner.get(scope, key)).await
    }

    async fn put(
        &self,
        scope: &Scope,
        key: &Key,
        value: bytes::Bytes,
        expected: Expected,
    ) -> Result<Version> {
        let call = call!(self, scope, "state_store", "put", Administer, key.resource());
        self.guard.run(call, || self.inner.put(scope, key, value.clone(), expected)).await
    }

    async fn delete(&self, scope: &Scope, key: &Key, expected: Version) -> Result<()> {
        let call = call!(self, scope, "state_store", "delete", Administer, key.resource(), idempotent);
        self.guard.run(call, || self.inner.delete(scope, key, expected)).await
    }

    async fn list(&self, scope: &Scope, kind: RecordKind, tenant: Option<TenantId>) -> Result<Vec<Record>> {
        let call = call!(self, scope, "state_store", "list", Read, resource(tenant.as_ref()), idempotent);
        self.guard.run(call, || self.inner.list(scope, kind, tenant.clone())).await
    }

    async fn watch(
        &self,
        scope: &Scope,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<BoxStream<'static, RecordChange>> {
        let call = call!(self, scope, "state_store", "watch", Read, resource(tenant.as_ref()), idempotent);
        self.guard.run(call, || self.inner.watch(scope, kind, tenant.clone())).await
    }
}
