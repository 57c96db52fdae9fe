//! The notifier.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::memory::MemoryNotifier;
use paas_core::model::Notification;
use paas_core::port::Notifier;
use paas_core::{ErrorKind, Result};

use crate::Fixture;
use crate::suite::notifier::{NotifierFixture, NotifierTraits, Recipient};

/// [`MemoryNotifier`].
#[derive(Debug, Default)]
pub struct Notifiers {
    backend: MemoryNotifier,
}

impl Fixture for Notifiers {
    type Port = dyn Notifier;
    type Capabilities = NotifierTraits;

    fn capabilities(&self) -> NotifierTraits {
        NotifierTraits { asks: false, deadline: false }
    }

    fn open(&self) -> BoxFuture<'_, Result<Arc<dyn Notifier>>> {
        let backend: Arc<dyn Notifier> = Arc::new(self.backend.clone());
        Box::pin(async move { Ok(backend) })
    }
}

impl NotifierFixture for Notifiers {
    fn taken(&self) -> BoxFuture<'_, Result<Vec<Notification>>> {
        let told = self.backend.told();
        Box::pin(async { Ok(told) })
    }

    fn recipient(&self, recipient: Recipient) {
        self.backend.refuse(match recipient {
            Recipient::Takes => None,
            Recipient::Refuses => Some(ErrorKind::Invalid),
            _ => Some(ErrorKind::Unavailable),
        });
    }
}
