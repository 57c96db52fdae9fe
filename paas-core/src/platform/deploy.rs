//! Writes the intent of a release. See [`EnvironmentHandle::deploy`].

use std::collections::{BTreeMap, BTreeSet};

use super::operation::OperationHandle;
use super::{EnvironmentHandle, Inner};
use crate::engine::decide::intend;
use crate::engine::observed::Observed;
use crate::engine::reconcile::{NEVER, RevisionCache};
use crate::engine::record::{AppRecord, Desired, RevisionRef, SCHEMA, ServiceState};
use crate::engine::store::{RACES, revision_key};
use crate::engine::template::Revisions;
use crate::model::{
    AppId, AppSpec, Key, Operation, OperationId, OperationKind, OperationState, Revision, RevisionNumber,
    ServiceId, ServiceName, TenantId, Version, limit,
};
use crate::port::{Expected, Selector};
use crate::{Error, ErrorKind, Result};

impl Inner {
    /// The revision that a spec makes now, with the newest version of every secret pinned.
    pub(super) async fn revision(&self, tenant: &TenantId, spec: AppSpec) -> Result<Revision> {
        let wanted: BTreeSet<_> =
            spec.services.values().flat_map(|service| service.secrets.clone()).collect();
        let mut pinned = BTreeMap::new();
        if !wanted.is_empty() {
            let own = self.own(crate::model::Resource::Tenant(tenant.clone()));
            let known: BTreeMap<_, _> = self.secrets.list(&own, tenant).await?.into_iter().collect();
            for name in wanted {
                let unset =
                    || Error::invalid("the secret is not set; set it, then deploy").with("secret", &name);
                let version = *known.get(&name).ok_or_else(unset)?;
                pinned.insert(name, version);
            }
        }
        Ok(Revision::new(spec, pinned))
    }

    pub(super) async fn revisions(&self, app: &AppRecord) -> Result<Revisions> {
        RevisionCache::default().load(&self.store, app).await
    }

    pub(super) async fn observe(&self, app: &AppRecord) -> Result<Observed> {
        let selector = Selector::App(app.tenant.clone(), app.environment.clone(), app.id.clone());
        let own = self.own(app.resource());
        let workloads = self.scheduler.list(&own, &selector).await?;
        let native = self.scheduler.capabilities().native_rolling;
        Ok(Observed::new(workloads, self.router.observe(&own, &selector).await?, native))
    }

    /// Refuses what no backend can do, before anything is stored.
    fn check_capabilities(&self, spec: &AppSpec) -> Result<()> {
        let (scheduler, router) = (self.scheduler.capabilities(), self.router.capabilities());
        let rules = std::iter::once(&spec.logs).chain(spec.services.values().map(|service| &service.logs));
        for rules in rules {
            for alert in &rules.alerts {
                let text = "the platform knows nobody of this name who could be told of alerts";
                is_known("notify", &alert.notify, self.alerts.names(), text)?;
            }
            for route in &rules.route {
                let names = self.logs.iter().flat_map(|logs| logs.sinks.keys().map(String::as_str));
                is_known("to", &route.to, names, "the platform knows no place of this name for log lines")?;
            }
        }
        for (name, service) in &spec.services {
            let refuse = |what: &str| {
                Err(Error::new(ErrorKind::Unsupported, format!("the backend has no {what}"))
                    .with("service", name))
            };
            if !service.sources().iter().any(|source| scheduler.sources.contains(&source.word())) {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the scheduler runs none of the service's sources",
                )
                .with("service", name)
                .with("scheduler", self.scheduler.name())
                .with("runs", scheduler.sources.join(", ")));
            }
            let release = service.release();
            match () {
                () if !service.volumes.is_empty() && !scheduler.volumes => refuse("volumes")?,
                () if release.header.is_some() && !router.headers => refuse("routing by header")?,
                // It would go over at once, with nobody having seen the new revision work.
                () if service.shares_out() && !router.weights => {
                    refuse("shares of the requests of a domain, which a canary needs")?;
                }
                () if release.sticky.is_some() && !router.sticky => refuse("sticky cookies")?,
                () => {}
            }
        }
        Ok(())
    }

    /// Changes an app's record, as often as somebody else is faster.
    pub(super) async fn update<T>(
        &self,
        tenant: &TenantId,
        id: &AppId,
        mut change: impl FnMut(&mut AppRecord) -> Result<T>,
    ) -> Result<T> {
        for _ in 0..RACES {
            let stored = self.store.app(tenant, id).await?;
            let stored = stored.ok_or_else(|| Error::not_found("no such app").with("app", id))?;
            let mut app = stored.value.clone();
            let outcome = change(&mut app)?;
            if app == stored.value {
                return Ok(outcome);
            }
            match self.store.put_app(&app, Expected::Version(stored.version)).await {
                Ok(_) => return Ok(outcome),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::unavailable("the app is being changed too often; try again").with("app", id))
    }
}

/// How many operations may end without being archived, which is the leader's work.
const UNARCHIVED: usize = 16;

/// How many names of services an app keeps before it forgets old ones.
const NAMES: usize = 2 * limit::SERVICES;

/// What has become of a deploy.
enum Stored {
    /// It is in the app's record.
    Intent(OperationId),
    /// The app is no more.
    Gone,
    /// It is not stored, and will not be.
    Refused(Error),
}

/// What an app forgets.
#[derive(Default)]
struct Surplus {
    revisions: BTreeSet<RevisionNumber>,
    services: BTreeSet<ServiceName>,
}

impl Surplus {
    /// Leaves the app's record, but for what is in use.
    fn leave(&self, app: &mut AppRecord) {
        let used: BTreeSet<_> = app.revisions_in_use().collect();
        app.revisions.retain(|known| used.contains(&known.number) || !self.revisions.contains(&known.number));
        app.services.retain(|name, service| !self.services.contains(name) || service.is_in_use());
    }
}

/// Puts a new operation in the place of the one that is going on.
///
/// # Errors
/// `Unavailable` where operations pile up because no replica leads.
pub(super) fn replace_operation(app: &mut AppRecord, operation: Operation) -> Result<()> {
    if app.ended.len() >= UNARCHIVED {
        return Err(Error::unavailable(
            "operations are not carried out: does a replica of the platform lead?",
        )
        .with("app", &app.name)
        .with("waiting", app.ended.len()));
    }
    if let Some(mut before) = app.operation.take() {
        if !before.state.is_final() {
            before.note(operation.created, None, format!("superseded: {}", operation.kind));
            before.end(operation.created, OperationState::Superseded);
        }
        app.ended.push(before);
    }
    intend(app, &operation.kind);
    app.progressed = operation.created;
    app.operation = Some(operation);
    Ok(())
}

impl EnvironmentHandle {
    pub(super) async fn deploy_spec(&self, spec: AppSpec) -> Result<OperationHandle> {
        let inner = self.inner();
        inner.check_capabilities(&spec)?;
        let revision = inner.revision(&self.tenant.id, spec).await?;
        // Drawn once: a seeded source gives the same ids whoever else writes meanwhile.
        let fresh: Vec<ServiceId> =
            revision.spec.services.iter().map(|_| ServiceId::generate(&inner.ids)).collect();
        for _ in 0..RACES {
            let id = self.claim_app(&revision).await?;
            let mut made = Vec::new();
            match self.release(&id, &revision, &fresh, &mut made).await? {
                Stored::Intent(operation) => return Ok(OperationHandle::new(self.clone(), id, operation)),
                // It was removed in between: the name is free again, and so is what was claimed for it since.
                Stored::Gone => self.release_domains(&id, &revision).await?,
                Stored::Refused(refusal) => {
                    if let Err(error) = self.give_back(&id, made).await {
                        tracing::warn!(app = %revision.spec.app, ?error, "domains stay claimed for an hour");
                    }
                    return Err(refusal);
                }
            }
        }
        Err(Error::unavailable("the app is being removed; try again").with("app", &revision.spec.app))
    }

    /// Stores all of a deploy, and last the app's record.
    ///
    /// # Errors
    /// It may be stored all the same.
    async fn release(
        &self,
        id: &AppId,
        revision: &Revision,
        fresh: &[ServiceId],
        made: &mut Vec<(Key, Version)>,
    ) -> Result<Stored> {
        if let Err(error) = self.claim_domains(id, revision, made).await {
            return Ok(Stored::Refused(error));
        }
        // Its key is its digest, so it has no other value.
        let key = revision_key(&self.tenant.id, id, &revision.digest())?;
        if let Err(error) = self.inner().store.renew(&key, revision).await {
            return Ok(Stored::Refused(error));
        }
        self.store_deploy(id, revision, &OperationId::generate(&self.inner().ids), fresh).await
    }

    /// Stores a deploy in the app's record.
    async fn store_deploy(
        &self,
        id: &AppId,
        revision: &Revision,
        operation: &OperationId,
        fresh: &[ServiceId],
    ) -> Result<Stored> {
        let (inner, tenant) = (self.inner(), &self.tenant.id);
        let Some(stored) = inner.store.app(tenant, id).await? else {
            let mut app = self.empty(id.clone(), revision);
            self.intend_deploy(&mut app, revision, operation, fresh)?;
            match inner.store.put_app(&app, Expected::Absent).await {
                // Somebody else was faster, with the first deploy of the same app.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
                Ok(_) => return self.stored(&app, operation).await,
            }
            return Box::pin(self.store_deploy(id, revision, operation, fresh)).await;
        };
        let surplus = self.surplus(&stored.value).await?;
        let mut is_refused = false;
        let stored = inner
            .update(tenant, id, |app| {
                surplus.leave(app);
                let intent = self.intend_deploy(app, revision, operation, fresh);
                is_refused = intent.is_err();
                intent.map(|()| app.clone())
            })
            .await;
        match stored {
            Ok(app) => self.stored(&app, operation).await,
            Err(error) if is_refused => Ok(Stored::Refused(error)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Stored::Gone),
            Err(error) => Err(error),
        }
    }

    /// What has become of an intent that is in an app's record. An app of this id may have come and gone since the name was
    /// looked up: the engine forgets a record without its name, before anything of it runs.
    async fn stored(&self, app: &AppRecord, operation: &OperationId) -> Result<Stored> {
        let is_kept = app.epoch != NEVER || self.inner().store.is_named(app).await?;
        Ok(if is_kept { Stored::Intent(operation.clone()) } else { Stored::Gone })
    }

    /// What leaves an app whose services change their names so often that they would fill its record: the oldest
    /// revisions, and the services that none of the others has. Their ids, and so their volumes, do not come back with
    /// their names.
    async fn surplus(&self, app: &AppRecord) -> Result<Surplus> {
        let (store, mut surplus) = (&self.inner().store, Surplus::default());
        if app.services.len() <= NAMES {
            return Ok(surplus);
        }
        let mut kept = BTreeSet::new();
        for known in app.revisions.iter().rev() {
            if kept.len() > NAMES {
                surplus.revisions.insert(known.number);
                continue;
            }
            let key = revision_key(&app.tenant, &app.id, &known.digest)?;
            // It goes where the app is just being forgotten.
            let Some(revision) = store.get::<Revision>(&key).await? else { return Ok(Surplus::default()) };
            kept.extend(revision.value.spec.services.into_keys());
        }
        surplus.services = app.services.keys().filter(|name| !kept.contains(*name)).cloned().collect();
        Ok(surplus)
    }

    /// The record of an app that was never deployed.
    fn empty(&self, id: AppId, revision: &Revision) -> AppRecord {
        AppRecord {
            schema: SCHEMA,
            id,
            tenant: self.tenant.id.clone(),
            environment: self.environment.id.clone(),
            tenant_name: self.tenant.name.clone(),
            environment_name: self.environment.name.clone(),
            name: revision.spec.app.clone(),
            desired: Desired::Running,
            revisions: Vec::new(),
            last_revision: RevisionNumber(0),
            promoted: None,
            services: BTreeMap::new(),
            operation: None,
            progressed: self.inner().clock.now(),
            ended: Vec::new(),
            epoch: NEVER,
        }
    }

    fn intend_deploy(
        &self,
        app: &mut AppRecord,
        revision: &Revision,
        id: &OperationId,
        fresh: &[ServiceId],
    ) -> Result<()> {
        let inner = self.inner();
        let going = app
            .operation
            .as_ref()
            .filter(|operation| !operation.state.is_final())
            .map(|operation| &operation.kind);
        match (app.desired, going) {
            (Desired::Removed, _) => {
                return Err(Error::conflict("the app is being removed").with("app", &app.name));
            }
            (Desired::Stopped, _) => {
                return Err(
                    Error::conflict("the app is stopped; start it, then deploy").with("app", &app.name)
                );
            }
            (Desired::Running, Some(OperationKind::Start)) => {
                return Err(Error::conflict("the app is starting; deploy once it has").with("app", &app.name));
            }
            (Desired::Running, _) => {}
        }
        let now = inner.clock.now();
        let digest = revision.digest();
        let number = match app.revisions.iter().find(|known| known.digest == digest) {
            Some(known) => known.number,
            None => {
                app.last_revision = RevisionNumber(app.last_revision.0 + 1);
                let (number, actor) = (app.last_revision, self.principal.to_string());
                let domains =
                    revision.spec.services.values().flat_map(|service| service.domain.clone()).collect();
                app.revisions.push(RevisionRef {
                    number,
                    digest,
                    created: now,
                    actor,
                    released: false,
                    domains,
                });
                number
            }
        };
        for ((name, service), id) in revision.spec.services.iter().zip(fresh) {
            let fresh = || ServiceState::new(id.clone(), service);
            let state = app.services.entry(name.clone()).or_insert_with(fresh);
            if state.kind != service.kind {
                return Err(Error::invalid(
                    "a service cannot become a task, nor a task a service; give it another name",
                )
                .with("service", name));
            }
        }
        let kind = OperationKind::Deploy(number);
        let (tenant, actor) = (self.tenant.id.clone(), self.principal.to_string());
        replace_operation(app, Operation::new(id.clone(), tenant, app.id.clone(), kind, actor, now))?;
        trim_revisions(app);
        Ok(())
    }
}

/// Forgets the oldest revisions that nothing runs or returns to: first those that never were released as a whole, so that
/// failures do not push out what one may want to go back to.
fn trim_revisions(app: &mut AppRecord) {
    let used: BTreeSet<_> = app.revisions_in_use().collect();
    let mut excess = app.revisions.len().saturating_sub(limit::REVISIONS);
    for released in [false, true] {
        app.revisions.retain(|known| {
            let goes = excess > 0 && known.released == released && !used.contains(&known.number);
            excess -= usize::from(goes);
            !goes
        });
    }
}

/// Refuses a name that is not among those that are known.
fn is_known<'a>(
    field: &'static str,
    name: &str,
    mut known: impl Iterator<Item = &'a str> + Clone,
    text: &str,
) -> Result<()> {
    let all = known.clone();
    if known.any(|known| known == name) {
        return Ok(());
    }
    Err(Error::invalid(text).with(field, name).with("known", all.collect::<Vec<_>>().join(", ")))
}
