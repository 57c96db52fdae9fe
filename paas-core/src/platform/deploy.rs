//! Writes the intent of a release. See [`EnvironmentHandle::deploy`].

use std::collections::{BTreeMap, BTreeSet};

use super::operation::OperationHandle;
use super::{EnvironmentHandle, Inner};
use crate::engine::decide::intend;
use crate::engine::observed::Observed;
use crate::engine::reconcile::{NEVER, RevisionCache};
use crate::engine::record::{AppRecord, Desired, RevisionRef, SCHEMA, ServiceState};
use crate::engine::store::{DomainClaim, RACES, Renewal, app_name_key, domain_key, revision_key};
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

/// Errors that say that a deploy is not stored, and will not be.
const REFUSALS: [ErrorKind; 2] = [ErrorKind::Conflict, ErrorKind::Invalid];

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
            let outcome = self.release(&id, &revision, &fresh, &mut made).await;
            match &outcome {
                Err(error) if REFUSALS.contains(&error.kind()) => self.give_back(&id, made).await?,
                // It was removed in between: the name is free again, and so is what was claimed for it since.
                Ok(None) => self.release_domains(&id, &revision).await?,
                _ => {}
            }
            if let Some(operation) = outcome? {
                return Ok(OperationHandle::new(self.clone(), id, operation));
            }
        }
        Err(Error::unavailable("the app is being removed; try again").with("app", &revision.spec.app))
    }

    /// Stores all of a deploy, and last the app's record; nothing where the app is no more.
    async fn release(
        &self,
        id: &AppId,
        revision: &Revision,
        fresh: &[ServiceId],
        made: &mut Vec<(Key, Version)>,
    ) -> Result<Option<OperationId>> {
        self.claim_domains(id, revision, made).await?;
        // Its key is its digest, so it has no other value.
        let key = revision_key(&self.tenant.id, id, &revision.digest())?;
        self.inner().store.renew(&key, revision).await?;
        let operation = OperationId::generate(&self.inner().ids);
        let is_stored = self.store_deploy(id, revision, &operation, fresh).await?;
        Ok(is_stored.then_some(operation))
    }

    /// Whether the deploy is in the app's record; it is not where the app is no more.
    async fn store_deploy(
        &self,
        id: &AppId,
        revision: &Revision,
        operation: &OperationId,
        fresh: &[ServiceId],
    ) -> Result<bool> {
        let (inner, tenant) = (self.inner(), &self.tenant.id);
        let Some(stored) = inner.store.app(tenant, id).await? else {
            let mut app = self.empty(id.clone(), revision);
            self.intend_deploy(&mut app, revision, operation, fresh)?;
            match inner.store.put_app(&app, Expected::Absent).await {
                // Somebody else was faster, with the first deploy of the same app.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
                // An app of this id may have come and gone since the name was looked up. The engine forgets a record without
                // its name, before anything of it runs.
                Ok(_) => return inner.store.is_named(&app).await,
            }
            return Box::pin(self.store_deploy(id, revision, operation, fresh)).await;
        };
        let surplus = self.surplus(&stored.value).await?;
        let stored = inner
            .update(tenant, id, |app| {
                surplus.leave(app);
                self.intend_deploy(app, revision, operation, fresh)
            })
            .await;
        match stored {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            outcome => outcome.map(|()| true),
        }
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

    /// The id behind the app's name.
    async fn claim_app(&self, revision: &Revision) -> Result<AppId> {
        let store = &self.inner().store;
        let key = app_name_key(&self.tenant.id, &self.environment.id, &revision.spec.app)?;
        store.claim(&key, AppId::generate(&self.inner().ids)).await
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

    /// Claims the domains that a revision names, and notes the claims that nobody had made before.
    async fn claim_domains(
        &self,
        app: &AppId,
        revision: &Revision,
        made: &mut Vec<(Key, Version)>,
    ) -> Result<()> {
        let wanted = DomainClaim { tenant: self.tenant.id.clone(), app: app.clone() };
        for domain in revision.spec.services.values().flat_map(|service| &service.domain) {
            let key = domain_key(domain)?;
            // The claim may be an old one, about to be collected.
            match self.inner().store.renew(&key, &wanted).await? {
                Renewal::Made(version) => made.push((key, version)),
                Renewal::Renewed => {}
                Renewal::Taken => {
                    return Err(Error::conflict("the domain belongs to another app").with("domain", domain));
                }
            }
        }
        Ok(())
    }

    /// Takes back claims that were made for a deploy that was refused. One that another deploy of the app has renewed since
    /// has another version, and stays; so does what the record names, should the answer of a write have been lost.
    async fn give_back(&self, app: &AppId, made: Vec<(Key, Version)>) -> Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        let store = &self.inner().store;
        let record = store.app(&self.tenant.id, app).await?.map(|stored| stored.value);
        let kept = record.filter(|record| record.desired != Desired::Removed);
        let named = kept.iter().flat_map(|record| &record.revisions).flat_map(|known| &known.domains);
        let named = named.map(domain_key).collect::<Result<BTreeSet<Key>>>()?;
        for (key, version) in made.into_iter().filter(|(key, _)| !named.contains(key)) {
            match store.delete_version(&key, version).await {
                Err(error) if error.kind() != ErrorKind::Conflict => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives up what an app claims that is no more.
    async fn release_domains(&self, app: &AppId, revision: &Revision) -> Result<()> {
        for domain in revision.spec.services.values().flat_map(|service| &service.domain) {
            let own = |claim: &DomainClaim| claim.app == *app;
            self.inner().store.delete_where(&domain_key(domain)?, own).await?;
        }
        Ok(())
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
