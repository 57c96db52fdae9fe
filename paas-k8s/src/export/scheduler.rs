//! Workloads that are written down, and pretended to run.

use std::sync::Arc;

use async_trait::async_trait;
use paas_core::Result;
use paas_core::memory::MemoryScheduler;
use paas_core::model::{Clock, Digest, Role, Scope, Workload, WorkloadKey, WorkloadStatus};
use paas_core::port::{Backend, Hints, Scheduler, SchedulerCapabilities, Selector};
use serde_json::Value;

use super::shelf::{Secret, Shelf, carries, has};
use crate::label;
use crate::scheduler::{self, Rendered, SchedulerConfig};

/// What [`KubeScheduler`](crate::KubeScheduler) would apply.
#[derive(Debug)]
pub(super) struct ExportScheduler {
    inner: MemoryScheduler,
    shelf: Arc<Shelf>,
    platform: String,
    config: SchedulerConfig,
}

impl ExportScheduler {
    pub(super) fn new(shelf: &Arc<Shelf>, platform: &str, config: SchedulerConfig, clock: Clock) -> Self {
        let inner = MemoryScheduler::with_capabilities(clock, scheduler::capabilities());
        Self { inner, shelf: Arc::clone(shelf), platform: platform.to_owned(), config }
    }

    fn forget_tasks(&self, service: &str) {
        self.shelf.remove(|object| has(object, label::SERVICE, service) && carries(object, label::TASK));
    }
}

#[async_trait]
impl Backend for ExportScheduler {
    fn name(&self) -> &'static str {
        "export"
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Scheduler for ExportScheduler {
    fn capabilities(&self) -> SchedulerCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        self.capabilities().admit(workload)?;
        let Rendered { owner, companions, secret } =
            scheduler::render(workload, &self.platform, &self.config)?;
        let applied = self.inner.apply(scope, workload).await?;
        let keys = || workload.template.secrets.iter().map(|secret| secret.name.to_string()).collect();
        let key = &workload.key;
        let namespace = || label::namespace(&self.platform, &key.tenant, &key.environment);
        if workload.is_task() {
            // That of an earlier release runs no more.
            self.forget_tasks(key.service.as_str());
        }
        let secret = secret.map(|name| Secret { namespace: namespace(), name, keys: keys() });
        self.shelf.put_owner(owner, secret);
        for companion in companions {
            self.shelf.put(companion);
        }
        Ok(applied)
    }

    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        self.inner.list(scope, selector).await
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.inner.watch(scope).await
    }

    /// A task stays written down while its service is there: it was removed because it has run.
    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        self.inner.remove(scope, key).await?;
        if let Role::Slot(slot) = &key.role {
            let (service, slot) = (key.service.as_str(), slot.to_string());
            self.shelf
                .remove(|object| has(object, label::SERVICE, service) && has(object, label::SLOT, &slot));
            let serves =
                |object: &Value| has(object, label::SERVICE, service) && carries(object, label::SLOT);
            if !self.shelf.objects().iter().any(serves) {
                self.forget_tasks(service);
            }
        }
        Ok(())
    }
}
