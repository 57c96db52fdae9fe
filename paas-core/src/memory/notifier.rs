//! Notifications as a list.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::Result;
use crate::model::{Notification, Scope};
use crate::port::Notifier;

/// Keeps what was told, each once.
#[derive(Clone, Debug, Default)]
pub struct MemoryNotifier {
    told: Arc<Mutex<Vec<Notification>>>,
}

impl MemoryNotifier {
    /// Nobody was told anything yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
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
        let mut told = lock(&self.told);
        if told.iter().all(|known| known.alert.id != notification.alert.id) {
            told.push(notification.clone());
        }
        Ok(())
    }
}
