//! The way from a replica to a backend: every call is counted and judged, and some go on after their sender has died.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_core::Result;
use paas_core::memory::{MemoryRouter, MemoryScheduler, MemoryStateStore, MemoryVolumeStore};
use paas_core::model::{
    Address, Confirmation, Digest, Key, Record, RecordChange, RecordKind, Resource, Route, RouteStatus,
    Scope, SlotTraffic, TenantId, Version, Volume, VolumeId, VolumeStatus, Workload, WorkloadKey,
    WorkloadStatus,
};
use paas_core::port::{
    Backend, Expected, Hints, Router, RouterCapabilities, Scheduler, SchedulerCapabilities, Selector,
    StateStore, VolumeStore, VolumeStoreCapabilities,
};

use super::oracle::{Oracle, View};
use super::rule::Rule;
use super::trouble::Trouble;

/// A backend as one replica reaches it.
#[derive(Clone, Debug)]
pub(super) struct Wire<B> {
    pub(super) inner: B,
    pub(super) replica: usize,
    pub(super) oracle: Oracle,
    pub(super) trouble: Arc<Trouble>,
}

impl<B> Wire<B> {
    /// A call that changes nothing.
    async fn read<T>(&self, call: impl Future<Output = T>) -> T {
        if !self.oracle.count() {
            std::future::pending::<()>().await;
        }
        call.await
    }

    /// A call that changes something; what it is is worth remembering, unless empty. Where its sender is to die now, it takes effect later, unheard.
    async fn write<T: Send + 'static>(
        &self,
        what: String,
        call: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        if !what.is_empty() {
            self.oracle.tell(|| format!("{}: {what}", self.replica));
        }
        if !self.oracle.count() {
            std::future::pending::<()>().await;
        }
        let Some(delay) = self.trouble.adrift() else { return call.await };
        self.oracle.tell(|| format!("{}: dies, and this call arrives {delay:?} later", self.replica));
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            drop(call.await);
        });
        std::future::pending().await
    }

    /// A stream of hints of which some are lost, doubled or late.
    fn hints<T: Clone + Send + 'static>(&self, hints: BoxStream<'static, T>) -> BoxStream<'static, T> {
        let trouble = Arc::clone(&self.trouble);
        let copies = hints.flat_map(move |hint| {
            stream::iter(trouble.hint().into_iter().map(move |delay| (hint.clone(), delay)))
        });
        let arriving = copies.map(|(hint, delay)| async move {
            tokio::time::sleep(delay).await;
            hint
        });
        arriving.buffer_unordered(1_024).boxed()
    }
}

#[async_trait]
impl<B: Backend> Backend for Wire<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Scheduler for Wire<MemoryScheduler> {
    fn capabilities(&self) -> SchedulerCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        let what = format!(
            "applies {} {} revision {} x {:?}, retires {:?}",
            workload.labels.service, workload.key.role, workload.revision, workload.replicas, workload.retire
        );
        let (own, scope, workload) = (self.clone(), scope.clone(), workload.clone());
        self.write(what, async move {
            let before = own.inner.instances();
            let applied = own.inner.apply(&scope, &workload).await;
            own.oracle.heard("scheduler", &scope, applied.is_ok());
            if applied.is_ok() {
                own.oracle.applied(&workload, &before);
            }
            applied
        })
        .await
    }

    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        let listed = self.read(self.inner.list(scope, selector)).await?;
        self.oracle.heard("scheduler", scope, false);
        self.oracle.listed(self.replica, &listed);
        Ok(listed)
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        let hints = self.read(self.inner.watch(scope)).await?;
        Ok(self.hints(hints))
    }

    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        let what = format!("removes {} {}", key.service, key.role);
        let (own, scope, key) = (self.clone(), scope.clone(), key.clone());
        self.write(what, async move {
            let before = own.inner.instances();
            let removed = own.inner.remove(&scope, &key).await;
            own.oracle.heard("scheduler", &scope, removed.is_ok());
            if removed.is_ok() {
                own.oracle.stopped(&before);
            }
            removed
        })
        .await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Router for Wire<MemoryRouter> {
    fn capabilities(&self) -> RouterCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, route: &Route) -> Result<Address> {
        let slots = route.slots.iter().map(|slot| (slot.slot, slot.weight, slot.endpoints.len()));
        let what = format!("routes {} {:?}", route.service, slots.collect::<Vec<_>>());
        let view: View = self.oracle.view(self.replica);
        let (own, scope, route) = (self.clone(), scope.clone(), route.clone());
        self.write(what, async move {
            let before = own.inner.route(&route.resource());
            let applied = own.inner.apply(&scope, &route).await;
            own.oracle.heard("router", &scope, applied.is_ok());
            if applied.is_ok() {
                own.oracle.routes(before.as_ref(), &route, &view);
            }
            applied
        })
        .await
    }

    async fn observe(&self, scope: &Scope, selector: &Selector) -> Result<Vec<RouteStatus>> {
        let observed = self.read(self.inner.observe(scope, selector)).await;
        self.oracle.heard("router", scope, false);
        observed
    }

    async fn traffic(&self, scope: &Scope, service: &Resource) -> Result<Vec<SlotTraffic>> {
        self.read(self.inner.traffic(scope, service)).await
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        let hints = self.read(Router::watch(&self.inner, scope)).await?;
        Ok(self.hints(hints))
    }

    async fn remove(&self, scope: &Scope, service: &Resource) -> Result<()> {
        let (own, scope, service) = (self.clone(), scope.clone(), service.clone());
        self.write(format!("removes the route of {service}"), async move {
            let removed = own.inner.remove(&scope, &service).await;
            own.oracle.heard("router", &scope, removed.is_ok());
            removed
        })
        .await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl StateStore for Wire<MemoryStateStore> {
    async fn get(&self, scope: &Scope, key: &Key) -> Result<Option<Record>> {
        let found = self.read(self.inner.get(scope, key)).await?;
        if let Some(record) = found.as_ref().filter(|record| record.key.kind.as_str() == "app") {
            self.oracle.read(self.replica, &record.value);
        }
        Ok(found)
    }

    async fn put(&self, scope: &Scope, key: &Key, value: Bytes, expected: Expected) -> Result<Version> {
        let (own, scope, key) = (self.clone(), scope.clone(), key.clone());
        let what = if key.kind.as_str() == "lease" { String::new() } else { format!("writes {key}") };
        self.write(what, async move {
            let before = own.inner.get(&scope, &key).await?;
            let version = own.inner.put(&scope, &key, value.clone(), expected).await?;
            match key.kind.as_str() {
                "app" => {
                    own.oracle.read(own.replica, &value);
                    own.oracle.wrote(own.replica, before.as_ref(), &value);
                }
                "lease" => own.oracle.leased(before.as_ref(), &value),
                _ => {}
            }
            Ok(version)
        })
        .await
    }

    async fn delete(&self, scope: &Scope, key: &Key, expected: Version) -> Result<()> {
        let (own, scope, key) = (self.clone(), scope.clone(), key.clone());
        self.write(format!("deletes {key}"), async move { own.inner.delete(&scope, &key, expected).await })
            .await
    }

    async fn list(&self, scope: &Scope, kind: RecordKind, tenant: Option<TenantId>) -> Result<Vec<Record>> {
        self.read(StateStore::list(&self.inner, scope, kind, tenant)).await
    }

    async fn watch(
        &self,
        scope: &Scope,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<BoxStream<'static, RecordChange>> {
        let changes = self.read(StateStore::watch(&self.inner, scope, kind, tenant)).await?;
        Ok(self.hints(changes))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl VolumeStore for Wire<MemoryVolumeStore> {
    fn capabilities(&self) -> VolumeStoreCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, volume: &Volume) -> Result<VolumeStatus> {
        let (own, scope, volume) = (self.clone(), scope.clone(), volume.clone());
        self.write(format!("applies {}", volume.id), async move { own.inner.apply(&scope, &volume).await })
            .await
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        self.read(VolumeStore::list(&self.inner, scope, tenant)).await
    }

    async fn remove(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()> {
        self.oracle.violate(Rule::Data, || format!("the engine removes {id}"));
        self.inner.remove(scope, tenant, id, confirmation).await
    }
}
