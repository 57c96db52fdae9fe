//! How what is followed comes into the table.

use std::collections::HashSet;
use std::sync::Arc;

use kube::Resource;

use super::manifest::Kind;
use super::table::{Object, Table};
use crate::follow;

/// Where objects of a kind go.
pub(super) struct Shelf<O> {
    table: Arc<Table>,
    kind: Kind,
    refusal: fn(&O) -> Option<String>,
}

impl<O> Shelf<O> {
    /// For a kind that nobody refuses.
    pub(super) fn new(table: &Arc<Table>, kind: Kind) -> Self {
        Self { table: Arc::clone(table), kind, refusal: |_| None }
    }

    /// An object itself tells why the edge refuses it.
    pub(super) fn refused_by(self, refusal: fn(&O) -> Option<String>) -> Self {
        Self { refusal, ..self }
    }
}

impl<O: Resource + 'static> follow::Shelf<O> for Shelf<O> {
    fn put(&self, object: O) {
        let meta = object.meta();
        let Some(own) = Object::of(self.kind, meta) else {
            // It may have been one before.
            return self.table.remove(meta.uid.as_deref().unwrap_or_default(), follow::version(meta));
        };
        self.table.put(&own);
        self.table.refuse(&own.uid, (self.refusal)(&object).as_deref());
    }

    fn remove(&self, uid: &str, version: u64) {
        self.table.remove(uid, version);
    }

    fn keep(&self, uids: &HashSet<String>, version: u64) {
        self.table.keep(self.kind, uids, version);
    }

    fn reset(&self) {
        self.table.feed.reset();
    }
}
