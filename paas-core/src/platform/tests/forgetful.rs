//! A backend that takes everything and shows nothing of it.

use async_trait::async_trait;

use crate::Result;
use crate::memory::MemoryScheduler;
use crate::model::{Digest, Scope, Workload, WorkloadKey, WorkloadStatus};
use crate::port::{Backend, Hints, Scheduler, SchedulerCapabilities, Selector};

/// A scheduler that never tells what was applied last.
#[derive(Debug)]
pub(super) struct Forgetful(pub(super) MemoryScheduler);

#[async_trait]
impl Backend for Forgetful {
    fn name(&self) -> &'static str {
        "forgetful"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Scheduler for Forgetful {
    fn capabilities(&self) -> SchedulerCapabilities {
        self.0.capabilities()
    }
    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        self.0.apply(scope, workload).await
    }
    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        let mut listed = self.0.list(scope, selector).await?;
        listed.iter_mut().for_each(|workload| workload.applied = None);
        Ok(listed)
    }
    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.0.watch(scope).await
    }
    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        self.0.remove(scope, key).await
    }
}
