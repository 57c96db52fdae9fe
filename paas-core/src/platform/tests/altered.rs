//! A backend that shows something else than there is.

use async_trait::async_trait;

use crate::Result;
use crate::memory::MemoryScheduler;
use crate::model::{Digest, Scope, Workload, WorkloadKey, WorkloadStatus};
use crate::port::{Backend, Hints, Scheduler, SchedulerCapabilities, Selector};

/// A scheduler that tells of workloads what a test makes of it.
#[derive(Debug)]
pub(super) struct Altered(pub(super) MemoryScheduler, pub(super) fn(&mut WorkloadStatus));

#[async_trait]
impl Backend for Altered {
    fn name(&self) -> &'static str {
        "altered"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Scheduler for Altered {
    fn capabilities(&self) -> SchedulerCapabilities {
        self.0.capabilities()
    }
    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        self.0.apply(scope, workload).await
    }
    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        let mut listed = self.0.list(scope, selector).await?;
        listed.iter_mut().for_each(self.1);
        Ok(listed)
    }
    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.0.watch(scope).await
    }
    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        self.0.remove(scope, key).await
    }
}
