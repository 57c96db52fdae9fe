//! The scheduler: which instances there are, and which there should be.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use paas::backend::{Fence, HintFeed, Steps};
use paas::model::{
    Clock, Digest, IdSource, InstanceId, InstanceState, InstanceStatus, Scope, Source, Template, Workload,
    WorkloadKey, WorkloadStatus,
};
use paas::port::{Backend, Hints, Scheduler, SchedulerCapabilities, Selector};
use paas::{Error, ErrorKind, Result};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::instance::{Function, Life, Place};

/// Runs services that are functions of this very program: `run: greet hello` is a task of the function registered as
/// `greet`, with a socket of its own. A whole app runs and is debugged in one process; routes, releases and everything
/// else are as ever.
#[derive(Clone, Debug)]
pub(crate) struct FunctionScheduler(Arc<Inner>);

pub(super) struct Inner {
    functions: BTreeMap<&'static str, Function>,
    fence: Fence,
    feed: HintFeed,
    ids: IdSource,
    clock: Clock,
    workloads: Mutex<BTreeMap<WorkloadKey, Held>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FunctionScheduler").field("functions", &self.functions.keys()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Held {
    desired: Option<Workload>,
    instances: Vec<Running>,
}

pub(super) struct Running {
    pub(super) status: InstanceStatus,
    /// Ends the run there is.
    pub(super) run: Option<AbortHandle>,
    /// Dropped to ask it to end.
    stop: Option<watch::Sender<()>>,
}

impl FunctionScheduler {
    /// A scheduler of these functions.
    pub(crate) fn new(functions: impl IntoIterator<Item = (&'static str, Function)>) -> Self {
        Self(Arc::new(Inner {
            functions: functions.into_iter().collect(),
            fence: Fence::default(),
            feed: HintFeed::new(1_024),
            ids: IdSource::random(Clock::system()),
            clock: Clock::system(),
            workloads: Mutex::default(),
        }))
    }

    /// Ends an instance's run, as a crash would.
    pub(crate) fn kill(&self, id: &InstanceId) -> Result<()> {
        let workloads = self.0.workloads();
        let mut instances = workloads.values().flat_map(|held| &held.instances);
        let running = instances.find(|running| running.status.id == *id);
        let run = running.and_then(|running| running.run.as_ref());
        run.ok_or_else(|| Error::not_found("no such instance runs").with("instance", id))?.abort();
        Ok(())
    }
}

#[async_trait]
impl Backend for FunctionScheduler {
    fn name(&self) -> &'static str {
        "functions"
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Scheduler for FunctionScheduler {
    fn capabilities(&self) -> SchedulerCapabilities {
        let mut capabilities = SchedulerCapabilities::new(&["run"]);
        capabilities.fenced = true;
        capabilities
    }

    async fn apply(&self, scope: &Scope, workload: &Workload) -> Result<Digest> {
        self.0.fence.admit(scope)?;
        self.capabilities().admit(workload)?;
        self.0.program(&workload.template)?;
        self.0.workloads().entry(workload.key.clone()).or_default().desired = Some(workload.clone());
        self.0.settle(&workload.key);
        Ok(workload.digest())
    }

    async fn list(&self, scope: &Scope, selector: &Selector) -> Result<Vec<WorkloadStatus>> {
        self.0.fence.see(scope);
        let (workloads, within) = (self.0.workloads(), selector.resource());
        let selected = workloads.iter().filter(|(key, _)| within.contains(&key.resource()));
        let status = |(key, held): (&WorkloadKey, &Held)| {
            let mut status = WorkloadStatus::new(key.clone(), held.desired.as_ref().map(Workload::digest));
            status.instances = held.statuses();
            status.instances.sort_by_key(|instance| instance.ordinal);
            status
        };
        Ok(selected.map(status).collect())
    }

    async fn watch(&self, scope: &Scope) -> Result<Hints> {
        self.0.fence.see(scope);
        Ok(self.0.feed.hints(scope))
    }

    async fn remove(&self, scope: &Scope, key: &WorkloadKey) -> Result<()> {
        self.0.fence.admit(scope)?;
        if let Some(held) = self.0.workloads().get_mut(key) {
            held.desired = None;
        }
        self.0.settle(key);
        Ok(())
    }
}

impl Held {
    fn statuses(&self) -> Vec<InstanceStatus> {
        self.instances.iter().map(|running| running.status.clone()).collect()
    }
}

impl Inner {
    fn workloads(&self) -> MutexGuard<'_, BTreeMap<WorkloadKey, Held>> {
        self.workloads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function that a template names, and its arguments. What no function can have is refused, not passed over.
    fn program(&self, template: &Template) -> Result<(Function, Vec<String>)> {
        let unsupported = |why| Error::new(ErrorKind::Unsupported, why);
        if template.ready.is_some() || template.live.is_some() || !template.secrets.is_empty() {
            return Err(unsupported("functions have neither probes nor secrets"));
        }
        let run = template.sources.iter().find_map(|source| match source {
            Source::Run(command) => Some(command),
            _ => None,
        });
        let command =
            template.command.as_ref().or(run).ok_or_else(|| unsupported("only functions run here"))?;
        let mut arguments = command.expand(&template.env)?;
        let name = arguments.remove(0);
        let function = self
            .functions
            .get(&*name)
            .ok_or_else(|| unsupported("no function of this name is registered").with("name", &name))?;
        Ok((Arc::clone(function), arguments))
    }

    /// Goes from the instances there are to those that there should be.
    fn settle(self: &Arc<Self>, key: &WorkloadKey) {
        let mut workloads = self.workloads();
        let Some(held) = workloads.get_mut(key) else { return };
        let steps = Steps::toward(held.desired.as_ref(), &held.statuses());
        for running in held.instances.iter_mut().filter(|running| steps.stop.contains(&running.status.id)) {
            running.status.state = InstanceState::Stopping;
            running.stop = None;
        }
        let start = |ordinal| self.start(held.desired.as_ref()?, ordinal);
        let started: Vec<Running> = steps.start.into_iter().filter_map(start).collect();
        held.instances.extend(started);
        if held.desired.is_none() && held.instances.is_empty() {
            workloads.remove(key);
        }
        self.feed.tell(key.resource(), &key.app);
    }

    fn start(self: &Arc<Self>, workload: &Workload, ordinal: u32) -> Option<Running> {
        let (function, arguments) = self.program(&workload.template).ok()?; // `apply` has refused what is none.
        let (id, digest) = (InstanceId::generate(&self.ids), workload.template.digest());
        let status = InstanceStatus::new(id.clone(), ordinal, workload.revision, digest, self.clock.now());
        let (stop, stopped) = watch::channel(());
        let place = Place { inner: Arc::downgrade(self), key: workload.key.clone(), id };
        let life = Life { place, origin: workload.clone(), function, arguments, stop: stopped, socket: None };
        tokio::spawn(life.live());
        Some(Running { status, run: None, stop: Some(stop) })
    }

    /// Changes an instance that was not asked to end, and tells of it.
    pub(super) fn update<T>(
        &self,
        key: &WorkloadKey,
        id: &InstanceId,
        change: impl FnOnce(&mut Running) -> T,
    ) -> Option<T> {
        let mut workloads = self.workloads();
        let mut instances = workloads.get_mut(key)?.instances.iter_mut();
        let running = instances.find(|running| running.status.id == *id && running.stop.is_some())?;
        let changed = change(running);
        self.feed.tell(key.resource(), &key.app);
        Some(changed)
    }

    /// Forgets an instance of which nothing is left.
    pub(super) fn gone(self: &Arc<Self>, key: &WorkloadKey, id: &InstanceId) {
        if let Some(held) = self.workloads().get_mut(key) {
            held.instances.retain(|running| running.status.id != *id);
        }
        self.settle(key);
    }
}
