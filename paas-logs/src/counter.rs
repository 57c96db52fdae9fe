//! What rules have done so far.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paas_core::model::{LogRuleCount, LogRuleKind};

/// The counters of a service: they outlive the rules that count, where those come back as they were.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Arc<Mutex<ByRule>>);

type ByRule = BTreeMap<(LogRuleKind, String), Arc<Counter>>;

/// What one rule has done.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    count: AtomicU64,
    nanos: AtomicU64,
}

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn took(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }
}

impl Counters {
    pub(crate) fn of(&self, kind: LogRuleKind, rule: impl Into<String>) -> Arc<Counter> {
        let mut counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(counters.entry((kind, rule.into())).or_default())
    }

    pub(crate) fn all(&self) -> Vec<LogRuleCount> {
        let counters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = |((kind, rule), counter): (&(LogRuleKind, String), &Arc<Counter>)| {
            let cost = Duration::from_nanos(counter.nanos.load(Ordering::Relaxed));
            LogRuleCount::new(*kind, rule.clone(), counter.count.load(Ordering::Relaxed), cost)
        };
        counters.iter().map(told).collect()
    }
}
