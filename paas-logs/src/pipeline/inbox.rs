//! What was read and waits for one who follows.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paas_core::model::{InstanceId, Resource};
use tokio::sync::Notify;

use super::read::Read;

/// So many bytes may wait for one who follows.
const LONGEST: usize = 4 * 1024 * 1024;
/// So many bytes may wait for all who follow a feed; then each has a little.
const ALL: usize = 64 * 1024 * 1024;
const LITTLE: usize = 16 * 1024;

/// How much waits for all who follow a feed.
#[derive(Debug, Default)]
pub(super) struct Budget(AtomicUsize);

/// What waits for one.
#[derive(Debug)]
pub(super) struct Inbox {
    part: Resource,
    instance: Option<InstanceId>,
    budget: Arc<Budget>,
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    reads: VecDeque<Arc<Read>>,
    bytes: usize,
    /// Something came for which there was no room, and so nothing after it is taken.
    is_behind: bool,
    has_ended: bool,
    /// Nothing was taken since whoever has it had nothing to do.
    rests: bool,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    Read(Arc<Read>),
    /// Something is missing here.
    Behind,
    /// Nobody reads any more.
    End,
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.budget.0.fetch_sub(waiting.bytes, Ordering::Relaxed);
    }
}

impl Inbox {
    pub(super) fn new(part: Resource, instance: Option<InstanceId>, budget: Arc<Budget>) -> Self {
        Self { part, instance, budget, waiting: Mutex::default(), news: Notify::new() }
    }

    pub(super) fn part(&self) -> &Resource {
        &self.part
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether something of this part is for whoever has the inbox.
    pub(super) fn wants(&self, part: &Resource, read: &Read) -> bool {
        let own = self.instance.as_ref();
        self.part.contains(part) && own.is_none_or(|own| read.instance().is_none_or(|other| own == other))
    }

    /// Never waits: where there is no room, whoever has the inbox is behind.
    pub(super) fn push(&self, read: &Arc<Read>) {
        let mut waiting = self.waiting();
        if waiting.is_behind || waiting.has_ended {
            return;
        }
        let (weight, all) = (read.weight(), self.budget.0.load(Ordering::Relaxed));
        let most = if all < ALL { LONGEST } else { LITTLE };
        if waiting.bytes > 0 && waiting.bytes + weight > most {
            waiting.is_behind = true;
        } else {
            waiting.reads.push_back(Arc::clone(read));
            waiting.bytes += weight;
            self.budget.0.fetch_add(weight, Ordering::Relaxed);
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// Whoever has the inbox has nothing to do any more, unless something waits.
    pub(super) fn rest(&self) {
        let mut waiting = self.waiting();
        waiting.rests = waiting.reads.is_empty() && !waiting.is_behind;
    }

    /// Ends it where whoever has it rests.
    pub(super) fn end_at_rest(&self) -> bool {
        let mut waiting = self.waiting();
        waiting.has_ended |= waiting.rests && waiting.reads.is_empty() && !waiting.is_behind;
        let has_ended = waiting.has_ended;
        drop(waiting);
        self.news.notify_one();
        has_ended
    }

    /// Nothing is taken any more.
    pub(super) fn end(&self) {
        self.waiting().has_ended = true;
        self.news.notify_one();
    }

    pub(super) async fn next(&self) -> Next {
        loop {
            if let Some(next) = self.take() {
                return next;
            }
            self.news.notified().await;
        }
    }

    fn take(&self) -> Option<Next> {
        let mut waiting = self.waiting();
        waiting.rests &= waiting.reads.is_empty() && !waiting.is_behind;
        if let Some(read) = waiting.reads.pop_front() {
            let weight = read.weight();
            waiting.bytes -= weight;
            self.budget.0.fetch_sub(weight, Ordering::Relaxed);
            return Some(Next::Read(read));
        }
        // From here on everything is taken again: what is missing is all before it.
        if std::mem::take(&mut waiting.is_behind) {
            return Some(Next::Behind);
        }
        waiting.has_ended.then_some(Next::End)
    }
}
