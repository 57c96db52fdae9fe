//! Counts lines that were sent for the alerts of their apps.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paas_core::Result;
use paas_core::model::{AppId, LogBatch};
use paas_core::port::LogPorts;

use crate::alert::AlertCounts;
use crate::pipeline::Service;

/// Before there are more apps, those are forgotten that nobody sends lines of now: what is stored is asked of the store.
const MOST: usize = 1_000;

type Counts = Arc<tokio::sync::Mutex<AlertCounts>>;

/// The counts of each app: none waits for another.
#[derive(Debug, Default)]
pub(super) struct Alerts(Mutex<HashMap<AppId, Counts>>);

impl Alerts {
    fn apps(&self) -> MutexGuard<'_, HashMap<AppId, Counts>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts lines, and raises the alerts that they make.
    ///
    /// # Errors
    /// Where an alert could not be stored: nothing after it may be.
    pub(super) async fn count(&self, ports: &LogPorts, service: &Service, batch: &LogBatch) -> Result<()> {
        let counts = {
            let mut apps = self.apps();
            if apps.len() >= MOST && !apps.contains_key(&batch.origin.app) {
                apps.retain(|_, counts| Arc::strong_count(counts) > 1);
            }
            Arc::clone(apps.entry(batch.origin.app.clone()).or_default())
        };
        counts.lock().await.take(ports, service.alerts(), batch).await
    }

    /// Lines of an app were counted and are not stored.
    pub(super) fn forget(&self, app: &AppId) {
        self.apps().remove(app);
    }
}
