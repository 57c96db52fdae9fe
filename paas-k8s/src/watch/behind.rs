//! Whether a watch is behind, and why: what it told of is then as it was, however long that lasts.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paas_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::error::failed;

/// How long a watch may be behind before that is a failure: API servers restart.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is told.
const EVERY: Duration = Duration::from_secs(60);

/// Shared by a watch and whoever asks how it fares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Behind(Arc<Mutex<Option<Reason>>>);

#[derive(Debug)]
struct Reason {
    since: Instant,
    told: Option<Instant>,
    kind: ErrorKind,
    text: String,
}

impl Behind {
    fn reason(&self) -> MutexGuard<'_, Option<Reason>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It could not be opened, or what there is could not be listed.
    pub(super) fn fall(&self, cause: kube::Error) {
        let error = failed(cause, "watch");
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let text = format!("{error}: {cause}");
        let mut reason = self.reason();
        let now = Instant::now();
        let (since, mut told) = reason.as_ref().map_or((now, None), |own| (own.since, own.told));
        if now >= since + PATIENCE && told.is_none_or(|told| now >= told + EVERY) {
            tracing::warn!(seconds = (now - since).as_secs(), text, "the cluster is not followed");
            told = Some(now);
        }
        *reason = Some(Reason { since, told, kind: error.kind(), text });
    }

    /// It tells again of what happens.
    pub(super) fn end(&self) {
        *self.reason() = None;
    }

    /// # Errors
    /// Why it is behind, where that lasts; `Denied` where the platform may not watch what it must.
    pub(crate) fn check(&self) -> Result<()> {
        let reason = self.reason();
        let Some(own) = reason.as_ref().filter(|own| own.since.elapsed() >= PATIENCE) else { return Ok(()) };
        let told = match own.kind {
            ErrorKind::Denied => "the cluster is not followed any more: apply the rules that `Rbac` gives",
            _ => "the cluster is not followed: what is known of it may be old",
        };
        let error = Error::new(own.kind, told).with("seconds", own.since.elapsed().as_secs());
        Err(error.with("because", &own.text))
    }
}
