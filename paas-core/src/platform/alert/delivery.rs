//! Alerts are told: those of a rule in their order, and nobody waits for what somebody else does not take.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::{ALERT, Alerts, Raised, key};
use crate::engine::store::Versioned;
use crate::model::{Alert, AlertKey, Notification};
use crate::port::Notifier;
use crate::{Error, ErrorKind, Result};

/// So many alerts are told at once to one who is told.
const AT_ONCE: usize = 8;
/// Pauses between attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Who asks for a longer pause than this is told again all the same.
const LONGEST_QUIET: Duration = Duration::from_secs(60 * 60);
/// Who has not taken an alert by then is not told any more.
const TOO_LATE: Duration = Duration::from_secs(24 * 60 * 60);

/// Somebody who is told. Each call has a deadline: that of the guard.
#[derive(Debug)]
pub(super) struct Recipient {
    notifier: Arc<dyn Notifier>,
    turns: Semaphore,
    /// It asked to be left alone until then.
    quiet: Mutex<Option<Instant>>,
}

impl Recipient {
    pub(super) fn new(notifier: Arc<dyn Notifier>) -> Self {
        Self { notifier, turns: Semaphore::new(AT_ONCE), quiet: Mutex::default() }
    }

    fn quiet(&self) -> Option<Instant> {
        let quiet = *self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.filter(|until| *until > Instant::now())
    }

    /// Waits for a turn, and as long as it asked to be left alone.
    async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed.
        let turn = self.turns.acquire().await.ok();
        while let Some(until) = self.quiet() {
            tokio::time::sleep_until(until).await;
        }
        turn
    }

    /// Heeds what its refusal asks for.
    fn refused(&self, error: &Error) {
        if let Some(pause) = error.retry_after() {
            let until = Instant::now() + pause.min(LONGEST_QUIET);
            *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
        }
    }
}

/// A rule whose oldest alert was not taken.
#[derive(Clone, Copy)]
struct Rest {
    until: Instant,
    pause: Duration,
}

type Call<'a> = BoxFuture<'a, (AlertKey, Result<()>)>;

/// What goes on.
#[derive(Default)]
struct Delivery<'a> {
    calls: FuturesUnordered<Call<'a>>,
    /// Rules of which alerts are told now, and whether the record was seen since with alerts that wait.
    told: HashMap<AlertKey, bool>,
    rests: HashMap<AlertKey, Rest>,
}

impl Delivery<'_> {
    /// No alert of a rule is told any more. Gives when to look again.
    fn ended(&mut self, of: AlertKey, outcome: Result<()>) -> Option<Instant> {
        let has_more = self.told.remove(&of).unwrap_or_default();
        let Err(error) = outcome else {
            self.rests.remove(&of);
            return has_more.then(Instant::now);
        };
        tracing::warn!(?error, app = %of.app, "an alert was not taken");
        let pause = self.rests.get(&of).map_or(FIRST_PAUSE, |rest| (rest.pause * 2).min(LONGEST_PAUSE));
        let until = Instant::now() + pause;
        self.rests.insert(of, Rest { until, pause });
        Some(until)
    }
}

impl Alerts {
    /// Tells what waits, and what comes.
    pub(super) async fn tell_all(&self) {
        let mut delivery = Delivery::default();
        let mut look = Some(Instant::now());
        loop {
            let due = async {
                match look {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.news.notified() => look = Some(Instant::now()),
                () = due => look = self.begin(&mut delivery).await.unwrap_or_else(|error| {
                    tracing::warn!(?error, "alerts cannot be read");
                    Some(Instant::now() + LONGEST_PAUSE)
                }),
                Some((of, outcome)) = delivery.calls.next() => {
                    look = [look, delivery.ended(of, outcome)].into_iter().flatten().min();
                }
            }
        }
    }

    /// Begins to tell what is due and not told yet. Gives when something else is.
    async fn begin<'a>(&'a self, delivery: &mut Delivery<'a>) -> Result<Option<Instant>> {
        let (all, _) = self.store.list_readable::<Raised>(ALERT).await?;
        let first = |Versioned { value, .. }: Versioned<Raised>| {
            Some((value.key, value.waiting.into_iter().next()?.notify))
        };
        let waiting: HashMap<AlertKey, String> = all.into_iter().filter_map(first).collect();
        delivery.rests.retain(|of, _| waiting.contains_key(of));
        let now = Instant::now();
        for (of, notify) in waiting {
            if let Some(has_more) = delivery.told.get_mut(&of) {
                *has_more = true;
            } else if delivery.rests.get(&of).is_none_or(|rest| rest.until <= now) {
                delivery.told.insert(of.clone(), false);
                delivery.calls.push(Box::pin(async move {
                    let outcome = self.tell_of(&of, notify).await;
                    (of, outcome)
                }));
            }
        }
        Ok(delivery.rests.values().map(|rest| rest.until).filter(|until| *until > now).min())
    }

    /// Tells the alerts of a rule that wait, the oldest first, up to one that is not taken. While it waits for its turn it holds
    /// none of them.
    async fn tell_of(&self, of: &AlertKey, mut notify: String) -> Result<()> {
        loop {
            let recipient = self.recipients.get(&notify);
            let _turn = match recipient {
                Some(recipient) => recipient.turn().await,
                None => None,
            };
            let Some(known) = self.store.get::<Raised>(&key(of)?).await? else { return Ok(()) };
            let Some(alert) = known.value.waiting.into_iter().next() else { return Ok(()) };
            if alert.notify == notify {
                self.tell(of, &alert, recipient).await?;
            } else {
                notify = alert.notify;
            }
        }
    }

    /// Tells of an alert, and notes that it waits no more.
    async fn tell(&self, of: &AlertKey, alert: &Alert, recipient: Option<&Recipient>) -> Result<()> {
        let Some(notification) = self.notification(of, alert).await? else {
            tracing::info!(app = %of.app, "alerts of an app that is gone are told to nobody");
            return self.forget_gone(of).await;
        };
        let is_late = self.clock.now().since(alert.at) > TOO_LATE;
        match recipient.filter(|_| !is_late) {
            Some(recipient) => self.bring(recipient, &notification).await?,
            None => {
                tracing::error!(app = %of.app, notify = alert.notify, "an alert could not be told to anybody");
            }
        }
        self.settle(of, &alert.id).await
    }

    /// `Ok` where it is taken, and where it never will be.
    async fn bring(&self, recipient: &Recipient, notification: &Notification) -> Result<()> {
        let Err(error) = recipient.notifier.notify(&self.store.scope, notification).await else {
            return Ok(());
        };
        let error = error.with("notify", &notification.alert.notify);
        if error.kind() == ErrorKind::Invalid {
            tracing::error!(?error, "an alert is refused for good");
            return Ok(());
        }
        recipient.refused(&error);
        Err(error)
    }
}
