//! Runs workloads.

use async_trait::async_trait;

use super::{Backend, Hints, Selector};
use crate::guard::{Guarded, call};
use crate::model::{Digest, Scope, Source, Workload, WorkloadKey, WorkloadStatus};
use crate::{Error, ErrorKind, Result};

/// What a scheduler can do, beyond what all can.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerCapabilities {
    /// The words of the sources it runs: `run`, `image`, `build`.
    pub sources: &'static [&'static str],
    /// Whether instances can have volumes.
    pub volumes: bool,
    /// Whether it refuses writes of a leader whose term is over.
    pub fenced: bool,
    /// Whether limits on processor time and memory are enforced.
    pub limits: bool,
    /// Whether it replaces instances of another template by itself, each only once a new one is ready (those with volumes
    /// one after the other), and goes on with that while the platform is away. It also chooses by itself what stops
    /// where there are too many, and drains what it stops.
    pub native_rolling: bool,
}

impl SchedulerCapabilities {
    /// Those of a scheduler that runs these sources and can do nothing more.
    #[must_use]
    pub fn new(sources: &'static [&'static str]) -> Self {
        Self { sources, volumes: false, fenced: false, limits: false, native_rolling: false }
    }

    /// Refuses a workload that a scheduler of these capabilities cannot run.
    ///
    /// # Errors
    /// `Unsupported` where none of its sources can run here, or where it has volumes and instances cannot.
    pub fn admit(&self, workload: &Workload) -> Result<()> {
        let template = &workload.template;
        if !template.sources.iter().any(|source| self.sources.contains(&source.word())) {
            let words: Vec<&str> = template.sources.iter().map(Source::word).collect();
            return Err(Error::new(ErrorKind::Unsupported, "none of the sources can run here")
                .with("service", &workload.labels.service)
                .with("sources", words.join(", "))
                .with("supported", self.sources.join(", ")));
        }
        if !template.mounts.is_empty() && !self.volumes {
            return Err(Error::new(ErrorKind::Unsupported, "instances cannot have volumes here")
                .with("service", &workload.labels.service));
        }
        Ok(())
    }
}

/// Keeps the instances of workloads running.
///
/// It never replaces a healthy instance by itself: only [`Workload::retire`], a smaller count, or a failed liveness
/// check stop one - or another template, where it declares [`native_rolling`](SchedulerCapabilities::native_rolling).
/// An instance that ends is started again in its place, with growing pauses, unless it is a task.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Scheduler: Backend {
    /// What it can do. Always the same answer.
    fn capabilities(&self) -> SchedulerCapabilities;

    /// Makes this the desired state of one workload. `Ok` means that it is stored or acted upon; instances follow
    /// and show in [`Scheduler::list`]. Idempotent.
    ///
    /// - Running instances whose template differs stay; new ones get the given template. A scheduler that rolls natively
    ///   replaces them, and never has fewer ready than `replicas` meanwhile (one fewer where they have volumes).
    /// - Instances named in `retire` are stopped and replaced while there are fewer than `replicas` others. Names
    ///   that are gone are passed over.
    /// - With fewer `replicas` than instances, unready ones go first, then those of the highest ordinals; one that rolls
    ///   natively chooses by itself.
    /// - An instance that has volumes is replaced only once the old one has ended: a volume has one writer.
    /// - A task's instance runs once; applying it again starts nothing.
    ///
    /// # Errors
    /// `Unsupported` where none of the sources can run here, before anything is started; `Conflict` where a leader of
    /// a later term has been seen.
    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest>;

    /// All workloads of the selection that were applied and not removed, and those that still have instances, in one
    /// upstream call. Idempotent.
    ///
    /// # Errors
    /// Only those of the transport.
    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>>;

    /// Tells of changes from the moment of the call on. Hints may come late, twice, or for nothing.
    ///
    /// # Errors
    /// `Unavailable` where nothing can be watched now.
    async fn watch(&self, scope: &Scope) -> Result<Hints>;

    /// Stops all instances of a workload and forgets it. `Ok` means that the intent is stored; the workload leaves
    /// [`Scheduler::list`] with its last instance. Idempotent: a missing workload is `Ok`. Volumes stay.
    ///
    /// # Errors
    /// `Conflict` where a leader of a later term has been seen.
    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()>;
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Scheduler + ?Sized> Scheduler for Guarded<S> {
    fn capabilities(&self) -> SchedulerCapabilities {
        self.inner.capabilities()
    }

    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        let call = call!(self, scope, "scheduler", "apply", Deploy, workload.key.resource(), idempotent);
        self.guard.run(call, || self.inner.apply(scope, workload)).await
    }

    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        let call = call!(self, scope, "scheduler", "list", Read, selector.resource(), idempotent);
        self.guard.run(call, || self.inner.list(scope, selector)).await
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        let call = call!(self, scope, "scheduler", "watch", Read, scope.resource().clone(), idempotent);
        self.guard.run(call, || self.inner.watch(scope)).await
    }

    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        let call = call!(self, scope, "scheduler", "remove", Deploy, key.resource(), idempotent);
        self.guard.run(call, || self.inner.remove(scope, key)).await
    }
}
