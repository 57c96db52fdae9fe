//! A handle on one app.

use super::deploy::replace_operation;
use super::operation::OperationHandle;
use super::status::{AppStatus, RevisionSummary, status};
use super::{EnvironmentHandle, Inner};
use crate::engine::record::{AppRecord, Desired, ServiceState};
use crate::engine::store::OPERATION;
use crate::engine::{Explanation, explain};
use crate::model::service::Kind;
use crate::model::{
    Action, AppId, Confirmation, Operation, OperationId, OperationKind, Resource, RevisionNumber,
    ServiceName, SlotTraffic, VolumeId, VolumeStatus, limit,
};
use crate::{Error, ErrorKind, Result};

/// One app, as one principal sees it.
#[derive(Clone, Debug)]
pub struct AppHandle {
    pub(super) environment: EnvironmentHandle,
    id: AppId,
}

impl AppHandle {
    pub(super) fn new(environment: EnvironmentHandle, id: AppId) -> Self {
        Self { environment, id }
    }

    pub(super) fn inner(&self) -> &Inner {
        self.environment.inner()
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &AppId {
        &self.id
    }

    /// The app, as a resource.
    #[must_use]
    pub fn resource(&self) -> Resource {
        let environment = &self.environment;
        Resource::App(environment.tenant.id.clone(), environment.environment.id.clone(), self.id.clone())
    }

    pub(super) async fn record(&self) -> Result<AppRecord> {
        let inner = self.inner();
        inner.allow(&self.environment.principal, Action::Read, self.resource()).await?;
        let stored = inner.store.app(&self.environment.tenant.id, &self.id).await?;
        Ok(stored.ok_or_else(|| Error::not_found("no such app").with("app", &self.id))?.value)
    }

    /// Its services and their instances.
    ///
    /// # Errors
    /// `NotFound` once it has been removed; `Denied`.
    pub async fn status(&self) -> Result<AppStatus> {
        let record = self.record().await?;
        Ok(status(&record, &self.inner().observe(&record).await?))
    }

    /// What is wrong with it, and what to do.
    ///
    /// # Errors
    /// `NotFound` once it has been removed; `Denied`.
    pub async fn explain(&self) -> Result<Explanation> {
        let record = self.record().await?;
        let explanation = explain::explain(&record, &self.inner().observe(&record).await?);
        Ok(Explanation { trouble: self.inner().trouble(&self.id), ..explanation })
    }

    /// Its kept revisions, oldest first.
    ///
    /// # Errors
    /// `NotFound` once it has been removed; `Denied`.
    pub async fn revisions(&self) -> Result<Vec<RevisionSummary>> {
        let record = self.record().await?;
        let summary = |known: &crate::engine::record::RevisionRef| RevisionSummary {
            number: known.number,
            created: known.created,
            actor: known.actor.clone(),
            promoted: record.promoted == Some(known.number),
            released: known.released,
        };
        Ok(record.revisions.iter().map(summary).collect())
    }

    /// What changed between two kept revisions, one line each.
    ///
    /// # Errors
    /// `NotFound` where one of them is not kept; `Denied`.
    pub async fn diff(&self, older: RevisionNumber, newer: RevisionNumber) -> Result<Vec<String>> {
        let record = self.record().await?;
        let load = async |number| {
            let missing = || Error::not_found("no such revision is kept").with("revision", number);
            let known = record.revision_ref(number).ok_or_else(missing)?;
            self.inner().store.revision(&record.tenant, &record.id, &known.digest).await
        };
        load(newer).await?.diff(&load(older).await?)
    }

    /// Its operations, newest first: those that go on or ended lately.
    ///
    /// # Errors
    /// `NotFound` once it has been removed; `Denied`.
    pub async fn operations(&self) -> Result<Vec<Operation>> {
        let record = self.record().await?;
        let archived: Vec<Operation> =
            self.inner().store.list(OPERATION, Some(record.tenant.clone())).await?;
        let of_app = archived.into_iter().filter(|operation| operation.app == self.id);
        let mut found: Vec<Operation> =
            record.operation.into_iter().chain(record.ended).chain(of_app).collect();
        found.sort_by(|a, b| b.id.cmp(&a.id));
        found.dedup_by(|a, b| a.id == b.id);
        Ok(found)
    }

    /// A handle on one of its operations.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> OperationHandle {
        OperationHandle::new(self.environment.clone(), self.id.clone(), id)
    }

    /// Authorises, audits and stores a change of the record.
    async fn change<T>(
        &self,
        action: Action,
        summary: String,
        change: impl FnMut(&mut AppRecord) -> Result<T>,
    ) -> Result<T> {
        let inner = self.inner();
        let permit = inner.permit(&self.environment.principal, action, self.resource(), summary).await?;
        permit.finish(inner.update(&self.environment.tenant.id, &self.id, change).await).await
    }

    async fn operate(
        &self,
        action: Action,
        kind: OperationKind,
        check: impl Fn(&AppRecord) -> Result<()>,
    ) -> Result<OperationHandle> {
        let inner = self.inner();
        let id = OperationId::generate(&inner.ids);
        let (tenant, actor) = (&self.environment.tenant.id, self.environment.principal.to_string());
        self.change(action, kind.to_string(), |app| {
            check(app)?;
            let (app_id, now) = (self.id.clone(), inner.clock.now());
            replace_operation(
                app,
                Operation::new(id.clone(), tenant.clone(), app_id, kind.clone(), actor.clone(), now),
            )
        })
        .await?;
        Ok(self.operation(id))
    }

    /// Goes back (or forward) to a kept revision, without holds and tasks. Where its instances are still warm this is
    /// one change of the route. It pre-empts an operation that goes on. Data stays as it is.
    ///
    /// # Errors
    /// `NotFound` where the revision is not kept; `Conflict` where the app is stopped; `Denied`.
    pub async fn rollback(&self, revision: RevisionNumber) -> Result<OperationHandle> {
        self.operate(Action::Deploy, OperationKind::Rollback(revision), |app| {
            if app.revision_ref(revision).is_none() {
                return Err(Error::not_found("no such revision is kept").with("revision", revision));
            }
            running(app)
        })
        .await
    }

    /// Stops all services, those that need others first. It pre-empts an operation that goes on. The number of each
    /// service's replicas is remembered. Idempotent.
    ///
    /// # Errors
    /// `Conflict` where it is being removed; `Denied`.
    pub async fn stop(&self) -> Result<OperationHandle> {
        self.operate(Action::Operate, OperationKind::Stop, not_removed).await
    }

    /// Starts all services of a stopped app with exactly the replicas they had, each after what it needs. Idempotent.
    ///
    /// # Errors
    /// `Conflict` where another operation goes on; `Denied`.
    pub async fn start(&self) -> Result<OperationHandle> {
        self.operate(Action::Operate, OperationKind::Start, |app| {
            not_removed(app)?;
            match app.operation.as_ref().filter(|operation| !operation.state.is_final()) {
                Some(going) => {
                    Err(Error::conflict("another operation goes on").with("operation", &going.kind))
                }
                None => Ok(()),
            }
        })
        .await
    }

    /// Stops all services and forgets the app, its domains and revisions. Its volumes stay, without an owner: see
    /// [`Platform::orphaned_volumes`](super::Platform::orphaned_volumes).
    ///
    /// # Errors
    /// `Denied`.
    pub async fn remove(&self) -> Result<OperationHandle> {
        self.operate(Action::Remove, OperationKind::Remove, |_| Ok(())).await
    }

    /// Sets how many instances of a service serve. Idempotent; stored when the answer comes, acted upon after.
    ///
    /// # Errors
    /// `NotFound` where it has no such service; `Invalid` above [`limit::REPLICAS`]; `Denied`.
    pub async fn scale(&self, service: &ServiceName, replicas: u32) -> Result<()> {
        if replicas > limit::REPLICAS {
            return Err(Error::invalid("more replicas than a service may have").with("most", limit::REPLICAS));
        }
        self.change(Action::Operate, format!("scale {service} to {replicas}"), |app| {
            serving(app, service)?.replicas = replicas;
            Ok(())
        })
        .await
    }

    /// Exchanges all instances of a service for new ones of the same revision, as a release of it would, without
    /// holds. Stored when the answer comes, acted upon after.
    ///
    /// # Errors
    /// `NotFound` where it has no such service; `Conflict` while a release of it goes on or it is stopped; `Denied`.
    pub async fn restart(&self, service: &ServiceName) -> Result<()> {
        self.change(Action::Operate, format!("restart {service}"), |app| {
            running(app)?;
            let state = serving(app, service)?;
            if state.settled.is_none() || state.rollout.is_some() {
                return Err(Error::conflict("a release of the service goes on").with("service", service));
            }
            state.incarnation += 1;
            Ok(())
        })
        .await
    }

    /// Requests of a service by slot.
    ///
    /// # Errors
    /// `NotFound` where it has no such service; `Unsupported` where the router does not count; `Denied`.
    pub async fn traffic(&self, service: &ServiceName) -> Result<Vec<SlotTraffic>> {
        let mut record = self.record().await?;
        let id = known(&mut record, service)?.id.clone();
        let resource = record.service_resource(&id);
        self.inner().router.traffic(&self.inner().own(resource.clone()), &resource).await
    }

    /// The volumes of its services.
    ///
    /// # Errors
    /// `Denied`.
    pub async fn volumes(&self) -> Result<Vec<VolumeStatus>> {
        let record = self.record().await?;
        let own = self.inner().own(Resource::Tenant(record.tenant.clone()));
        let all = self.inner().volumes.list(&own, &record.tenant).await?;
        let ours = |status: &VolumeStatus| {
            record.services.values().any(|service| service.id == status.volume.service)
        };
        Ok(all.into_iter().filter(ours).collect())
    }

    /// Deletes a volume of a stopped service and its data, for good.
    ///
    /// # Errors
    /// `Invalid` where the confirmation does not repeat the volume's id; `NotFound` where it belongs to no service of
    /// this app; `Conflict` while the service runs; `Denied`.
    pub async fn remove_volume(&self, id: &VolumeId, confirmation: &Confirmation) -> Result<()> {
        confirmation.check(id)?;
        let inner = self.inner();
        let summary = format!("remove volume {id} and its data");
        let permit =
            inner.permit(&self.environment.principal, Action::RemoveData, self.resource(), summary).await?;
        permit.finish(self.remove_unused_volume(id, confirmation).await).await
    }

    async fn remove_unused_volume(&self, id: &VolumeId, confirmation: &Confirmation) -> Result<()> {
        let inner = self.inner();
        let found = self.volumes().await?.into_iter().find(|status| status.volume.id == *id);
        let volume = found.ok_or_else(|| Error::not_found("no such volume").with("volume", id))?.volume;
        let record = self.record().await?;
        let service = record.services.values().find(|service| service.id == volume.service);
        let in_use =
            service.is_some_and(|service| service.count() > volume.ordinal && service.settled.is_some());
        if in_use || !inner.observe(&record).await?.is_down(&volume.service) {
            return Err(Error::conflict("the volume is in use; stop the app first").with("volume", id));
        }
        let own = inner.own(Resource::Tenant(record.tenant.clone()));
        inner.volumes.remove(&own, &record.tenant, id, confirmation).await
    }
}

pub(super) fn known<'a>(app: &'a mut AppRecord, service: &ServiceName) -> Result<&'a mut ServiceState> {
    let near = crate::model::app::nearest(service.as_str(), app.services.keys().map(ServiceName::as_str))
        .map(str::to_owned);
    match app.services.get_mut(service) {
        Some(state) => Ok(state),
        None => {
            let error = Error::not_found("no such service in this app").with("service", service);
            Err(match near {
                Some(near) => error.with("did you mean", near),
                None => error,
            })
        }
    }
}

/// A service that has instances of its own.
fn serving<'a>(app: &'a mut AppRecord, service: &ServiceName) -> Result<&'a mut ServiceState> {
    let state = known(app, service)?;
    if state.kind == Kind::Task {
        return Err(
            Error::invalid("a task runs once a release, and has no instances").with("service", service)
        );
    }
    Ok(state)
}

fn running(app: &AppRecord) -> Result<()> {
    match app.desired {
        Desired::Running => Ok(()),
        Desired::Stopped => {
            Err(Error::new(ErrorKind::Conflict, "the app is stopped; start it first").with("app", &app.name))
        }
        Desired::Removed => not_removed(app),
    }
}

fn not_removed(app: &AppRecord) -> Result<()> {
    if app.desired == Desired::Removed {
        return Err(Error::conflict("the app is being removed").with("app", &app.name));
    }
    Ok(())
}
