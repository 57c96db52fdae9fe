//! One pass over one app: load, observe, decide, store, act.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::decide::{Decision, decide};
use super::defect::{self, Defect};
use super::desire::{Action, actions};
use super::drift::Rests;
use super::known::Known;
use super::observed::Observed;
use super::ports::{EngineEvent, Ports};
use super::record::{AppRecord, Desired, Phase, Rollout};
use super::rollout::{Course, Situation};
use super::store::{DomainClaim, Store, Versioned, app_key, app_name_key, domain_key, revision_key};
use super::template::Revisions;
use crate::model::{
    AbortRule, AppId, Clock, Digest, Epoch, FieldName, FieldTest, LogFilter, LogQuery, Principal, Resource,
    Revision, Scope, TenantId, Timestamp, Version,
};
use crate::port::{Expected, LogStore, Selector};
use crate::{ErrorKind, Result};

/// The epoch of a record that no leader has written: nothing of it runs.
pub(crate) const NEVER: Epoch = Epoch(0);

/// Looks at apps, in the term of one leader.
#[derive(Clone, Debug)]
pub(crate) struct Reconciler {
    pub(crate) ports: Ports,
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) epoch: Epoch,
    pub(crate) revisions: RevisionCache,
    pub(crate) known: Known,
    pub(crate) rests: Arc<Rests>,
    pub(crate) events: tokio::sync::broadcast::Sender<EngineEvent>,
}

/// Revisions never change, so each is read once.
#[derive(Clone, Debug, Default)]
pub(crate) struct RevisionCache(Arc<Mutex<Cached>>);

type Cached = HashMap<AppId, BTreeMap<Digest, Arc<Revision>>>;

impl RevisionCache {
    /// The revisions that an app's record refers to.
    pub(crate) async fn load(&self, store: &Store, app: &AppRecord) -> Result<Revisions> {
        let mut found = Revisions::new();
        for number in app.revisions_in_use() {
            let Some(known) = app.revision_ref(number).filter(|_| !found.contains_key(&number)) else {
                continue;
            };
            let cached = self.cached().get(&app.id).and_then(|own| own.get(&known.digest).cloned());
            let revision = match cached {
                Some(revision) => revision,
                None => Arc::new(store.revision(&app.tenant, &app.id, &known.digest).await?),
            };
            found.insert(number, revision);
        }
        let digest = |number| app.revision_ref(number).map(|known| known.digest.clone());
        let own = found.iter().filter_map(|(number, own)| Some((digest(*number)?, Arc::clone(own))));
        // Only what is in use stays, so memory follows the apps.
        self.cached().insert(app.id.clone(), own.collect());
        Ok(found)
    }

    fn cached(&self) -> MutexGuard<'_, Cached> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn apps(&self) -> usize {
        self.cached().len()
    }

    /// What another leader does is not told here.
    pub(crate) fn clear(&self) {
        self.cached().clear();
    }

    /// The app is no more.
    fn forget(&self, app: &AppId) {
        self.cached().remove(app);
    }
}

/// What a pass asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Something was decided: look again at once.
    Again,
    /// Calls were made: look again at once, unless they are made for nothing.
    Acted(Acted),
    /// A leader of this later term has written the record: this one's term is over.
    Deposed(Epoch),
    /// Look again at this time, or when something happens.
    At(Option<Timestamp>),
}

/// Stands for the calls of a pass, to tell whether they are made for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acted {
    pub(crate) calls: u64,
    /// What they were to change.
    pub(crate) found: u64,
}

impl Reconciler {
    /// One pass. Where nothing has changed, it asks nobody for anything that the backends do not know by themselves.
    pub(crate) async fn pass(&self, tenant: &TenantId, id: &AppId) -> Result<Next> {
        let outcome = self.look(tenant, id).await;
        if outcome.is_err() {
            // Somebody else may have changed the record, and that is not told yet.
            self.known.forget(id);
        }
        outcome
    }

    /// The record as it is stored.
    async fn read(&self, tenant: &TenantId, id: &AppId) -> Result<Option<Versioned<AppRecord>>> {
        let era = self.known.era();
        let stored = self.store.app(tenant, id).await?;
        stored.iter().for_each(|stored| self.known.put(era, stored.clone()));
        Ok(stored)
    }

    /// Looks at an app as it is known, and, where that is not enough, as it is stored.
    async fn look(&self, tenant: &TenantId, id: &AppId) -> Result<Next> {
        if let Some(known) = self.known.get(id)
            && let Some(next) = self.follow(known, false).await?
        {
            return Ok(next);
        }
        let Some(stored) = self.read(tenant, id).await? else {
            // Another leader has forgotten it.
            self.revisions.forget(id);
            return Ok(Next::At(None));
        };
        let next = self.follow(stored, true).await?;
        Ok(next.unwrap_or(Next::Again))
    }

    /// Does what follows from a record. Nothing does, if calls do and the record may be behind: what it is stored on
    /// condition of is no older than it, but calls have no condition.
    async fn follow(&self, stored: Versioned<AppRecord>, is_read: bool) -> Result<Option<Next>> {
        if stored.value.epoch > self.epoch {
            return Ok(Some(Next::Deposed(stored.value.epoch)));
        }
        if stored.value.epoch == NEVER && !self.store.is_named(&stored.value).await? {
            // Its deploy was told so, or has crashed: nobody could reach it.
            return if is_read {
                self.forget(&stored.value, stored.version).await.map(Some)
            } else {
                Ok(None)
            };
        }
        let revisions = self.revisions.load(&self.store, &stored.value).await?;
        let scope = self.scope(stored.value.resource());
        let observed = self.observe(&scope, &stored.value, &revisions).await?;
        let now = self.clock.now();
        let Decision { app, wake } = decide(&stored.value, &revisions, &observed, now, self.epoch);
        // Operations that change nothing else pile up, and a full record takes no more of them.
        let is_crowded = stored.value.ended.len() > 1;
        let (changed, version) = (is_crowded || app != stored.value, stored.version);
        if defect::has(Defect::IntentStoredLate) {
            for action in actions(Situation { app: &app, revisions: &revisions, observed: &observed, now }) {
                self.act(&scope, action).await?;
            }
        }
        let stored = if changed { self.save(stored, app).await? } else { stored };
        let app = &stored.value;
        let revisions = if changed { self.revisions.load(&self.store, app).await? } else { revisions };
        let due = actions(Situation { app, revisions: &revisions, observed: &observed, now });
        let is_over = due.is_empty() && app.desired == Desired::Removed && app.operation.is_none();
        if (is_over || !due.is_empty()) && !changed && !is_read {
            return Ok(None);
        }
        if is_over && !changed {
            self.archive(app).await?;
            return self.forget(app, version).await.map(Some);
        }
        let acted = if due.is_empty() {
            self.rests.put(&app.id, version, &observed);
            None
        } else {
            self.tell_drift(app, version, &observed, &due);
            Some(Acted { calls: fingerprint(&due), found: fingerprint(&observed.applied()) })
        };
        for action in due {
            if let Err(error) = self.act(&scope, action.clone()).await {
                if let Err(unsaid) = self.report(&stored, &action, &error).await {
                    tracing::debug!(app = %app.name, ?unsaid, "cannot note why it does not go on");
                }
                return Err(error);
            }
        }
        Ok(Some(match acted {
            _ if changed => Next::Again,
            Some(acted) => Next::Acted(acted),
            None => Next::At(wake),
        }))
    }

    fn scope(&self, resource: Resource) -> Scope {
        if defect::has(Defect::FencingSkipped) {
            return Scope::granted(Principal::Engine, resource, &crate::model::Action::ALL);
        }
        Scope::engine(resource, self.epoch)
    }

    async fn observe(&self, scope: &Scope, app: &AppRecord, revisions: &Revisions) -> Result<Observed> {
        let selector = Selector::App(app.tenant.clone(), app.environment.clone(), app.id.clone());
        let workloads = self.ports.scheduler.list(scope, &selector).await?;
        let routes = self.ports.router.observe(scope, &selector).await?;
        let mut observed =
            Observed::new(workloads, routes, self.ports.scheduler.capabilities().native_rolling);
        let empty = Observed::default();
        for (name, service) in &app.services {
            let Some(rollout) = &service.rollout else { continue };
            let situation = Situation { app, revisions, observed: &empty, now: Timestamp(0) };
            let Some(course) = Course::of(situation, name, service, rollout) else { continue };
            let rules = &course.release.abort_if;
            if self.ports.router.capabilities().traffic && rules.iter().any(AbortRule::is_of_requests) {
                let traffic = self.ports.router.traffic(scope, &app.service_resource(&service.id)).await?;
                observed.traffic.insert(service.id.clone(), traffic);
            }
            let is_judged = matches!(rollout.phase, Phase::Shifting | Phase::Holding)
                && rules.iter().any(|rule| !rule.is_of_requests());
            if let Some(store) = self.ports.log_store.as_ref().filter(|_| is_judged) {
                let resource = app.service_resource(&service.id);
                let lines = self.lines(&**store, scope, &resource, rules, rollout).await;
                if let Err(error) = &lines {
                    tracing::warn!(?error, app = %app.name, service = %name, "a release waits: its lines cannot be counted");
                }
                observed.lines.insert(service.id.clone(), lines.ok());
            }
        }
        Ok(observed)
    }

    /// How many of a revision's lines match each rule, up to now; none of a rule that is about requests.
    async fn lines(
        &self,
        store: &dyn LogStore,
        scope: &Scope,
        resource: &Resource,
        rules: &[AbortRule],
        rollout: &Rollout,
    ) -> Result<Vec<u64>> {
        let mut found = Vec::new();
        for rule in rules {
            let AbortRule::Log { filter, within, .. } = rule else {
                found.push(0);
                continue;
            };
            let own = LogFilter::Field(
                FieldName::new("revision")?,
                FieldTest::Exact(rollout.build.revision.to_string()),
            );
            let mut query = LogQuery::of(resource.clone()).matching(own).matching(filter.clone());
            query.to = self.clock.now() + Duration::from_millis(1);
            let from = query.to.0.saturating_sub(within.as_millis().try_into().unwrap_or(u64::MAX));
            // What the revision wrote before, another time, is not judged.
            query.from = Timestamp(from).max(rollout.begun);
            let counts = store.histogram(scope, &query, *within).await?;
            found.push(counts.iter().map(|bucket| bucket.count).sum());
        }
        Ok(found)
    }

    /// Stores what was decided, before anything is done about it. Operations that had ended before go with this write: they
    /// have records of their own by then, and one more write for each operation would be for nothing else.
    async fn save(&self, stored: Versioned<AppRecord>, mut app: AppRecord) -> Result<Versioned<AppRecord>> {
        self.archive(&stored.value).await?;
        app.ended.retain(|operation| stored.value.ended.iter().all(|archived| archived.id != operation.id));
        let saved = self.put(app, stored.version).await?;
        self.tell(&stored.value, &saved.value);
        Ok(saved)
    }

    pub(super) async fn put(&self, app: AppRecord, before: Version) -> Result<Versioned<AppRecord>> {
        let era = self.known.era();
        let version = self.store.put_app(&app, Expected::Version(before)).await?;
        let put = Versioned { value: app, version };
        self.known.put(era, put.clone());
        Ok(put)
    }

    /// Sends what somebody else has changed, if that is why these calls are due.
    fn tell_drift(&self, app: &AppRecord, version: Version, observed: &Observed, due: &[Action]) {
        for service in self.rests.end(&app.id, version, observed, due) {
            tracing::warn!(app = %app.name, %service, "drift: somebody else has changed it; it is put back");
            // Nobody listening is fine.
            let _ = self.events.send(EngineEvent::Drift(service));
        }
    }

    /// Sends what is new in an operation to whoever listens.
    fn tell(&self, before: &AppRecord, after: &AppRecord) {
        for operation in after.operation.iter().chain(&after.ended) {
            let known = before.operation.iter().chain(&before.ended).find(|known| known.id == operation.id);
            let seen = known.and_then(|known| known.events.last()).map(|event| event.number);
            for event in operation.events.iter().filter(|event| seen.is_none_or(|seen| event.number > seen)) {
                // Nobody listening is fine.
                let _ = self.events.send(EngineEvent::Operation {
                    tenant: after.tenant.clone(),
                    app: after.id.clone(),
                    name: after.name.clone(),
                    operation: operation.id.clone(),
                    event: event.clone(),
                });
            }
        }
    }

    /// Copies ended operations to records of their own; a crash before they leave the app's does so twice, to the same
    /// effect.
    async fn archive(&self, app: &AppRecord) -> Result<()> {
        for operation in &app.ended {
            if !defect::has(Defect::OperationLost) {
                self.store.archive(operation).await?;
            }
        }
        Ok(())
    }

    /// Forgets a removed app of which nothing runs. Its record goes before its revisions: what a crash leaves behind is
    /// referred to by nothing, and is collected. A name or domain that has a new owner meanwhile stays with it, and so does
    /// a record that somebody has written to meanwhile: what they asked for is acknowledged.
    async fn forget(&self, app: &AppRecord, version: Version) -> Result<Next> {
        for domain in app.revisions.iter().flat_map(|known| &known.domains) {
            let claimed = |claim: &DomainClaim| claim.app == app.id;
            self.store.delete_where(&domain_key(domain)?, claimed).await?;
        }
        let own = |id: &AppId| *id == app.id;
        self.store.delete_where(&app_name_key(&app.tenant, &app.environment, &app.name)?, own).await?;
        self.store.delete_version(&app_key(&app.tenant, &app.id)?, version).await?;
        self.known.bury(&app.id);
        self.rests.forget(&app.id);
        self.revisions.forget(&app.id);
        for known in &app.revisions {
            self.store.delete(&revision_key(&app.tenant, &app.id, &known.digest)?).await?;
        }
        Ok(Next::At(None))
    }

    async fn act(&self, scope: &Scope, action: Action) -> Result<()> {
        match action {
            Action::ApplyVolume(volume) => {
                let tenant = self.scope(Resource::Tenant(volume.tenant.clone()));
                self.ports.volumes.apply(&tenant, &volume).await.map(|_| ())
            }
            Action::ApplyRoute(route) => self.ports.router.apply(scope, &route).await.map(|_| ()),
            Action::RemoveRoute(service) => self.ports.router.remove(scope, &service).await,
            Action::ApplyWorkload(workload) => self.ports.scheduler.apply(scope, &workload).await.map(|_| ()),
            Action::RemoveWorkload(key) => self.ports.scheduler.remove(scope, &key).await,
        }
    }
}

/// Equal for equal calls.
fn fingerprint(what: &impl std::fmt::Debug) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    format!("{what:?}").hash(&mut hasher);
    hasher.finish()
}

/// Whether a failed pass only means that somebody else was faster.
pub(crate) fn is_race(error: &crate::Error) -> bool {
    error.kind() == ErrorKind::Conflict
}
