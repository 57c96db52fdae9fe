//! Who sends lines in: credentials and instances, as the platform's own records know them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::Result;
use crate::engine::store::{LOG_CREDENTIAL, Store, decode, log_credential_key};
use crate::model::{Digest, LogCredential, LogOrigin, LogSender, LogStream, Scope, Secret, WorkloadStatus};
use crate::port::{Scheduler, Selector};

/// How a token begins.
pub(super) const PREFIX: &str = "paaslog_";
/// The length of a token: after the beginning, 256 bits in hexadecimal.
pub(super) const LENGTH: usize = PREFIX.len() + 64;

/// For so long, what was read of a credential counts.
const FRESH: Duration = Duration::from_secs(5);
/// So many credentials are remembered, those that are none included.
const MOST: usize = 10_000;
/// So many are looked for at once: who guesses keeps no others from the store.
const AT_ONCE: usize = 8;

/// Between two looks for credentials of apps that are gone.
const SWEEP: Duration = Duration::from_secs(60 * 60);

/// The instances are asked for again after this time, or sooner where one is missing.
const KNOWN: Duration = Duration::from_secs(10);
const MISSING: Duration = Duration::from_secs(2);
/// An instance that has ended is known for so long: its last lines may come late.
const ENDED: Duration = Duration::from_secs(3_600);
/// So many names of instances are known, those that have ended included.
const INSTANCES: usize = 200_000;

/// Under which a token is known: whoever reads the records learns no token from it.
pub(super) fn digest(token: &Secret) -> Option<Digest> {
    let text = std::str::from_utf8(token.expose()).ok()?;
    let is_one = text.len() == LENGTH && text.starts_with(PREFIX);
    is_one.then(|| Digest::of(&("log credential", text)))
}

/// Credentials that somebody sent with lately.
#[derive(Debug)]
pub(crate) struct Senders {
    known: Mutex<HashMap<Digest, (Instant, Option<LogCredential>)>>,
    asking: Semaphore,
}

impl Default for Senders {
    fn default() -> Self {
        Self { known: Mutex::default(), asking: Semaphore::new(AT_ONCE) }
    }
}

impl Senders {
    fn known(&self) -> MutexGuard<'_, HashMap<Digest, (Instant, Option<LogCredential>)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fresh(&self, digest: &Digest) -> Option<Option<LogCredential>> {
        let known = self.known();
        known.get(digest).filter(|(read, _)| read.elapsed() < FRESH).map(|(_, found)| found.clone())
    }

    /// Who sends with a token.
    pub(super) async fn of(&self, store: &Store, token: &Secret) -> Result<Option<LogCredential>> {
        let Some(digest) = digest(token) else { return Ok(None) };
        if let Some(found) = self.fresh(&digest) {
            return Ok(found);
        }
        let _asking = self.asking.acquire().await;
        // Somebody else may have asked meanwhile.
        if let Some(found) = self.fresh(&digest) {
            return Ok(found);
        }
        // What is revoked from here on counts from the next look on.
        let read = Instant::now();
        let found = read_from(store, &digest).await?;
        let mut known = self.known();
        if known.len() >= MOST {
            known.retain(|_, (read, _)| read.elapsed() < FRESH);
        }
        if known.len() >= MOST {
            // Somebody guesses, and fast.
            known.retain(|_, (_, found)| found.is_some());
        }
        if known.len() < MOST {
            known.insert(digest, (read, found.clone()));
        }
        Ok(found)
    }

    /// A credential of this replica was revoked.
    pub(super) fn forget(&self) {
        self.known().clear();
    }
}

/// A credential, where there is one and its service is not gone.
async fn read_from(store: &Store, digest: &Digest) -> Result<Option<LogCredential>> {
    let Some(found) = store.get::<LogCredential>(&log_credential_key(digest)?).await? else {
        return Ok(None);
    };
    let LogSender::Service(tenant, environment, app, service) = &found.value.sender else {
        return Ok(Some(found.value));
    };
    let Some(app) = store.app(tenant, app).await? else { return Ok(None) };
    let is_there =
        app.value.environment == *environment && app.value.services.values().any(|own| own.id == *service);
    Ok(is_there.then_some(found.value))
}

/// Removes the credentials of apps that are gone, now and then: nobody can send with them any more.
pub(super) async fn sweep(store: &Store) {
    loop {
        if let Err(error) = forget_gone(store).await {
            tracing::warn!(?error, "credentials for log lines are not looked through");
        }
        tokio::time::sleep(SWEEP).await;
    }
}

pub(super) async fn forget_gone(store: &Store) -> Result<()> {
    for record in store.state.list(&store.scope, LOG_CREDENTIAL, None).await? {
        let Ok(credential) = decode::<LogCredential>(&record) else { continue };
        let LogSender::Service(tenant, _, app, _) = &credential.sender else { continue };
        if store.app(tenant, app).await?.is_none() {
            store.delete_unchanged(&record.key, record.version).await?;
        }
    }
    Ok(())
}

/// The instances of all services, those that have ended lately included.
#[derive(Debug)]
pub(crate) struct Instances {
    scheduler: Arc<dyn Scheduler>,
    table: tokio::sync::Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    read: Option<Instant>,
    /// When each was seen last, and whose it is; `None` where more than one service has an instance of this id, as clusters name
    /// instances within an environment only.
    instances: HashMap<Box<str>, (Instant, Option<Arc<LogOrigin>>)>,
}

impl Instances {
    pub(crate) fn new(scheduler: Arc<dyn Scheduler>) -> Self {
        Self { scheduler, table: tokio::sync::Mutex::default() }
    }

    /// The output of an instance, by its id or an alias.
    pub(super) async fn find(&self, scope: &Scope, id: &str) -> Result<Option<LogOrigin>> {
        let mut table = self.table.lock().await;
        let age = table.read.map(|read| read.elapsed());
        let known = table.instances.contains_key(id);
        if age.is_none_or(|age| age >= if known { KNOWN } else { MISSING }) {
            match self.scheduler.list(scope, &Selector::All).await {
                Ok(workloads) => table.take(workloads),
                // What an id belongs to never changes.
                Err(error) if known => tracing::debug!(?error, "instances cannot be listed"),
                Err(error) => return Err(error),
            }
        }
        Ok(table.instances.get(id).and_then(|(_, origin)| origin.as_deref().cloned()))
    }
}

impl Table {
    fn take(&mut self, workloads: Vec<WorkloadStatus>) {
        let now = Instant::now();
        for workload in workloads {
            let service = workload.key.resource();
            for instance in workload.instances {
                let (id, revision) = (Box::from(instance.id.as_str()), instance.revision);
                let Some(origin) = LogOrigin::new(&service, revision, instance.id, LogStream::Combined)
                else {
                    continue;
                };
                let origin = Arc::new(origin);
                for name in instance.aliases.into_iter().chain([id]) {
                    let known =
                        self.instances.entry(name).or_insert_with(|| (now, Some(Arc::clone(&origin))));
                    let is_same = |known: &Arc<LogOrigin>| {
                        known.instance == origin.instance && known.resource() == service
                    };
                    *known = (now, known.1.as_ref().is_some_and(is_same).then(|| Arc::clone(&origin)));
                }
            }
        }
        self.instances.retain(|_, (seen, _)| seen.elapsed() < ENDED);
        if self.instances.len() > INSTANCES {
            self.instances.retain(|_, (seen, _)| *seen == now);
        }
        self.read = Some(now);
    }
}
