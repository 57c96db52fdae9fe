//! Log lines of an app: as they are born, and as they are kept.

mod credential;
mod sender;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::alert::Alerts;
use super::app::known;
use super::{AppHandle, EnvironmentHandle, Inner};
use crate::engine::record::AppRecord;
use crate::engine::store::{APP, Store};
use crate::model::{
    Action, Alert, AlertKey, AppId, FieldName, LogBucket, LogCount, LogCredential, LogOrigin, LogPage,
    LogQuery, LogRuleCount, LogRules, LogSelector, LogTail, LogTrial, RecordChange, Resource, Revision,
    Scope, Secret, ServiceName, TailItem, Timestamp,
};
use crate::port::{LogDirectory, LogPipeline, LogService, LogSource, LogStore, Scheduler, SecretStore};
use crate::{Error, Result};
use sender::{Instances, Senders};

impl AppHandle {
    /// A tail of all its services, or of one; to be narrowed before it is watched.
    ///
    /// # Errors
    /// `NotFound` where it has no such service.
    pub async fn log_tail(&self, service: Option<&ServiceName>) -> Result<LogTail> {
        Ok(LogTail::follow(self.log_resource(service).await?))
    }

    /// A query for lines of all its services, or of one; to be narrowed before it is asked.
    ///
    /// # Errors
    /// `NotFound` where it has no such service.
    pub async fn log_query(&self, service: Option<&ServiceName>) -> Result<LogQuery> {
        Ok(LogQuery::of(self.log_resource(service).await?))
    }

    async fn log_resource(&self, service: Option<&ServiceName>) -> Result<Resource> {
        let Some(name) = service else { return Ok(self.resource()) };
        let mut record = self.record().await?;
        let id = known(&mut record, name)?.id.clone();
        Ok(record.service_resource(&id))
    }

    /// What may be read of lines: those of this app, whatever was asked.
    async fn log_scope(&self, resource: &Resource) -> Result<Scope> {
        if !self.resource().contains(resource) {
            return Err(Error::invalid("this is about another app").with("resource", resource));
        }
        self.inner().allow(&self.environment.principal, Action::ReadLogs, resource.clone()).await
    }

    /// Lines as they are born; before them, where that is asked for, those that are stored. A platform without a log pipeline gives
    /// them as they are, and those that the source still has.
    ///
    /// # Errors
    /// `Invalid` where the tail is of another app; `Unsupported` without a log source; `Denied`.
    pub async fn tail(&self, tail: LogTail) -> Result<BoxStream<'static, Result<TailItem>>> {
        let inner = self.inner();
        let scope = self.log_scope(&tail.resource).await?;
        let logs = inner.logs.as_ref().ok_or_else(|| Error::unsupported("tail"))?;
        match &inner.log_pipeline {
            Some(pipeline) => pipeline.tail(&scope, logs.clone(), tail).await,
            None => raw(&*logs.source, &scope, tail, inner.clock.now()).await,
        }
    }

    /// Stored lines, a page at a time.
    ///
    /// # Errors
    /// `Invalid` where the query is of another app; `Unsupported` without a log store; `Denied`.
    pub async fn search(&self, query: &LogQuery) -> Result<LogPage> {
        let scope = self.log_scope(&query.resource).await?;
        self.inner().log_store()?.search(&scope, query).await
    }

    /// What its rules have done to its lines since the leading replica began to take them in: zero on others.
    ///
    /// # Errors
    /// `NotFound` where it has no such service; `Unsupported` without a log pipeline; `Denied`.
    pub async fn log_rule_counts(&self, service: &ServiceName) -> Result<Vec<LogRuleCount>> {
        let resource = self.log_resource(Some(service)).await?;
        let scope = self.log_scope(&resource).await?;
        let counts = self.log_pipeline()?.counts(&scope, &resource).await?;
        Ok(counts.into_iter().flat_map(|(_, counts)| counts).collect())
    }

    /// What would become of some lines of a service by these rules of the app and of the service, whatever they are now.
    ///
    /// # Errors
    /// `Invalid` where the rules cannot be compiled, or the lines have more than a MiB; `Unsupported` without a log pipeline.
    pub fn log_dry_run(&self, rules: &[LogRules], lines: &[u8]) -> Result<Vec<LogTrial>> {
        self.log_pipeline()?.dry_run(rules, lines)
    }

    fn log_pipeline(&self) -> Result<&Arc<dyn LogPipeline>> {
        self.inner().log_pipeline.as_ref().ok_or_else(|| Error::unsupported("log rules"))
    }

    /// How many stored lines match in each span of time that has any.
    ///
    /// # Errors
    /// As for [`AppHandle::search`], and where there would be too many spans.
    pub async fn histogram(&self, query: &LogQuery, step: Duration) -> Result<Vec<LogBucket>> {
        let scope = self.log_scope(&query.resource).await?;
        self.inner().log_store()?.histogram(&scope, query, step).await
    }

    /// The most frequent values of a field of stored lines.
    ///
    /// # Errors
    /// As for [`AppHandle::search`].
    pub async fn top(&self, query: &LogQuery, field: &FieldName, most: usize) -> Result<Vec<LogCount>> {
        let scope = self.log_scope(&query.resource).await?;
        self.inner().log_store()?.top(&scope, query, field, most).await
    }
}

impl EnvironmentHandle {
    /// A query for lines of all its apps; to be narrowed before it is asked.
    #[must_use]
    pub fn log_query(&self) -> LogQuery {
        LogQuery::of(self.resource())
    }

    /// Stored lines of its apps, a page at a time.
    ///
    /// # Errors
    /// `Invalid` where the query is of another environment; `Unsupported` without a log store; `Denied`.
    pub async fn search(&self, query: &LogQuery) -> Result<LogPage> {
        if !self.resource().contains(&query.resource) {
            let error = Error::invalid("this is about another environment");
            return Err(error.with("resource", &query.resource));
        }
        let inner = self.inner();
        let scope = inner.allow(&self.principal, Action::ReadLogs, query.resource.clone()).await?;
        inner.log_store()?.search(&scope, query).await
    }
}

impl Inner {
    fn log_store(&self) -> Result<&Arc<dyn LogStore>> {
        let store = self.logs.as_ref().and_then(|logs| logs.store.as_ref());
        store.ok_or_else(|| Error::unsupported("search"))
    }
}

/// Lines as the source has them.
async fn raw(
    source: &dyn LogSource,
    scope: &Scope,
    tail: LogTail,
    now: Timestamp,
) -> Result<BoxStream<'static, Result<TailItem>>> {
    let matcher = tail.filter.matcher()?;
    let from = tail.since.unwrap_or(if tail.follow { now } else { Timestamp(0) });
    let mut selector = LogSelector { follow: tail.follow, ..LogSelector::existing(tail.resource) };
    (selector.instance, selector.after) = (tail.instance, tail.after);
    let items = source.lines(scope, selector).await?;
    Ok(items.map(move |item| Ok(TailItem::of(item?, &matcher, from))).boxed())
}

/// What the platform's own records say of services.
#[derive(Debug)]
pub(super) struct Directory {
    store: Store,
    secrets: Arc<dyn SecretStore>,
    alerts: Arc<Alerts>,
    senders: Senders,
    instances: Instances,
}

impl Directory {
    pub(super) fn new(
        store: Store,
        secrets: Arc<dyn SecretStore>,
        alerts: Arc<Alerts>,
        scheduler: Arc<dyn Scheduler>,
    ) -> Self {
        Self { store, secrets, alerts, senders: Senders::default(), instances: Instances::new(scheduler) }
    }

    /// Removes what nobody needs any more, for as long as it is not dropped.
    pub(super) async fn sweep(&self) {
        sender::sweep(&self.store).await;
    }

    /// Removes the credentials of apps that are gone.
    #[cfg(test)]
    pub(super) async fn forget_gone(&self) -> Result<()> {
        sender::forget_gone(&self.store).await
    }

    /// The revisions that an app may run, the newest first.
    async fn revisions(&self, app: &AppRecord) -> Result<Vec<Revision>> {
        let numbers: BTreeSet<_> = app.revisions_in_use().collect();
        let mut revisions = Vec::new();
        for known in numbers.iter().rev().filter_map(|number| app.revision_ref(*number)) {
            revisions.push(self.store.revision(&app.tenant, &app.id, &known.digest).await?);
        }
        Ok(revisions)
    }

    /// What instances of a service may know, whichever revision they are of.
    async fn values(
        &self,
        app: &AppRecord,
        name: &ServiceName,
        revisions: &[Revision],
    ) -> Result<Vec<Secret>> {
        let mut wanted = BTreeSet::new();
        for revision in revisions {
            let service = revision.spec.services.get(name).into_iter();
            let secrets = service.flat_map(|service| &service.secrets);
            wanted.extend(secrets.filter_map(|name| Some((name.clone(), *revision.secrets.get(name)?))));
        }
        let scope = Scope::granted(
            crate::model::Principal::Engine,
            Resource::Tenant(app.tenant.clone()),
            &[Action::ReadSecrets],
        );
        let mut values = Vec::new();
        for (name, version) in wanted {
            match self.secrets.get(&scope, &app.tenant, &name, version).await {
                Ok(value) => values.push(value),
                // It is nobody's any more.
                Err(error) if error.kind() == crate::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(values)
    }
}

#[async_trait]
impl LogDirectory for Directory {
    async fn service(&self, origin: &LogOrigin) -> Result<Option<LogService>> {
        let Some(app) = self.store.app(&origin.tenant, &origin.app).await? else { return Ok(None) };
        let app = app.value;
        let named = app.services.iter().find(|(_, service)| service.id == origin.service);
        let Some(name) = named.map(|(name, _)| name.clone()) else { return Ok(None) };
        let revisions = self.revisions(&app).await?;
        let mut service = LogService::new(app.name.clone(), name.clone());
        if let Some(newest) = revisions.first() {
            // One that the newest has no more may still write.
            let own = revisions.iter().find_map(|revision| revision.spec.services.get(&name));
            let own = own.map(|own| own.logs.clone());
            service.rules = [newest.spec.logs.clone()].into_iter().chain(own).collect();
        }
        service.secrets = self.values(&app, &name, &revisions).await?;
        Ok(Some(service))
    }

    async fn sender(&self, token: &Secret) -> Result<Option<LogCredential>> {
        self.senders.of(&self.store, token).await
    }

    async fn instance(&self, id: &str) -> Result<Option<LogOrigin>> {
        self.instances.find(&self.store.scope, id).await
    }

    async fn last_alert(&self, key: &AlertKey) -> Result<Option<Alert>> {
        self.alerts.last(key).await
    }

    async fn raise(&self, key: &AlertKey, alert: Alert) -> Result<()> {
        self.alerts.raise(key, alert).await
    }

    async fn changes(&self) -> Result<BoxStream<'static, AppId>> {
        let changes = self.store.state.watch(&self.store.scope, APP, None).await?;
        let app = |change: RecordChange| match change {
            RecordChange::Put(record) => Some(AppId::new(&record.key.id).ok()),
            RecordChange::Deleted(key) => Some(AppId::new(&key.id).ok()),
            // Everything may have changed.
            RecordChange::Reset => None,
        };
        let until_reset = changes.map(app).take_while(|app| std::future::ready(app.is_some()));
        Ok(until_reset.filter_map(|app| std::future::ready(app.flatten())).boxed())
    }
}
