//! How what is followed comes into the table.

use std::collections::HashSet;
use std::sync::Arc;

use kube::api::{DynamicObject, PartialObjectMeta};

use super::acceptance::refusal;
use super::manifest::Kind;
use super::table::{Object, Table};
use crate::follow;

/// Where objects of a kind go.
pub(super) struct Shelf {
    table: Arc<Table>,
    kind: Kind,
}

impl Shelf {
    pub(super) fn new(table: &Arc<Table>, kind: Kind) -> Self {
        Self { table: Arc::clone(table), kind }
    }
}

impl<K> follow::Shelf<PartialObjectMeta<K>> for Shelf {
    fn put(&self, object: PartialObjectMeta<K>) {
        if let Some(object) = Object::of(self.kind, &object.metadata) {
            self.table.put(object);
        }
    }

    fn remove(&self, uid: &str) {
        self.table.remove(uid);
    }

    fn keep(&self, uids: &HashSet<String>, version: u64) {
        self.table.keep(self.kind, uids, version);
    }

    fn reset(&self) {
        self.table.feed.reset();
    }
}

/// HTTPRoutes are followed as a whole, for what gateways say of them.
impl follow::Shelf<DynamicObject> for Shelf {
    fn put(&self, object: DynamicObject) {
        let (Some(own), refusal) = (Object::of(self.kind, &object.metadata), refusal(&object)) else {
            return;
        };
        let uid = own.uid.clone();
        self.table.put(own);
        self.table.refuse(&uid, refusal.as_deref());
    }

    fn remove(&self, uid: &str) {
        self.table.remove(uid);
    }

    fn keep(&self, uids: &HashSet<String>, version: u64) {
        self.table.keep(self.kind, uids, version);
    }

    fn reset(&self) {
        self.table.feed.reset();
    }
}
