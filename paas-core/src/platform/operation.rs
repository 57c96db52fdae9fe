//! A handle on one operation.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::EnvironmentHandle;
use crate::engine::store::{APP, app_key, operation_key};
use crate::model::{
    Action, AppId, Failure, Key, Operation, OperationId, OperationKind, OperationState, RecordChange,
    Resource, Signal,
};
use crate::{Error, ErrorKind, Result};

/// An operation that was asked for. Dropping the handle changes nothing: the intent is stored.
#[derive(Clone, Debug)]
pub struct OperationHandle {
    environment: EnvironmentHandle,
    app: AppId,
    id: OperationId,
}

/// Why an operation failed, as the source of the error of [`OperationHandle::finished`].
#[derive(Debug)]
pub(crate) struct OperationFailed(pub(crate) Failure);

impl std::fmt::Display for OperationFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for OperationFailed {}

/// The next change of a record, or that it may have been missed; `None` once nothing is told any more.
async fn next_of(key: &Key, changes: &mut BoxStream<'static, RecordChange>) -> Option<()> {
    loop {
        match changes.next().await? {
            RecordChange::Put(record) if record.key != *key => {}
            RecordChange::Deleted(other) if other != *key => {}
            _ => return Some(()),
        }
    }
}

impl OperationHandle {
    pub(super) fn new(environment: EnvironmentHandle, app: AppId, id: OperationId) -> Self {
        Self { environment, app, id }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &OperationId {
        &self.id
    }

    /// Where it is now.
    ///
    /// # Errors
    /// `NotFound` where it is not kept any more; `Denied`.
    pub async fn state(&self) -> Result<Operation> {
        let environment = &self.environment;
        let resource = self.resource();
        environment.inner().allow(&environment.principal, Action::Read, resource).await?;
        self.read().await
    }

    fn resource(&self) -> Resource {
        let environment = &self.environment;
        Resource::App(environment.tenant.id.clone(), environment.environment.id.clone(), self.app.clone())
    }

    async fn read(&self) -> Result<Operation> {
        let tenant = &self.environment.tenant.id;
        let store = &self.environment.inner().store;
        if let Some(app) = store.app(tenant, &self.app).await? {
            let found =
                app.value.operation.into_iter().chain(app.value.ended).find(|known| known.id == self.id);
            if let Some(operation) = found {
                return Ok(operation);
            }
        }
        let archived = store.get(&operation_key(tenant, &self.id)?).await?;
        archived
            .map(|archived| archived.value)
            .ok_or_else(|| Error::not_found("no such operation").with("operation", &self.id))
    }

    /// Waits for it to end, for as long as its holds and deadlines allow; see [`OperationHandle::finished_within`].
    ///
    /// # Errors
    /// `Failed` with the failed instance's exit code and last lines, `Conflict` where a newer operation took its
    /// place, and those of the state store.
    pub async fn finished(&self) -> Result<Operation> {
        let watched = self.environment.inner();
        let tenant = self.environment.tenant.id.clone();
        let own = watched.own(Resource::Tenant(tenant.clone()));
        let key = app_key(&tenant, &self.app)?;
        loop {
            // Watching begins before reading, so that no change falls in between.
            let mut changes = watched.state().watch(&own, APP, Some(tenant.clone())).await?;
            loop {
                let operation = self.read().await?;
                if operation.state.is_final() && !self.is_forgetting(&operation).await? {
                    return self.judge(operation);
                }
                // Looking again now and then makes a lost change a matter of time.
                let next = tokio::time::timeout(Duration::from_secs(5), next_of(&key, &mut changes)).await;
                if matches!(next, Ok(None)) {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits for it to end, but no longer than this.
    ///
    /// # Errors
    /// `Timeout`, after which it goes on; else those of [`OperationHandle::finished`].
    pub async fn finished_within(&self, time: Duration) -> Result<Operation> {
        tokio::time::timeout(time, self.finished()).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the operation goes on").with("operation", &self.id))
        })
    }

    /// Whether an app that was removed is still there: its name is free once it is not.
    async fn is_forgetting(&self, operation: &Operation) -> Result<bool> {
        let removed = operation.kind == OperationKind::Remove && operation.state == OperationState::Succeeded;
        let store = &self.environment.inner().store;
        Ok(removed && store.app(&self.environment.tenant.id, &self.app).await?.is_some())
    }

    fn judge(&self, operation: Operation) -> Result<Operation> {
        match operation.state {
            OperationState::Superseded => {
                Err(Error::conflict("a newer operation took its place").with("operation", &self.id))
            }
            OperationState::Failed => {
                let failure = operation.failure.unwrap_or_else(|| Failure::aborted("it failed"));
                let mut error = Error::new(ErrorKind::Failed, failure.to_string());
                if let Some(code) = failure.exit.as_ref().and_then(|exit| exit.code) {
                    error = error.with("exit code", code);
                }
                Err(error.with("operation", &self.id).with_source(OperationFailed(failure)))
            }
            _ => Ok(operation),
        }
    }

    /// Tells a release something: approve, pause, resume, abort. Idempotent.
    ///
    /// # Errors
    /// `Conflict` where it has ended, waits for no approval, or is no release: a stop or a start that is half done has
    /// nothing to go back to; `Denied`.
    pub async fn signal(&self, signal: Signal) -> Result<()> {
        let environment = &self.environment;
        let inner = environment.inner();
        let summary = format!("{signal:?} operation {}", self.id).to_lowercase();
        let permit = inner.permit(&environment.principal, Action::Deploy, self.resource(), summary).await?;
        let (now, actor) = (inner.clock.now(), environment.principal.to_string());
        let outcome = inner
            .update(&environment.tenant.id, &self.app, |app| {
                let over = || Error::conflict("the operation has ended").with("operation", &self.id);
                let id = &self.id;
                let operation =
                    app.operation.as_mut().filter(|known| known.id == *id && !known.state.is_final());
                let operation = operation.ok_or_else(over)?;
                if operation.kind.revision().is_none() {
                    return Err(Error::conflict(
                        "only a release takes signals; start or stop the app instead",
                    )
                    .with("operation", &operation.kind));
                }
                match signal {
                    Signal::Pause | Signal::Resume => {
                        let paused = signal == Signal::Pause;
                        if operation.paused == paused {
                            return Ok(());
                        }
                        operation.paused = paused;
                    }
                    Signal::Abort if operation.state == OperationState::Running => {
                        operation.state = OperationState::RollingBack;
                        operation.failure = Some(Failure::aborted(format!("aborted by {actor}")));
                        operation.paused = false;
                    }
                    Signal::Abort => return Ok(()),
                    Signal::Approve => return crate::engine::rollout::approve(app),
                }
                operation.note(now, None, format!("{signal:?} by {actor}").to_lowercase());
                app.progressed = now;
                if signal == Signal::Resume {
                    crate::engine::rollout::resume(app, now);
                }
                Ok(())
            })
            .await;
        permit.finish(outcome).await
    }
}
