//! Tells watchers of changes: each has a bounded queue of what it asked for, and a slow one is told so.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_core::model::{Key, RecordChange, RecordKind, TenantId};
use tokio::sync::Notify;

/// Most changes that wait for one watcher.
pub(super) const CHANGES: usize = 1_024;
/// Most bytes of values that wait for one watcher.
pub(super) const BYTES: usize = 4 * 1024 * 1024;

/// Everybody who watches.
#[derive(Debug, Default)]
pub(super) struct Watchers(Mutex<List>);

#[derive(Debug, Default)]
struct List {
    watchers: Vec<Watcher>,
    closed: bool,
}

#[derive(Debug)]
struct Watcher {
    kind: RecordKind,
    tenant: Option<TenantId>,
    queue: Arc<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: VecDeque<RecordChange>,
    bytes: usize,
    closed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn bytes(change: &RecordChange) -> usize {
    match change {
        RecordChange::Put(record) => record.value.len(),
        _ => 0,
    }
}

impl Queue {
    fn tell(&self, change: RecordChange) {
        let mut waiting = lock(&self.waiting);
        if waiting.changes.len() >= CHANGES || waiting.bytes + bytes(&change) > BYTES {
            waiting.reset();
        } else {
            waiting.bytes += bytes(&change);
            waiting.changes.push_back(change);
        }
        self.wake.notify_one();
    }
}

impl Waiting {
    /// Whoever lists after this sees all that was dropped, the change at hand included.
    fn reset(&mut self) {
        self.changes.clear();
        self.changes.push_back(RecordChange::Reset);
        self.bytes = 0;
    }
}

impl Watchers {
    /// What changes from now on.
    pub(super) fn watch(
        &self,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> BoxStream<'static, RecordChange> {
        let queue = Arc::new(Queue::default());
        let mut list = lock(&self.0);
        if list.closed {
            return stream::empty().boxed();
        }
        list.watchers.push(Watcher { kind, tenant, queue: Arc::clone(&queue) });
        drop(list);
        stream::unfold(queue, |queue| async move {
            loop {
                let told = {
                    let mut waiting = lock(&queue.waiting);
                    let told = waiting.changes.pop_front();
                    waiting.bytes -= told.as_ref().map_or(0, bytes);
                    if told.is_none() && waiting.closed {
                        return None;
                    }
                    told
                };
                match told {
                    Some(change) => return Some((change, queue)),
                    None => queue.wake.notified().await,
                }
            }
        })
        .boxed()
    }

    /// Tells those whom it concerns, and forgets those who left.
    pub(super) fn tell(&self, changes: impl IntoIterator<Item = (Key, RecordChange)>) {
        let mut list = lock(&self.0);
        list.watchers.retain(|watcher| Arc::strong_count(&watcher.queue) > 1);
        for (key, change) in changes {
            for watcher in &list.watchers {
                let own = watcher.tenant.is_none() || watcher.tenant == key.tenant;
                if own && watcher.kind == key.kind {
                    watcher.queue.tell(change.clone());
                }
            }
        }
    }

    /// Tells everybody to list again.
    pub(super) fn reset(&self) {
        for watcher in &lock(&self.0).watchers {
            lock(&watcher.queue.waiting).reset();
            watcher.queue.wake.notify_one();
        }
    }

    /// Ends every stream once it has given what waits.
    pub(super) fn close(&self) {
        let mut list = lock(&self.0);
        list.closed = true;
        for watcher in list.watchers.drain(..) {
            lock(&watcher.queue.waiting).closed = true;
            watcher.queue.wake.notify_one();
        }
    }
}
