//! Lines that others sent, told to whoever watches once they are stored.

use std::sync::Arc;

use paas_core::model::LogBatch;
use tokio::sync::broadcast;

/// So many batches may wait for a watcher; who is slower than that hears of a gap, and finds the lines in the store.
const WAITING: usize = 32;

/// The way from those who take lines in to those who watch.
#[derive(Debug)]
pub(crate) struct Pushed(broadcast::Sender<Arc<LogBatch>>);

impl Default for Pushed {
    fn default() -> Self {
        Self(broadcast::Sender::new(WAITING))
    }
}

impl Pushed {
    /// What is stored from now on.
    pub(super) fn watch(&self) -> broadcast::Receiver<Arc<LogBatch>> {
        self.0.subscribe()
    }

    /// These are stored.
    #[cfg(feature = "intake")]
    pub(crate) fn tell(&self, batches: Vec<LogBatch>) {
        if self.0.receiver_count() > 0 {
            batches.into_iter().for_each(|batch| drop(self.0.send(Arc::new(batch))));
        }
    }
}
