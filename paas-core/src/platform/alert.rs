//! Alerts on their way to people: stored before anything else is done, told until somebody takes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::engine::record::AppRecord;
use crate::engine::store::{RACES, Store, Versioned, contended};
use crate::model::limit;
use crate::model::{Alert, AlertKey, Clock, Digest, Key, Notification, RecordKind, ServiceId, ServiceName};
use crate::port::{Expected, Notifier};
use crate::{ErrorKind, Result};
use delivery::Recipient;

mod delivery;
mod sweep;

pub(crate) const ALERT: RecordKind = RecordKind::new("alert");
/// So many alerts of one rule wait to be told; of more, the count of the latest tells.
const WAITING: usize = 20;
/// The largest record of a rule, in bytes.
const LARGEST: usize = limit::STATE_VALUE / 2;

/// What is stored of a rule that has raised an alert.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Raised {
    key: AlertKey,
    /// The last one.
    last: Alert,
    /// Those that nobody has taken yet, the oldest first.
    waiting: Vec<Alert>,
}

impl Raised {
    /// Keeps within what a record may have: the lines of all but the newest go before anything else does.
    fn trim(&mut self) {
        self.last.lines.clear();
        let is_large = |raised: &Self| serde_json::to_vec(raised).map_or(0, |json| json.len()) > LARGEST;
        for at in 0..self.waiting.len() {
            if !is_large(self) {
                return;
            }
            self.waiting[at].lines.clear();
        }
        while self.waiting.len() > 1 && is_large(self) {
            self.waiting.remove(0);
        }
    }
}

/// Alerts of all apps.
#[derive(Debug)]
pub(crate) struct Alerts {
    pub(super) store: Store,
    recipients: BTreeMap<String, Recipient>,
    pub(super) clock: Clock,
    news: Notify,
}

fn key(alert: &AlertKey) -> Result<Key> {
    Key::new(ALERT, Some(alert.tenant.clone()), format!("{}/{}", alert.app, Digest::of(alert)))
}

impl Alerts {
    pub(super) fn new(store: Store, notifiers: BTreeMap<String, Arc<dyn Notifier>>, clock: Clock) -> Self {
        let recipient = |(name, notifier)| (name, Recipient::new(notifier));
        Self { store, recipients: notifiers.into_iter().map(recipient).collect(), clock, news: Notify::new() }
    }

    /// The names of those who can be told.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.recipients.keys().map(String::as_str)
    }

    /// The last alert of a rule.
    pub(super) async fn last(&self, of: &AlertKey) -> Result<Option<Alert>> {
        Ok(self.store.get::<Raised>(&key(of)?).await?.map(|raised| raised.value.last))
    }

    /// Stores an alert: it is told from then on, whatever happens. Idempotent by its id.
    pub(super) async fn raise(&self, of: &AlertKey, alert: Alert) -> Result<()> {
        let is_news = self
            .change(of, |known| {
                let is_known = |known: &Raised| {
                    known.last.id == alert.id || known.waiting.iter().any(|own| own.id == alert.id)
                };
                if known.as_ref().is_some_and(is_known) {
                    return None;
                }
                let mut waiting = known.map(|known| known.waiting).unwrap_or_default();
                if waiting.len() < WAITING {
                    waiting.push(alert.clone());
                } else if let Some(last) = waiting.last_mut() {
                    last.held_back += u64::from(alert.count) + alert.held_back;
                }
                let mut raised = Raised { key: of.clone(), last: alert.clone(), waiting };
                raised.trim();
                Some(raised)
            })
            .await?;
        if is_news {
            self.news.notify_one();
        }
        Ok(())
    }

    /// Changes what is stored of a rule, as often as somebody else is faster. `false` where nothing is to be changed.
    async fn change(
        &self,
        of: &AlertKey,
        mut change: impl FnMut(Option<Raised>) -> Option<Raised>,
    ) -> Result<bool> {
        let key = key(of)?;
        for _ in 0..RACES {
            let (known, expected) = match self.store.get::<Raised>(&key).await? {
                Some(Versioned { value, version }) => (Some(value), Expected::Version(version)),
                None => (None, Expected::Absent),
            };
            let Some(raised) = change(known) else { return Ok(false) };
            match self.store.put(&key, &raised, expected).await {
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended(&key))
    }

    /// Tells what is stored and not taken yet, and removes what nobody needs any more, until this is dropped. Of several
    /// replicas the leader's does.
    pub(super) async fn deliver(&self) {
        tokio::join!(self.tell_all(), self.sweep());
    }

    /// What an alert is about; nothing where the app is gone.
    async fn notification(&self, of: &AlertKey, alert: &Alert) -> Result<Option<Notification>> {
        let Some(app) = self.store.app(&of.tenant, &of.app).await? else { return Ok(None) };
        let app: AppRecord = app.value;
        let named = |service: &ServiceId| app.services.iter().find(|(_, own)| own.id == *service);
        let service: Option<ServiceName> = of.service.as_ref().and_then(named).map(|(name, _)| name.clone());
        Ok(Some(Notification {
            tenant: app.tenant_name.clone(),
            environment: app.environment_name.clone(),
            app: app.name.clone(),
            service,
            instance: of.instance.clone(),
            alert: alert.clone(),
        }))
    }

    /// An alert waits no more.
    async fn settle(&self, of: &AlertKey, id: &str) -> Result<()> {
        let settled = |known: Option<Raised>| {
            let mut raised = known?;
            raised.waiting.retain(|alert| alert.id != id);
            Some(raised)
        };
        self.change(of, settled).await.map(drop)
    }
}
