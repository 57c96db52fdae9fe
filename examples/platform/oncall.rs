//! Whoever is on call reads the console.

use async_trait::async_trait;
use paas::Result;
use paas::memory::MemoryNotifier;
use paas::model::{Notification, Scope};
use paas::port::{Backend, Notifier};

use crate::console::Console;

/// Says alerts on the console, and remembers them.
#[derive(Clone, Debug)]
pub(crate) struct OnCall {
    console: Console,
    told: MemoryNotifier,
}

impl OnCall {
    pub(crate) fn new(console: &Console) -> Self {
        Self { console: console.clone(), told: MemoryNotifier::new() }
    }

    /// What was told so far.
    pub(crate) fn told(&self) -> Vec<Notification> {
        self.told.told()
    }
}

#[async_trait]
impl Backend for OnCall {
    fn name(&self) -> &'static str {
        "console"
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Notifier for OnCall {
    async fn notify(&self, scope: &Scope, notification: &Notification) -> Result<()> {
        let (alert, app) = (&notification.alert, &notification.app);
        let service = notification.service.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        self.console.say(&format!("ALERT {app}{service}: {} lines match {}", alert.count, alert.query));
        for line in &alert.lines {
            self.console.say(&format!("ALERT > {}", line.line));
        }
        self.told.notify(scope, notification).await
    }
}
