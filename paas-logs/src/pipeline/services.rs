//! The rules of services, ready for their lines, and kept as long as nothing about them changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt;
use paas_core::Result;
use paas_core::model::{AppId, LogFilter, LogOrigin, LogRuleCount, LogRules, Resource, Secret, ServiceId};
use paas_core::port::LogPorts;

use crate::alert::AlertRules;
use crate::counter::Counters;
use crate::process::{JoinRule, Joiner, ProcessConfig, Processor, Routes};

/// Services whose lines were seen.
#[derive(Debug, Default)]
pub(crate) struct Services {
    config: ProcessConfig,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    services: HashMap<(AppId, ServiceId), Kept>,
    /// Counts what was heard of changes: what was read before one may be too old.
    era: u64,
    is_watched: bool,
}

/// A service, and whether something about it may have changed since.
#[derive(Debug)]
struct Kept {
    service: Arc<Service>,
    is_stale: bool,
}

/// So many secrets of a service are known that are not in use any more.
const EARLIER: usize = 100;
/// How many services are kept before those go that may have changed.
const MOST: usize = 10_000;

/// The rules of a service.
#[derive(Debug)]
pub(crate) struct Service {
    resource: Resource,
    /// Nobody knows it, so nothing of its lines goes on.
    is_unknown: bool,
    rules: Vec<LogRules>,
    /// Those in use, and before them those that were: lines of a revision that is gone come late.
    secrets: Vec<Secret>,
    join: JoinRule,
    processor: Processor,
    alerts: AlertRules,
    routes: Routes,
    counters: Counters,
}

impl Service {
    pub(crate) fn processor(&self) -> &Processor {
        &self.processor
    }

    #[cfg(feature = "intake")]
    pub(crate) fn is_unknown(&self) -> bool {
        self.is_unknown
    }

    /// Whether it was made with these values, among others.
    fn knows(&self, secrets: &[Secret]) -> bool {
        secrets.iter().all(|other| self.secrets.iter().any(|own| own.expose() == other.expose()))
    }

    pub(crate) fn alerts(&self) -> &AlertRules {
        &self.alerts
    }

    pub(crate) fn routes(&self) -> &Routes {
        &self.routes
    }

    /// What joins the lines of one of its outputs.
    pub(crate) fn joiner(&self, origin: &LogOrigin) -> Joiner {
        Joiner::new(origin.clone(), self.join.clone())
    }
}

/// Secrets in use, and before them the newest of those that were.
fn with_earlier(secrets: Vec<Secret>, earlier: &[Secret]) -> Vec<Secret> {
    let is_gone = |own: &&Secret| secrets.iter().all(|other| own.expose() != other.expose());
    let mut all: Vec<Secret> = earlier.iter().filter(is_gone).cloned().collect();
    all.drain(..all.len().saturating_sub(EARLIER));
    all.extend(secrets);
    all
}

/// The rules of lines of which nothing may go on.
fn nothing() -> LogRules {
    let mut rules = LogRules::default();
    rules.drop = vec![LogFilter::All];
    rules
}

impl Known {
    /// A service about which nothing has changed.
    fn fresh(&self, key: &(AppId, ServiceId)) -> Option<Arc<Service>> {
        let kept = self.services.get(key).filter(|kept| self.is_watched && !kept.is_stale);
        kept.map(|kept| Arc::clone(&kept.service))
    }

    /// Something about these apps may have changed.
    fn heard(&mut self, is_theirs: impl Fn(&AppId) -> bool) {
        self.era += 1;
        let theirs = self.services.iter_mut().filter(|((app, _), _)| is_theirs(app));
        theirs.for_each(|(_, kept)| kept.is_stale = true);
    }
}

impl Services {
    pub(crate) fn new(config: ProcessConfig) -> Self {
        Self { config, known: Mutex::default() }
    }

    pub(crate) fn config(&self) -> &ProcessConfig {
        &self.config
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The service of an output. The last lines of one that is gone are treated as those before; of one that was never seen
    /// nobody knows what is secret in its lines, so nothing of them goes on.
    ///
    /// # Errors
    /// Those of the directory: then nothing may be done with its lines.
    pub(crate) async fn of(self: &Arc<Self>, ports: &LogPorts, origin: &LogOrigin) -> Result<Arc<Service>> {
        let key = (origin.app.clone(), origin.service.clone());
        if let Some(fresh) = self.known().fresh(&key) {
            return Ok(fresh);
        }
        self.watch(ports).await?;
        let (era, before) = {
            let known = self.known();
            (known.era, known.services.get(&key).map(|kept| Arc::clone(&kept.service)))
        };
        let found = ports.directory.service(origin).await?;
        if let (None, Some(before)) = (&found, &before) {
            return Ok(Arc::clone(before));
        }
        let is_unknown = found.is_none();
        let (rules, secrets) = match found {
            Some(found) => (found.rules, found.secrets),
            None => (vec![nothing()], Vec::new()),
        };
        let same = |before: &&Arc<Service>| {
            before.is_unknown == is_unknown && before.rules == rules && before.knows(&secrets)
        };
        if let Some(before) = before.as_ref().filter(same) {
            // Whoever has it goes on with it.
            return Ok(self.keep(key, Arc::clone(before), era));
        }
        let secrets = with_earlier(secrets, before.as_deref().map_or(&[], |before| &before.secrets));
        let counters = before.map(|before| before.counters.clone()).unwrap_or_default();
        let processor = Processor::new(&self.config, &rules, &secrets, &counters)?;
        let (join, alerts, resource) = (JoinRule::of(&rules)?, AlertRules::new(&rules)?, origin.resource());
        let routes = Routes::new(&rules, &counters)?;
        let service =
            Service { resource, is_unknown, rules, secrets, join, processor, alerts, routes, counters };
        let service = Arc::new(service);
        Ok(self.keep(key, service, era))
    }

    /// Keeps what was read before anything was heard that this era does not know.
    fn keep(&self, key: (AppId, ServiceId), service: Arc<Service>, era: u64) -> Arc<Service> {
        let mut known = self.known();
        if known.services.len() >= MOST {
            known.services.retain(|_, kept| !kept.is_stale);
        }
        let is_stale = !known.is_watched || known.era != era;
        known.services.insert(key, Kept { service: Arc::clone(&service), is_stale });
        service
    }

    /// What rules have done, service by service.
    pub(crate) fn counts(&self, resource: &Resource) -> Vec<(ServiceId, Vec<LogRuleCount>)> {
        let known = self.known();
        let own = known.services.iter().filter(|(_, kept)| resource.contains(&kept.service.resource));
        own.map(|((_, id), kept)| (id.clone(), kept.service.counters.all())).collect()
    }

    /// Notes what changes, from now on and as long as anybody has this.
    async fn watch(self: &Arc<Self>, ports: &LogPorts) -> Result<()> {
        if self.known().is_watched {
            return Ok(());
        }
        let mut changes = ports.directory.changes().await?;
        {
            let mut known = self.known();
            if std::mem::replace(&mut known.is_watched, true) {
                return Ok(());
            }
            known.heard(|_| true);
        }
        let services = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(app) = changes.next().await {
                let Some(services) = services.upgrade() else { return };
                services.known().heard(|own| *own == app);
            }
            if let Some(services) = services.upgrade() {
                let mut known = services.known();
                known.is_watched = false;
                known.heard(|_| true);
            }
        });
        Ok(())
    }
}
