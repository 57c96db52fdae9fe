//! Why looks at apps fail, for who asks on the replica that leads: a store that takes nothing takes no note of it either.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::model::{AppId, limit};

/// What the last look at each app failed with, if it did.
#[derive(Clone, Debug, Default)]
pub(crate) struct Troubles(Arc<Mutex<BTreeMap<AppId, String>>>);

impl Troubles {
    fn all(&self) -> MutexGuard<'_, BTreeMap<AppId, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn put(&self, app: &AppId, error: &Error) {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            cause = error.source();
            if cause.is_none() {
                text = format!("{text}: {error}");
            }
        }
        self.all().insert(app.clone(), text.chars().take(limit::OPERATION_EVENT).collect());
    }

    pub(crate) fn end(&self, app: &AppId) {
        self.all().remove(app);
    }

    /// Another leads, or nobody knows yet.
    pub(crate) fn clear(&self) {
        self.all().clear();
    }

    pub(crate) fn of(&self, app: &AppId) -> Option<String> {
        self.all().get(app).cloned()
    }
}
