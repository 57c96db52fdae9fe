//! Every port, with trouble around it.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use paas_core::Result;
use paas_core::model::{
    Action, Address, AuditEntry, AuditId, AuditOutcome, AuditQuery, AuditRecord, Confirmation, Digest, Drain,
    Environment, ExecRequest, FieldName, InstanceId, Key, LogBatch, LogBucket, LogCount, LogGroup, LogItem,
    LogOrigin, LogPage, LogPosition, LogQuery, LogSelector, Node, NodeName, Notification, Principal, Record,
    RecordChange, RecordKind, Resource, Route, RouteStatus, Scope, Secret, SecretName, SecretVersion,
    SlotTraffic, Tenant, TenantId, Timestamp, Version, Volume, VolumeId, VolumeStatus, Workload, WorkloadKey,
    WorkloadStatus,
};
use paas_core::port::{
    AuditLog, Authorizer, Backend, Cluster, Decision, Exec, ExecCapabilities, ExecSession, Expected, Hints,
    LogConsumer, LogQueue, LogSource, LogStore, Notifier, Router, RouterCapabilities, Scheduler,
    SchedulerCapabilities, SecretStore, Selector, StateStore, Tenancy, VolumeStore, VolumeStoreCapabilities,
};

use super::Faulty;

#[async_trait]
impl<B: Backend + ?Sized> Backend for Faulty<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Scheduler + ?Sized> Scheduler for Faulty<S> {
    fn capabilities(&self) -> SchedulerCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        self.run("scheduler", "apply", self.inner.apply(scope, workload)).await
    }

    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        self.run("scheduler", "list", self.inner.list(scope, selector)).await
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.run("scheduler", "watch", self.inner.watch(scope)).await
    }

    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        self.run("scheduler", "remove", self.inner.remove(scope, key)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<R: Router + ?Sized> Router for Faulty<R> {
    fn capabilities(&self) -> RouterCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address> {
        self.run("router", "apply", self.inner.apply(scope, route)).await
    }

    async fn observe(&self, scope: &Scope, selector: &Selector) -> Result<Vec<RouteStatus>> {
        self.run("router", "observe", self.inner.observe(scope, selector)).await
    }

    async fn traffic(&self, scope: &Scope, service: &Resource) -> Result<Vec<SlotTraffic>> {
        self.run("router", "traffic", self.inner.traffic(scope, service)).await
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.run("router", "watch", self.inner.watch(scope)).await
    }

    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()> {
        self.run("router", "remove", self.inner.remove(scope, service)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: StateStore + ?Sized> StateStore for Faulty<S> {
    async fn get(&self, scope: &Scope, key: &Key) -> Result<Option<Record>> {
        self.run("state_store", "get", self.inner.get(scope, key)).await
    }

    async fn put(&self, scope: &Scope, key: &Key, value: Bytes, expected: Expected) -> Result<Version> {
        self.run("state_store", "put", self.inner.put(scope, key, value, expected)).await
    }

    async fn delete(&self, scope: &Scope, key: &Key, expected: Version) -> Result<()> {
        self.run("state_store", "delete", self.inner.delete(scope, key, expected)).await
    }

    async fn list(&self, scope: &Scope, kind: RecordKind, tenant: Option<TenantId>) -> Result<Vec<Record>> {
        self.run("state_store", "list", self.inner.list(scope, kind, tenant)).await
    }

    async fn watch(
        &self,
        scope: &Scope,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<BoxStream<'static, RecordChange>> {
        self.run("state_store", "watch", self.inner.watch(scope, kind, tenant)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<V: VolumeStore + ?Sized> VolumeStore for Faulty<V> {
    fn capabilities(&self) -> VolumeStoreCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, volume: &Volume) -> Result<VolumeStatus> {
        self.run("volume_store", "apply", self.inner.apply(scope, volume)).await
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        self.run("volume_store", "list", self.inner.list(scope, tenant)).await
    }

    async fn remove(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()> {
        self.run("volume_store", "remove", self.inner.remove(scope, tenant, id, confirmation)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Tenancy + ?Sized> Tenancy for Faulty<T> {
    async fn apply(&self, scope: &Scope, tenant: &Tenant, environments: &[Environment]) -> Result<()> {
        self.run("tenancy", "apply", self.inner.apply(scope, tenant, environments)).await
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>> {
        self.run("tenancy", "list", self.inner.list(scope)).await
    }

    async fn watch(&self, scope: &Scope) -> Result<BoxStream<'static, Resource>> {
        self.run("tenancy", "watch", self.inner.watch(scope)).await
    }

    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()> {
        self.run("tenancy", "remove", self.inner.remove(scope, tenant)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: SecretStore + ?Sized> SecretStore for Faulty<S> {
    async fn put(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        value: Secret,
    ) -> Result<SecretVersion> {
        self.run("secret_store", "put", self.inner.put(scope, tenant, name, value)).await
    }

    async fn get(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        version: SecretVersion,
    ) -> Result<Secret> {
        self.run("secret_store", "get", self.inner.get(scope, tenant, name, version)).await
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<(SecretName, SecretVersion)>> {
        self.run("secret_store", "list", self.inner.list(scope, tenant)).await
    }

    async fn delete(&self, scope: &Scope, tenant: &TenantId, name: &SecretName) -> Result<()> {
        self.run("secret_store", "delete", self.inner.delete(scope, tenant, name)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: AuditLog + ?Sized> AuditLog for Faulty<A> {
    async fn begin(&self, scope: &Scope, entry: AuditEntry) -> Result<AuditId> {
        self.run("audit_log", "begin", self.inner.begin(scope, entry)).await
    }

    async fn end(&self, scope: &Scope, id: &AuditId, outcome: AuditOutcome) -> Result<()> {
        self.run("audit_log", "end", self.inner.end(scope, id, outcome)).await
    }

    async fn search(&self, scope: &Scope, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
        self.run("audit_log", "search", self.inner.search(scope, query)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: LogQueue + ?Sized> LogQueue for Faulty<L> {
    async fn publish(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()> {
        self.run("log_queue", "publish", self.inner.publish(scope, batches)).await
    }

    async fn subscribe(&self, scope: &Scope, group: &LogGroup) -> Result<Box<dyn LogConsumer>> {
        self.run("log_queue", "subscribe", self.inner.subscribe(scope, group)).await
    }

    async fn remove(&self, scope: &Scope, group: &LogGroup) -> Result<()> {
        self.run("log_queue", "remove", self.inner.remove(scope, group)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: LogSource + ?Sized> LogSource for Faulty<L> {
    async fn lines(
        &self,
        scope: &Scope,
        selector: LogSelector,
    ) -> Result<BoxStream<'static, Result<LogItem>>> {
        self.run("log_source", "lines", self.inner.lines(scope, selector)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<L: LogStore + ?Sized> LogStore for Faulty<L> {
    async fn append(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()> {
        self.run("log_store", "append", self.inner.append(scope, batches)).await
    }

    async fn ends(&self, scope: &Scope, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        self.run("log_store", "ends", self.inner.ends(scope, resource)).await
    }

    async fn search(&self, scope: &Scope, query: &LogQuery) -> Result<LogPage> {
        self.run("log_store", "search", self.inner.search(scope, query)).await
    }

    async fn histogram(&self, scope: &Scope, query: &LogQuery, step: Duration) -> Result<Vec<LogBucket>> {
        self.run("log_store", "histogram", self.inner.histogram(scope, query, step)).await
    }

    async fn top(
        &self,
        scope: &Scope,
        query: &LogQuery,
        field: &FieldName,
        most: usize,
    ) -> Result<Vec<LogCount>> {
        self.run("log_store", "top", self.inner.top(scope, query, field, most)).await
    }

    async fn purge(&self, scope: &Scope, tenant: &TenantId, before: Option<Timestamp>) -> Result<()> {
        self.run("log_store", "purge", self.inner.purge(scope, tenant, before)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: Authorizer + ?Sized> Authorizer for Faulty<A> {
    async fn decide(&self, principal: &Principal, action: Action, resource: &Resource) -> Result<Decision> {
        self.run("authorizer", "decide", self.inner.decide(principal, action, resource)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<C: Cluster + ?Sized> Cluster for Faulty<C> {
    async fn nodes(&self, scope: &Scope) -> Result<Vec<Node>> {
        self.run("cluster", "nodes", self.inner.nodes(scope)).await
    }

    async fn cordon(&self, scope: &Scope, node: &NodeName) -> Result<()> {
        self.run("cluster", "cordon", self.inner.cordon(scope, node)).await
    }

    async fn uncordon(&self, scope: &Scope, node: &NodeName) -> Result<()> {
        self.run("cluster", "uncordon", self.inner.uncordon(scope, node)).await
    }

    async fn drain(&self, scope: &Scope, node: &NodeName) -> Result<Drain> {
        self.run("cluster", "drain", self.inner.drain(scope, node)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<E: Exec + ?Sized> Exec for Faulty<E> {
    fn capabilities(&self) -> ExecCapabilities {
        self.inner.capabilities()
    }

    async fn exec(
        &self,
        scope: &Scope,
        workload: &WorkloadKey,
        instance: &InstanceId,
        request: &ExecRequest,
    ) -> Result<ExecSession> {
        self.run("exec", "exec", self.inner.exec(scope, workload, instance, request)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<N: Notifier + ?Sized> Notifier for Faulty<N> {
    async fn notify(&self, scope: &Scope, notification: &Notification) -> Result<()> {
        self.run("notifier", "notify", self.inner.notify(scope, notification)).await
    }
}
