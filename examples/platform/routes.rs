//! How long route changes take: an interceptor, which sees every call of every port.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use paas::guard::{Call, Interceptor};
use paas::{Error, Result};
use serde_json::{Value, json};

/// How many are remembered.
const KEPT: usize = 1_024;

#[derive(Debug)]
struct RouteChange {
    service: String,
    /// When it was over.
    at: SystemTime,
    took: Duration,
    done: bool,
}

/// Remembers the latest route changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct RouteChanges(Arc<Mutex<VecDeque<RouteChange>>>);

impl RouteChanges {
    /// Oldest first.
    pub(crate) fn to_json(&self) -> Value {
        let changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let micros = |at: &SystemTime| {
            at.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
        };
        let change = |change: &RouteChange| {
            json!({
                "service": change.service,
                "at_micros": micros(&change.at),
                "took_micros": change.took.as_micros() as u64,
                "done": change.done,
            })
        };
        changes.iter().map(change).collect()
    }
}

#[async_trait]
impl Interceptor for RouteChanges {
    fn after(&self, call: &Call, elapsed: Duration, outcome: Result<(), &Error>) {
        if (call.port, call.op) != ("router", "apply") {
            return;
        }
        let mut changes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if changes.len() >= KEPT {
            changes.pop_front();
        }
        changes.push_back(RouteChange {
            service: call.resource.to_string(),
            at: SystemTime::now(),
            took: elapsed,
            done: outcome.is_ok(),
        });
    }
}
