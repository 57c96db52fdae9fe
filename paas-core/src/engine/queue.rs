//! What wants a look, fair between tenants: apps, or their tenants' room.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::model::{AppId, TenantId};

/// The longest pause that a backend may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(120);
/// The longest pause after a failure.
const LONGEST: Duration = Duration::from_secs(30);
/// The longest pause where somebody keeps undoing what was done: it is to be put back soon, and without a race of two.
const LONGEST_UNDONE: Duration = Duration::from_secs(1);

/// Names what to look at: an app, unless it is said what else.
pub(crate) type Item<T = AppId> = (TenantId, T);

/// Tenants take turns; within a tenant apps come in the order in which they were put in. An app is in it once, and is
/// not given out again while somebody works on it.
#[derive(Debug)]
pub(crate) struct Queue<T = AppId> {
    turns: VecDeque<TenantId>,
    waiting: BTreeMap<TenantId, VecDeque<T>>,
    queued: BTreeSet<Item<T>>,
    working: BTreeSet<Item<T>>,
    /// Asked for while somebody works on it.
    again: BTreeSet<Item<T>>,
    /// By time, and by app: the earliest time at which each wants a look.
    later: BTreeSet<(Instant, Item<T>)>,
    due: BTreeMap<Item<T>, Instant>,
    /// Failures in a row.
    failures: BTreeMap<Item<T>, u32>,
    /// Failed, and not looked at before its pause is over, whoever asks.
    resting: BTreeSet<Item<T>>,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            turns: VecDeque::new(),
            waiting: BTreeMap::new(),
            queued: BTreeSet::new(),
            working: BTreeSet::new(),
            again: BTreeSet::new(),
            later: BTreeSet::new(),
            due: BTreeMap::new(),
            failures: BTreeMap::new(),
            resting: BTreeSet::new(),
        }
    }
}

impl<T: Clone + Ord> Queue<T> {
    /// Asks for a look at an app now.
    pub(crate) fn put(&mut self, item: Item<T>) {
        if self.resting.contains(&item) {
            return;
        }
        if self.working.contains(&item) {
            self.again.insert(item);
        } else if self.queued.insert(item.clone()) {
            let (tenant, app) = item;
            let apps = self.waiting.entry(tenant.clone()).or_default();
            if apps.is_empty() {
                self.turns.push_back(tenant);
            }
            apps.push_back(app);
        }
    }

    /// Asks for a look now because of something new, which does not wait for the pause after a failure.
    pub(crate) fn put_anew(&mut self, item: Item<T>) {
        self.resting.remove(&item);
        self.put(item);
    }

    /// Asks for a look at a later time.
    pub(crate) fn put_at(&mut self, item: Item<T>, at: Instant) {
        if self.due.get(&item).is_some_and(|known| *known <= at) {
            return;
        }
        if let Some(known) = self.due.insert(item.clone(), at) {
            self.later.remove(&(known, item.clone()));
        }
        self.later.insert((at, item));
    }

    /// The next app to look at.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Item<T>> {
        while let Some(due) = self.later.first().filter(|(at, _)| *at <= now).cloned() {
            self.later.remove(&due);
            self.due.remove(&due.1);
            self.resting.remove(&due.1);
            self.put(due.1);
        }
        let tenant = self.turns.pop_front()?;
        let apps = self.waiting.get_mut(&tenant)?;
        let app = apps.pop_front()?;
        if apps.is_empty() {
            self.waiting.remove(&tenant);
        } else {
            self.turns.push_back(tenant.clone());
        }
        let item = (tenant, app);
        self.queued.remove(&item);
        self.working.insert(item.clone());
        Some(item)
    }

    /// When the next app becomes due by itself.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.later.first().map(|(at, _)| *at)
    }

    /// How often in a row looks at an app have failed, or were for nothing.
    pub(crate) fn failures(&self, item: &Item<T>) -> u32 {
        self.failures.get(item).copied().unwrap_or_default()
    }

    /// Says that the look at an app has ended well.
    pub(crate) fn done(&mut self, item: &Item<T>) {
        self.failures.remove(item);
        self.finish(item);
    }

    /// Says that it has failed: it is tried again, after a pause that doubles from 100 ms to 30 s, and is as long as was
    /// asked for, up to [`LONGEST_ASKED`].
    pub(crate) fn failed(&mut self, item: &Item<T>, asked: Option<Duration>, now: Instant) {
        let pause = self.pause(item).min(LONGEST).max(asked.unwrap_or_default().min(LONGEST_ASKED));
        self.rest(item, now + pause);
    }

    /// Says that somebody has undone what was done for it: it is done again, after a pause that doubles from 100 ms to 1 s.
    pub(crate) fn undone(&mut self, item: &Item<T>, now: Instant) {
        let pause = self.pause(item).min(LONGEST_UNDONE);
        self.rest(item, now + pause);
    }

    fn pause(&mut self, item: &Item<T>) -> Duration {
        let failures = self.failures.entry(item.clone()).or_default();
        let pause = Duration::from_millis(100 << (*failures).min(9));
        *failures += 1;
        pause
    }

    fn rest(&mut self, item: &Item<T>, until: Instant) {
        // What asks in between must not get around the pause.
        self.again.remove(item);
        self.finish(item);
        if let Some(earlier) = self.due.remove(item) {
            self.later.remove(&(earlier, item.clone()));
        }
        self.put_at(item.clone(), until);
        self.resting.insert(item.clone());
    }

    fn finish(&mut self, item: &Item<T>) {
        self.working.remove(item);
        if self.again.remove(item) {
            self.put(item.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(tenant: &str, app: u32) -> Item {
        (TenantId::new(tenant).unwrap(), AppId::new(format!("a-{app}")).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn tenants_take_turns() {
        let mut queue: Queue = Queue::default();
        (0..100).for_each(|app| queue.put(item("loud", app)));
        queue.put(item("quiet", 0));
        let first: Vec<_> = (0..3).filter_map(|_| queue.take(Instant::now())).collect();
        assert_eq!(first, [item("loud", 0), item("quiet", 0), item("loud", 1)]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_app_is_worked_on_once_at_a_time() {
        let mut queue: Queue = Queue::default();
        queue.put(item("t", 0));
        queue.put(item("t", 0));
        let taken = queue.take(Instant::now()).unwrap();
        queue.put(item("t", 0));
        assert_eq!(queue.take(Instant::now()), None);
        queue.done(&taken);
        assert_eq!(queue.take(Instant::now()), Some(taken));
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_tried_again_after_growing_pauses() {
        let mut queue: Queue = Queue::default();
        queue.put(item("t", 0));
        for pause in [100, 200, 400] {
            let taken = queue.take(Instant::now()).unwrap();
            queue.failed(&taken, None, Instant::now());
            queue.put(item("t", 0));
            assert_eq!(queue.take(Instant::now()), None);
            tokio::time::advance(Duration::from_millis(pause)).await;
        }
        let taken = queue.take(Instant::now()).unwrap();
        // As long as the backend asks for, where that is longer.
        queue.failed(&taken, Some(Duration::from_secs(5)), Instant::now());
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert_eq!(queue.take(Instant::now()), None);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(queue.take(Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_keeps_undoing_is_done_again_within_a_second() {
        let mut queue: Queue = Queue::default();
        queue.put(item("t", 0));
        for pause in [100, 200, 400, 800, 1_000, 1_000] {
            let taken = queue.take(Instant::now()).unwrap();
            queue.undone(&taken, Instant::now());
            queue.put(item("t", 0));
            tokio::time::advance(Duration::from_millis(pause - 1)).await;
            assert_eq!(queue.take(Instant::now()), None);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(queue.take(Instant::now()).is_some());
    }
}
