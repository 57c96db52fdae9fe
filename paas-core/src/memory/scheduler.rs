//! Instances that only exist as states, with knobs for everything that can go wrong.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::lock;
use crate::Result;
use crate::model::{
    Clock, Digest, InstanceId, InstanceStatus, Resource, Scope, ServiceName, Workload, WorkloadKey,
    WorkloadStatus,
};
use crate::port::{Hints, Scheduler, SchedulerCapabilities, Selector};

mod behaviour;
mod state;

pub use behaviour::Behaviour;
pub use state::VolumeConflict;
use state::{Rule, State};

/// Runs nothing and pretends to: instances become ready, crash, back off and stop on tokio's clock.
///
/// Endpoints are unique loopback addresses at which nobody listens; a [`MemoryRouter`](super::MemoryRouter) does
/// not mind. What instances do is a [`Behaviour`]; the last rule that applies when one starts or stops counts.
#[derive(Clone, Debug)]
pub struct MemoryScheduler {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    capabilities: SchedulerCapabilities,
    state: Mutex<State>,
    timer: Mutex<Option<(Instant, JoinHandle<()>)>>,
}

impl MemoryScheduler {
    /// A scheduler without workloads that can do everything, for the sources `run` and `image`.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let mut capabilities = SchedulerCapabilities::new(&["run", "image"]);
        capabilities.volumes = true;
        capabilities.fenced = true;
        capabilities.limits = true;
        Self::with_capabilities(clock, capabilities)
    }

    /// A scheduler that can do only this.
    #[must_use]
    pub fn with_capabilities(clock: Clock, capabilities: SchedulerCapabilities) -> Self {
        let state = Mutex::new(State::new(clock, capabilities.native_rolling));
        Self { inner: Arc::new(Inner { capabilities, state, timer: Mutex::new(None) }) }
    }

    /// What instances do for which no rule applies.
    pub fn behave_by_default(&self, behaviour: Behaviour) {
        self.inner.with(|state| state.default = behaviour);
    }

    /// What the instances of services of this name do from their next start or stop on.
    pub fn behave(&self, service: &ServiceName, behaviour: Behaviour) {
        let service = service.clone();
        self.behave_where(move |workload| workload.labels.service == service, behaviour);
    }

    /// What the instances of workloads that the predicate accepts do from their next start or stop on.
    pub fn behave_where(
        &self,
        applies: impl Fn(&Workload) -> bool + Send + Sync + 'static,
        behaviour: Behaviour,
    ) {
        self.inner.with(|state| state.rules.push(Rule { applies: Box::new(applies), behaviour }));
    }

    /// Forgets all rules: everybody is as by default again.
    pub fn heal(&self) {
        self.inner.with(state::State::heal);
    }

    /// Ends an instance that runs, with this code.
    ///
    /// # Errors
    /// `NotFound` where there is no such instance.
    pub fn crash(&self, instance: &InstanceId, code: i32) -> Result<()> {
        self.inner.with(|state| state.crash(instance, code))
    }

    /// Makes the readiness check of a ready instance fail.
    ///
    /// # Errors
    /// `NotFound` where there is no such instance.
    pub fn make_unready(&self, instance: &InstanceId) -> Result<()> {
        self.inner.with(|state| state.make_ready(instance, false))
    }

    /// Makes the readiness check of an instance succeed.
    ///
    /// # Errors
    /// `NotFound` where there is no such instance.
    pub fn make_ready(&self, instance: &InstanceId) -> Result<()> {
        self.inner.with(|state| state.make_ready(instance, true))
    }

    /// Forgets what was applied and ends all watches, as after a restart of the scheduler: instances go on.
    pub fn restart(&self) {
        self.inner.with(State::forget);
    }

    /// Every workload there is.
    #[must_use]
    pub fn workloads(&self) -> Vec<WorkloadStatus> {
        self.inner.with(|state| state.list(&Resource::Platform))
    }

    /// Every instance there is, with its workload, by workload and ordinal.
    #[must_use]
    pub fn instances(&self) -> Vec<(WorkloadKey, InstanceStatus)> {
        let own = |workload: WorkloadStatus| {
            let key = workload.key;
            workload.instances.into_iter().map(move |instance| (key.clone(), instance))
        };
        self.workloads().into_iter().flat_map(own).collect()
    }

    /// How often a method of the port was called: `apply`, `list`, `watch` or `remove`.
    #[must_use]
    pub fn calls(&self, op: &str) -> u64 {
        self.inner.with(|state| state.calls.get(op).copied().unwrap_or_default())
    }

    /// How many processes were started, restarts in place included.
    #[must_use]
    pub fn started(&self) -> u64 {
        self.inner.with(|state| state.started)
    }

    /// Every time two living instances of a service had the volumes of one ordinal, in order.
    #[must_use]
    pub fn volume_conflicts(&self) -> Vec<VolumeConflict> {
        self.inner.with(|state| state.conflicts.clone())
    }
}

impl Inner {
    /// Looks at the state as it is now, and wakes up when it changes next.
    fn with<T>(self: &Arc<Self>, look: impl FnOnce(&mut State) -> T) -> T {
        let mut state = lock(&self.state);
        state.settle();
        let found = look(&mut state);
        // What was due at once happens at once.
        state.settle();
        let due = state.next_due();
        drop(state);
        if let Some(due) = due {
            self.wake_at(due);
        }
        found
    }

    /// Hints must go out when something happens, not when somebody looks. One timer for the earliest is enough.
    fn wake_at(self: &Arc<Self>, due: Instant) {
        let Ok(runtime) = Handle::try_current() else { return };
        let mut timer = lock(&self.timer);
        if let Some((armed, task)) = &*timer
            && *armed <= due
            && !task.is_finished()
        {
            return;
        }
        let weak = Arc::downgrade(self);
        let task = runtime.spawn(async move {
            tokio::time::sleep_until(due).await;
            if let Some(inner) = weak.upgrade() {
                *lock(&inner.timer) = None;
                inner.with(|_| ());
            }
        });
        if let Some((_, later)) = timer.replace((due, task)) {
            later.abort();
        }
    }

    fn write<T>(
        self: &Arc<Self>,
        op: &'static str,
        scope: &Scope,
        act: impl FnOnce(&mut State) -> T,
    ) -> Result<T> {
        self.with(|state| {
            *state.calls.entry(op).or_default() += 1;
            if self.capabilities.fenced {
                state.fence.admit(scope)?;
            }
            Ok(act(state))
        })
    }

    fn read<T>(self: &Arc<Self>, op: &'static str, scope: &Scope, look: impl FnOnce(&mut State) -> T) -> T {
        self.with(|state| {
            *state.calls.entry(op).or_default() += 1;
            state.fence.see(scope);
            look(state)
        })
    }
}

#[async_trait]
impl Scheduler for MemoryScheduler {
    fn capabilities(&self) -> SchedulerCapabilities {
        self.inner.capabilities.clone()
    }

    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        self.inner.capabilities.admit(workload)?;
        self.inner.write("apply", scope, |state| state.apply(workload))
    }

    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        Ok(self.inner.read("list", scope, |state| state.list(&selector.resource())))
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        Ok(self.inner.read("watch", scope, |state| state.feed.hints(scope)))
    }

    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        self.inner.write("remove", scope, |state| state.remove(key))
    }
}

#[cfg(test)]
mod tests;
