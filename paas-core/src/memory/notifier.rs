//! Notifications as a list.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::model::{Notification, Scope};
use crate::port::Notifier;
use crate::{Error, ErrorKind, Result};

/// Keeps what was told, each once.
#[derive(Clone, Debug, Default)]
pub struct MemoryNotifier {
    told: Arc<Mutex<Vec<Notification>>>,
    refusal: Arc<Mutex<Option<ErrorKind>>>,
}

impl MemoryNotifier {
    /// Nobody was told anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes nothing from now on, and says so in this way; or takes everything again.
    pub fn refuse(&self, kind: Option<ErrorKind>) {
        *lock(&self.refusal) = kind;
    }

    /// What was told, the oldest first.
    #[must_use]
    pub fn told(&self) -> Vec<Notification> {
        lock(&self.told).clone()
    }
}

#[async_trait]
impl Notifier for MemoryNotifier {
    async fn notify(&self, _: &Scope, notification: &Notification) -> Result<()> {
        if let Some(kind) = *lock(&self.refusal) {
            return Err(Error::new(kind, "whoever is told takes nothing"));
        }
        let mut told = lock(&self.told);
        if told.iter().all(|known| known.alert.id != notification.alert.id) {
            told.push(notification.clone());
        }
        Ok(())
    }
}
