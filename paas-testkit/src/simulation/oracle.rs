//! Judges every call that takes effect by the rules.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use paas_core::memory::{MemoryRouter, MemoryScheduler, MemoryStateStore, MemoryVolumeStore};
use paas_core::model::{
    Clock, Epoch, InstanceId, InstanceState, InstanceStatus, OperationKind, OperationState, Record,
    RevisionNumber, Role, Route, Scope, ServiceId, ServiceName, Workload, WorkloadKey, WorkloadStatus,
};
use paas_core::port::Scheduler;
use tokio::time::Instant;

use super::app;
use super::intent::{Intent, LeaseIntent, Specs, read};
use super::rule::{Rule, Violation};

/// How many calls may be made at one moment: with a handful of services, a pass makes some tens.
const CALLS_AT_ONCE: u32 = 1_500;
/// How many calls are remembered for a report.
const REMEMBERED: usize = 80;

/// What all replicas share.
#[derive(Clone, Debug)]
pub(super) struct Backends {
    pub(super) clock: Clock,
    pub(super) scheduler: MemoryScheduler,
    pub(super) router: MemoryRouter,
    pub(super) volumes: MemoryVolumeStore,
    pub(super) state: MemoryStateStore,
}

/// What a replica has seen last, which is what its next actions follow from.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    record: Option<Bytes>,
    instances: Vec<(ServiceId, InstanceStatus)>,
}

impl View {
    fn ready(&self) -> impl Iterator<Item = &(ServiceId, InstanceStatus)> {
        self.instances.iter().filter(|(_, instance)| instance.is_ready())
    }
}

/// Watches over the rules.
#[derive(Clone, Debug)]
pub(super) struct Oracle {
    pub(super) backends: Backends,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    violation: Option<Violation>,
    moment: Option<(Instant, u32)>,
    calls: u64,
    terms: BTreeMap<&'static str, Epoch>,
    views: BTreeMap<usize, View>,
    specs: Specs,
    tasks: BTreeSet<(ServiceId, RevisionNumber)>,
    crashed: BTreeSet<InstanceId>,
    trace: Option<VecDeque<String>>,
}

impl Oracle {
    pub(super) fn new(backends: Backends, trace: bool) -> Self {
        let inner = Inner { trace: trace.then(VecDeque::new), ..Inner::default() };
        Self { backends, inner: Arc::new(Mutex::new(inner)) }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the scheduler rolls, and drains what it stops, by itself.
    pub(super) fn is_native(&self) -> bool {
        self.backends.scheduler.capabilities().native_rolling
    }

    /// What did not hold first.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.lock().violation.clone()
    }

    /// How many calls were made.
    pub(super) fn calls(&self) -> u64 {
        self.lock().calls
    }

    pub(super) fn violate(&self, rule: Rule, text: impl FnOnce() -> String) {
        let mut inner = self.lock();
        if inner.violation.is_none() {
            let calls = inner.trace.iter().flatten().fold(String::new(), |all, call| all + "\n  " + call);
            inner.violation = Some(Violation::new(rule, text() + &calls));
        }
    }

    fn require(&self, rule: Rule, holds: bool, text: impl FnOnce() -> String) {
        if !holds {
            self.violate(rule, text);
        }
    }

    /// Remembers something for a report.
    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        let now = self.backends.clock.now();
        if let Some(trace) = &mut self.lock().trace {
            if trace.len() >= REMEMBERED {
                trace.pop_front();
            }
            trace.push_back(format!("{now} {}", what()));
        }
    }

    /// Counts a call. `false` once a rule was broken: then everybody is frozen, so that time can go by.
    pub(super) fn count(&self) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        inner.calls += 1;
        let at_once = match &mut inner.moment {
            Some((moment, calls)) if *moment == now => {
                *calls += 1;
                *calls
            }
            moment => {
                *moment = Some((now, 1));
                1
            }
        };
        drop(inner);
        self.require(Rule::Pace, at_once <= CALLS_AT_ONCE, || format!("{at_once} calls at one moment"));
        self.violation().is_none()
    }

    /// An instance was made to crash: requests on it may fail.
    pub(super) fn crashed(&self, instance: InstanceId) {
        self.lock().crashed.insert(instance);
    }

    pub(super) fn has_crashed(&self, instance: &InstanceId) -> bool {
        self.lock().crashed.contains(instance)
    }

    /// The app's record as it is.
    pub(super) fn intent(&self) -> Option<Intent> {
        let records = self.backends.state.records();
        read(&records.iter().find(|record| record.key.kind.as_str() == "app")?.value)
    }

    /// What is known of revisions, with those stored since.
    pub(super) fn specs(&self, intent: &Intent) -> Specs {
        let mut inner = self.lock();
        if !inner.specs.unknown(intent).is_empty() {
            inner.specs.learn(&self.backends.state.records());
        }
        inner.specs.clone()
    }

    /// A replica was told what runs.
    pub(super) fn listed(&self, replica: usize, workloads: &[WorkloadStatus]) {
        let mut inner = self.lock();
        for workload in workloads.iter().filter(|workload| matches!(workload.key.role, Role::Task(_))) {
            let succeeded = |i: &&InstanceStatus| {
                i.state == InstanceState::Exited
                    && i.last_exit.as_ref().is_some_and(paas_core::model::Exit::is_success)
            };
            let done = workload.instances.iter().filter(succeeded);
            let done: Vec<_> = done.map(|i| (workload.key.service.clone(), i.revision)).collect();
            inner.tasks.extend(done);
        }
        let view = inner.views.entry(replica).or_default();
        let of = |workload: &WorkloadStatus| {
            let service = workload.key.service.clone();
            workload.instances.clone().into_iter().map(move |instance| (service.clone(), instance))
        };
        view.instances = workloads.iter().flat_map(of).collect();
    }

    /// A replica was told an app's record, or wrote it.
    pub(super) fn read(&self, replica: usize, record: &Bytes) {
        self.lock().views.entry(replica).or_default().record = Some(record.clone());
    }

    pub(super) fn view(&self, replica: usize) -> View {
        self.lock().views.get(&replica).cloned().unwrap_or_default()
    }

    /// A backend took a write, or was asked.
    pub(super) fn heard(&self, backend: &'static str, scope: &Scope, accepted: bool) {
        let mut inner = self.lock();
        let term = inner.terms.entry(backend).or_default();
        let (before, own) = (*term, scope.epoch());
        *term = before.max(own.unwrap_or_default());
        drop(inner);
        self.require(Rule::Fenced, !accepted || own.is_some_and(|own| own >= before), || {
            format!("{backend} took a write of term {own:?} after it had heard of {before:?}")
        });
    }

    /// A workload was applied.
    pub(super) fn applied(&self, workload: &Workload, before: &[(WorkloadKey, InstanceStatus)]) {
        self.stopped(before);
        let Some(intent) = self.intent() else { return };
        let Some((name, service)) = intent.service(&workload.key.service) else {
            return self.violate(Rule::Intent, || format!("{} belongs to no app", workload.key.service));
        };
        if matches!(workload.key.role, Role::Task(_)) || workload.replicas == Some(0) {
            return;
        }
        let revision = workload.revision;
        let stored = service.slots.values().any(|build| build.revision == revision);
        self.require(Rule::Intent, stored, || {
            format!("{name} starts revision {revision}, which no slot has")
        });
        let specs = self.specs(&intent);
        let Some(spec) = specs.service(&intent, revision, name) else { return };
        let of = |number| specs.service(&intent, number, name).map(app::version);
        let is_new = service.settled.as_ref().is_none_or(|settled| of(settled.revision) != of(revision));
        let deploys = intent.operation.as_ref().is_some_and(|operation| {
            operation.kind == OperationKind::Deploy(revision) && operation.state == OperationState::Running
        });
        let quick = service.rollout.as_ref().is_some_and(|rollout| rollout.quick);
        if spec.before_release.is_some() && is_new && deploys && !quick {
            // A later revision may go on with the release of the same version.
            let same = |(id, earlier): &(ServiceId, RevisionNumber)| {
                *id == service.id && of(*earlier) == of(revision)
            };
            let done = self.lock().tasks.iter().any(same);
            self.require(Rule::Task, done, || {
                format!("{name} starts revision {revision} before its task succeeded")
            });
        }
    }

    /// Looks at what a call has stopped.
    pub(super) fn stopped(&self, before: &[(WorkloadKey, InstanceStatus)]) {
        let now = self.backends.scheduler.instances();
        let goes_on =
            |id: &InstanceId| now.iter().any(|(_, i)| i.id == *id && i.state != InstanceState::Stopping);
        let drains = !self.is_native();
        let live = before.iter().filter(|(_, i)| drains && i.state != InstanceState::Stopping);
        for (key, instance) in live {
            if !goes_on(&instance.id) {
                let drained = self.backends.router.is_drained(&instance.id);
                self.require(Rule::Drained, drained, || {
                    format!(
                        "{} of {} was stopped while requests reach it or are open on it",
                        instance.id, key.service
                    )
                });
            }
        }
        let conflicts = self.backends.scheduler.volume_conflicts();
        self.require(Rule::Writer, conflicts.is_empty(), || {
            format!("two writers on a volume: {conflicts:?}")
        });
    }

    /// A route was applied in the place of another, by somebody who had seen this.
    pub(super) fn routes(&self, before: Option<&Route>, route: &Route, view: &View) {
        let ready: BTreeSet<&InstanceId> = view.ready().map(|(_, instance)| &instance.id).collect();
        for endpoint in route.slots.iter().flat_map(|slot| &slot.endpoints) {
            self.require(Rule::Ready, ready.contains(&endpoint.instance), || {
                format!("{} of {} is in the route and was not ready", endpoint.instance, route.service)
            });
        }
        let Some(intent) = view.record.as_deref().and_then(read::<Intent>) else { return };
        let serving = |route: &Route| {
            let weighted = route.slots.iter().filter(|slot| slot.weight > 0);
            let endpoints = weighted.flat_map(|slot| &slot.endpoints);
            endpoints.filter(|endpoint| ready.contains(&endpoint.instance)).count()
        };
        let floor = intent.floor(&route.service, &self.specs(&intent)) as usize;
        let before = before.map_or(0, serving);
        let after = serving(route);
        self.require(Rule::Floor, after >= floor.min(before), || {
            format!("{} goes from {before} ready endpoints to {after}; its floor is {floor}", route.service)
        });
    }

    /// The lease was written.
    pub(super) fn leased(&self, before: Option<&Record>, after: &Bytes) {
        let (Some(before), Some(after)) =
            (before.and_then(|before| read::<LeaseIntent>(&before.value)), read::<LeaseIntent>(after))
        else {
            return;
        };
        let begins = after.renewals == 0 && !after.holder.is_empty();
        self.require(Rule::Term, !begins || after.epoch > before.epoch, || {
            format!("{} begins term {:?} after {:?}", after.holder, after.epoch, before.epoch)
        });
    }

    /// A replica wrote an app's record.
    pub(super) fn wrote(&self, replica: usize, before: Option<&Record>, after: &Bytes) {
        let Some(after) = read::<Intent>(after) else {
            return self.violate(Rule::Intent, || "a record was stored that cannot be read".to_owned());
        };
        self.tell(|| format!("stored: {after}"));
        let specs = self.specs(&after);
        let unknown = specs.unknown(&after);
        self.require(Rule::Intent, unknown.is_empty(), || format!("revisions {unknown:?} are not stored"));
        for operation in after.operations() {
            let promoted =
                operation.events.iter().filter(|event| event.text.ends_with("is promoted")).count();
            self.require(Rule::Promotion, promoted <= 1, || {
                format!("{} was promoted {promoted} times", operation.kind)
            });
        }
        let Some(before) = before.and_then(|before| read::<Intent>(&before.value)) else { return };
        self.require(Rule::Fenced, after.epoch >= before.epoch, || {
            format!("the record of term {:?} was overwritten in term {:?}", before.epoch, after.epoch)
        });
        for (name, service) in &after.services {
            let known = before.services.get(name).map(|service| service.replicas);
            self.require(Rule::Replicas, known == Some(service.replicas), || {
                format!("{name} had {known:?} replicas and has {}", service.replicas)
            });
        }
        self.keeps(&before, &after);
        self.ends(&before, &after);
        self.halts(replica, &before, &after, &specs);
        if before.promoted != after.promoted {
            self.promoted(&after, &specs);
        }
    }

    /// Operations that leave the record are archived.
    fn keeps(&self, before: &Intent, after: &Intent) {
        let records = self.backends.state.records();
        for operation in before.operations() {
            let stays = after.operations().any(|own| own.id == operation.id);
            let archived = || {
                records
                    .iter()
                    .any(|r| r.key.kind.as_str() == "operation" && *r.key.id == *operation.id.as_str())
            };
            self.require(Rule::Kept, stays || archived(), || format!("{} is lost", operation.kind));
        }
    }

    /// What an operation is said to have come to.
    fn ends(&self, before: &Intent, after: &Intent) {
        let open: Vec<_> = before.operations().filter(|operation| !operation.state.is_final()).collect();
        for operation in after.operations().filter(|operation| open.iter().any(|own| own.id == operation.id))
        {
            let is_so = match (operation.state, operation.kind.revision()) {
                (OperationState::Succeeded, Some(goal)) => after.promoted == Some(goal),
                (OperationState::Succeeded, None) if operation.kind == OperationKind::Start => {
                    after.services.values().all(|service| !service.halted)
                }
                (OperationState::Failed, _) => operation.failure.is_some(),
                _ => true,
            };
            self.require(Rule::Outcome, is_so, || {
                format!("{} is said to be {:?}", operation.kind, operation.state)
            });
        }
    }

    /// In which order services are stopped and started.
    fn halts(&self, replica: usize, before: &Intent, after: &Intent, specs: &Specs) {
        let Some(spec) = after.promoted.and_then(|promoted| specs.app(after, promoted)) else { return };
        let running = self.backends.scheduler.instances();
        let view = self.view(replica);
        let gave_up = after.operations().any(|operation| operation.state == OperationState::Failed);
        for (name, service) in &after.services {
            let was = before.services.get(name).is_some_and(|service| service.halted);
            let needs = |needy: &ServiceName, needed: &ServiceName| {
                spec.services.get(needy).is_some_and(|spec| spec.needs.contains(needed))
            };
            for (other, neighbour) in &after.services {
                if service.halted && !was && needs(other, name) {
                    let down = running.iter().all(|(key, instance)| {
                        key.service != neighbour.id || instance.state == InstanceState::Exited
                    });
                    self.require(Rule::Order, down, || {
                        format!("{name} stops before {other}, which needs it")
                    });
                }
                if !service.halted && was && needs(name, other) && !gave_up {
                    let ready = view.ready().filter(|(id, _)| *id == neighbour.id).count();
                    let up = !neighbour.halted && ready >= neighbour.replicas as usize;
                    self.require(Rule::Order, up, || format!("{name} starts before {other}, which it needs"));
                }
            }
        }
    }

    fn promoted(&self, intent: &Intent, specs: &Specs) {
        let Some(goal) = intent.promoted else {
            return self.violate(Rule::Promotion, || "nothing is promoted any more".to_owned());
        };
        let asked = intent.operations().any(|operation| operation.kind.revision() == Some(goal));
        self.require(Rule::Promotion, asked, || format!("nobody asked for revision {goal}"));
        let Some(spec) = specs.app(intent, goal) else { return };
        for (name, wanted) in &spec.services {
            let service = intent.services.get(name);
            let settled = service.and_then(|service| service.settled.as_ref());
            let runs = settled.and_then(|settled| specs.service(intent, settled.revision, name));
            self.require(Rule::Promotion, runs.map(app::version) == Some(app::version(wanted)), || {
                format!("revision {goal} is promoted, and {name} is not at it")
            });
            let idle = service.is_none_or(|service| service.replicas == 0);
            self.require(Rule::Promotion, idle || !app::cannot_run(wanted), || {
                format!("revision {goal} is promoted, and {name} cannot run")
            });
        }
    }
}
