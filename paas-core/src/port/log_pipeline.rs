//! Brings log lines from where they are born to whoever wants them.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::{Backend, LogQueue, LogSource, LogStore};
use crate::Result;
use crate::guard::{Guarded, call};
use crate::model::{
    Alert, AlertKey, AppId, AppName, Clock, LogCredential, LogOrigin, LogQuarantine, LogRuleCount, LogRules,
    LogTail, LogTrial, Resource, Scope, Secret, ServiceId, ServiceName, TailItem,
};

/// What stands between where lines are born, and who stores, watches and counts them: everything that is done to a line is
/// done here, once, and before anybody sees it.
///
/// Unstable: it grows with what a platform does with lines.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LogPipeline: Backend {
    /// Takes in the lines of all services and hands them to the store, by way of the queue where there is one, for as long as it is
    /// not dropped; whatever happens meanwhile, it tries again. Of several replicas of a platform the leader's does this. Safe to drop at any time: whoever
    /// goes on begins after the last line that is stored.
    async fn run(&self, ports: LogPorts);

    /// Takes in the lines that others send, and hands them to the store, for as long as it is not dropped; whatever happens
    /// meanwhile, it tries again. Every replica of a platform does this. Who sends is told that lines are taken once they are
    /// stored, and not before. A pipeline that nobody sends to waits.
    async fn serve(&self, ports: LogPorts);

    /// What came to this replica from collectors since it began to serve, and went nowhere. Of each collector and reason one.
    ///
    /// # Errors
    /// `Denied`.
    async fn quarantine(&self, scope: &Scope) -> Result<Vec<LogQuarantine>>;

    /// Lines as they are born, after all that is done to them, and not by way of the store; before them, with
    /// [`LogTail::since`], those that are stored. Each line that matches is given once. What cannot be given any more shows as a
    /// gap. Without [`LogTail::follow`], the stream ends after the last line that is there.
    ///
    /// # Errors
    /// `Invalid` where the filter cannot be compiled; those of the source and the store.
    async fn tail(
        &self,
        scope: &Scope,
        ports: LogPorts,
        tail: LogTail,
    ) -> Result<BoxStream<'static, Result<TailItem>>>;

    /// What rules have done to the stored lines of a resource since this replica began to take them in, service by service.
    ///
    /// # Errors
    /// `Denied`.
    async fn counts(&self, scope: &Scope, resource: &Resource)
    -> Result<Vec<(ServiceId, Vec<LogRuleCount>)>>;

    /// What would become of some lines by the rules of an app and then of a service. Nothing is stored, shown or counted. Values
    /// of secrets are not known here, and stay.
    ///
    /// # Errors
    /// `Invalid` where a rule cannot be compiled, or the lines have more than a MiB.
    fn dry_run(&self, rules: &[LogRules], lines: &[u8]) -> Result<Vec<LogTrial>>;
}

/// Where lines go once everything else was done to them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum LogSink {
    /// A store.
    Store(Arc<dyn LogStore>),
    /// A queue.
    Queue(Arc<dyn LogQueue>),
}

/// What a platform gives to its log pipeline: all of it is guarded.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogPorts {
    /// Where lines are born.
    pub source: Arc<dyn LogSource>,
    /// Where they are kept, if they are.
    pub store: Option<Arc<dyn LogStore>>,
    /// What holds them on their way there, if anything does.
    pub queue: Option<Arc<dyn LogQueue>>,
    /// Where some of them are kept instead, by the names that rules know.
    pub sinks: BTreeMap<String, LogSink>,
    /// What is known of the services that they come from.
    pub directory: Arc<dyn LogDirectory>,
    /// What reads and stores in the platform's own name.
    pub scope: Scope,
    /// The time.
    pub clock: Clock,
}

impl LogPorts {
    /// All of them but a queue and other places.
    #[must_use]
    pub fn new(
        source: Arc<dyn LogSource>,
        store: Option<Arc<dyn LogStore>>,
        directory: Arc<dyn LogDirectory>,
        scope: Scope,
        clock: Clock,
    ) -> Self {
        Self { source, store, queue: None, sinks: BTreeMap::new(), directory, scope, clock }
    }

    /// With a place of this name for lines that rules send there.
    #[must_use]
    pub fn with_sink(mut self, name: impl Into<String>, sink: LogSink) -> Self {
        self.sinks.insert(name.into(), sink);
        self
    }

    /// With a queue before the store.
    #[must_use]
    pub fn with_queue(self, queue: Arc<dyn LogQueue>) -> Self {
        Self { queue: Some(queue), ..self }
    }
}

/// What the platform knows of services, as far as it is about their lines.
#[async_trait]
pub trait LogDirectory: Debug + Send + Sync {
    /// The service that an output belongs to; `None` where it is gone.
    ///
    /// # Errors
    /// Those of the backends.
    async fn service(&self, origin: &LogOrigin) -> Result<Option<LogService>>;

    /// Who sends with this token; `None` where it is nobody's, was revoked, or its service is gone. What changes counts within
    /// seconds.
    ///
    /// # Errors
    /// Those of the backends: then nobody may send with it.
    async fn sender(&self, token: &Secret) -> Result<Option<LogCredential>>;

    /// The combined output of an instance that the platform knows by this id, or has known lately; `None` where there is none.
    ///
    /// # Errors
    /// Those of the backends.
    async fn instance(&self, id: &str) -> Result<Option<LogOrigin>>;

    /// The last alert that a rule has raised.
    ///
    /// # Errors
    /// Those of the backends.
    async fn last_alert(&self, key: &AlertKey) -> Result<Option<Alert>>;

    /// Somebody is to be told. `Ok` means that it survives a crash, and is told in the end. Idempotent by the alert's id.
    ///
    /// # Errors
    /// Those of the backends.
    async fn raise(&self, key: &AlertKey, alert: Alert) -> Result<()>;

    /// Whose services may have changed. The stream ends where changes may be missed: then everything may have.
    ///
    /// # Errors
    /// Those of the backends.
    async fn changes(&self) -> Result<BoxStream<'static, AppId>>;
}

/// A service, as far as it is about its lines.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LogService {
    /// The name of its app.
    pub app: AppName,
    /// Its name.
    pub name: ServiceName,
    /// The rules of its app, and then its own.
    pub rules: Vec<LogRules>,
    /// The values of the secrets that its instances may know.
    pub secrets: Vec<Secret>,
}

impl LogService {
    /// A service without rules and secrets.
    #[must_use]
    pub fn new(app: AppName, name: ServiceName) -> Self {
        Self { app, name, rules: Vec::new(), secrets: Vec::new() }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: LogPipeline + ?Sized> LogPipeline for Guarded<L> {
    /// It lasts, so it is no call; what it does is.
    async fn run(&self, ports: LogPorts) {
        self.inner.run(ports).await;
    }

    /// As `run`.
    async fn serve(&self, ports: LogPorts) {
        self.inner.serve(ports).await;
    }

    async fn quarantine(&self, scope: &Scope) -> Result<Vec<LogQuarantine>> {
        let call = call!(self, scope, "log_pipeline", "quarantine", Read, Resource::Platform, idempotent);
        self.guard.run(call, || self.inner.quarantine(scope)).await
    }

    async fn tail(
        &self,
        scope: &Scope,
        ports: LogPorts,
        tail: LogTail,
    ) -> Result<BoxStream<'static, Result<TailItem>>> {
        let call = call!(self, scope, "log_pipeline", "tail", ReadLogs, tail.resource.clone(), idempotent);
        self.guard.run(call, || self.inner.tail(scope, ports.clone(), tail.clone())).await
    }

    async fn counts(
        &self,
        scope: &Scope,
        resource: &Resource,
    ) -> Result<Vec<(ServiceId, Vec<LogRuleCount>)>> {
        let call = call!(self, scope, "log_pipeline", "counts", ReadLogs, resource.clone(), idempotent);
        self.guard.run(call, || self.inner.counts(scope, resource)).await
    }

    /// It is about nobody's lines, so it is no call.
    fn dry_run(&self, rules: &[LogRules], lines: &[u8]) -> Result<Vec<LogTrial>> {
        self.inner.dry_run(rules, lines)
    }
}
