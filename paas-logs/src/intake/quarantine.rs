//! Counts what collectors sent and nobody could be found for.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use paas_core::model::{LogCredential, LogCredentialId, LogQuarantine, LogQuarantineReason, Timestamp};

use super::claims::Claims;
use super::draft::Draft;

/// Before more are counted, those go that were not heard of for the longest time.
const MOST: usize = 1_000;

/// What went nowhere, of each collector and for each reason.
#[derive(Debug, Default)]
pub(crate) struct Quarantine(Mutex<HashMap<(LogCredentialId, LogQuarantineReason), LogQuarantine>>);

impl Quarantine {
    pub(super) fn count(
        &self,
        credential: &LogCredential,
        reason: LogQuarantineReason,
        (claims, draft): (&Claims, &Draft),
        now: Timestamp,
    ) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (credential.id.clone(), reason);
        if all.len() >= MOST
            && !all.contains_key(&key)
            && let Some(oldest) = all.iter().min_by_key(|(_, own)| own.last).map(|(key, _)| key.clone())
        {
            all.remove(&oldest);
        }
        let own = all.entry(key).or_insert_with(|| LogQuarantine::new(credential, reason));
        own.records += draft.lines() as u64;
        own.bytes += draft.bytes() as u64;
        (own.last, own.claimed) = (now, claims.excerpt());
    }

    /// All of it, by collector.
    pub(crate) fn all(&self) -> Vec<LogQuarantine> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = all.values().cloned().collect();
        all.sort_by(|one, other| (&one.collector, one.reason).cmp(&(&other.collector, other.reason)));
        all
    }
}
