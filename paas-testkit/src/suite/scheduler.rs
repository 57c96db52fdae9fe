//! The cases of [`Scheduler`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::model::{
    InstanceId, InstanceState, InstanceStatus, Template, Workload, WorkloadKey, WorkloadStatus,
};
use paas_core::port::{Scheduler, SchedulerCapabilities};

use crate::case::{Case, suites};
use crate::{Bench, Fixture, World};

mod change;
mod fence;
mod life;
mod list;
mod roll;

/// A scheduler, and templates of instances that behave in stated ways.
///
/// A fenced scheduler remembers the latest term of all cases, so each case needs one of its own.
pub trait SchedulerFixture: Fixture<Port = dyn Scheduler, Capabilities = SchedulerCapabilities> {
    /// Becomes ready on its port.
    fn serving(&self) -> Template;

    /// Runs, and never becomes ready.
    fn never_ready(&self) -> Template;

    /// Writes the line `last words` and ends with this code, at once.
    fn exiting(&self, code: i32) -> Template;

    /// Becomes ready on its port, and ignores the request to end; its grace is short.
    fn stubborn(&self) -> Template;

    /// A task that ends with this code.
    fn task(&self, code: i32) -> Template;

    /// Becomes ready on its port, and has a volume. Asked only of schedulers that declare `volumes`.
    fn with_volume(&self) -> Template;

    /// Ends an instance's process from outside.
    fn kill<'a>(&'a self, instance: &'a InstanceId) -> BoxFuture<'a, Result<()>>;

    /// Makes what a workload of a world needs to be there before it is applied: its tenant's room, its volumes.
    fn prepare<'a>(&'a self, world: &'a World, workload: &'a Workload) -> BoxFuture<'a, Result<()>> {
        let _ = (world, workload);
        Box::pin(async { Ok(()) })
    }

    /// How often two living instances had one volume, where the fixture can tell.
    fn volume_conflicts(&self) -> usize {
        0
    }
}

suites!("scheduler", Scheduler, SchedulerFixture);

type Bed = Bench<dyn SchedulerFixture>;

fn cases() -> Vec<Case<dyn SchedulerFixture>> {
    [life::cases(), change::cases(), roll::cases(), list::cases(), fence::cases()]
        .into_iter()
        .flatten()
        .collect()
}

/// Applies a workload as the tenant's own.
async fn apply(bed: &Bed, workload: &Workload) -> Result<()> {
    bed.fixture.prepare(&bed.world, workload).await?;
    bed.port.apply(&bed.world.scope(), workload).await.map(drop)
}

/// A workload of one new service, applied and ready.
async fn started(bed: &Bed, template: Template, replicas: u32) -> Result<(Workload, Vec<InstanceStatus>)> {
    let workload = bed.world.workload(template, replicas)?;
    apply(bed, &workload).await?;
    let instances = ready(bed, &workload.key, replicas as usize).await?;
    Ok((workload, instances))
}

async fn status(bed: &Bed, key: &WorkloadKey) -> Result<Option<WorkloadStatus>> {
    let listed = bed.port.list(&bed.world.scope(), &bed.world.selector()).await?;
    Ok(listed.into_iter().find(|status| status.key == *key))
}

async fn instances(bed: &Bed, key: &WorkloadKey) -> Result<Vec<InstanceStatus>> {
    Ok(status(bed, key).await?.map(|status| status.instances).unwrap_or_default())
}

/// Waits until a workload has this many instances, all of them ready.
async fn ready(bed: &Bed, key: &WorkloadKey, count: usize) -> Result<Vec<InstanceStatus>> {
    settled(bed, key, &format!("{count} ready instances"), |instances| {
        instances.len() == count && instances.iter().all(InstanceStatus::is_ready)
    })
    .await
}

/// Waits until a workload's instances are as told.
async fn settled(
    bed: &Bed,
    key: &WorkloadKey,
    what: &str,
    is_so: impl Fn(&[InstanceStatus]) -> bool,
) -> Result<Vec<InstanceStatus>> {
    bed.eventually(what, || async {
        let instances = instances(bed, key).await?;
        Ok(is_so(&instances).then_some(instances))
    })
    .await
}

/// Waits until a workload is listed no more.
async fn forgotten(bed: &Bed, key: &WorkloadKey) -> Result<()> {
    bed.eventually("the workload is forgotten", || async {
        Ok(status(bed, key).await?.is_none().then_some(()))
    })
    .await
}

fn ids(instances: &[InstanceStatus]) -> Vec<&InstanceId> {
    instances.iter().map(|instance| &instance.id).collect()
}

fn ordinals(instances: &[InstanceStatus]) -> Vec<u32> {
    instances.iter().map(|instance| instance.ordinal).collect()
}

fn has_process(instance: &InstanceStatus) -> bool {
    !matches!(instance.state, InstanceState::Exited | InstanceState::BackingOff)
}
