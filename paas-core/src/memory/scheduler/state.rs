//! The state machine: no timers and no locks, so that it can be read on its own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::behaviour::Behaviour;
use crate::backend::{Fence, HintFeed, Steps};
use crate::memory::loopback;
use crate::model::{
    Clock, Digest, Endpoint, Exit, InstanceId, InstanceState, InstanceStatus, Resource, Role, Timestamp,
    Workload, WorkloadKey, WorkloadStatus,
};
use crate::{Error, Result};

/// Two living instances that had the volumes of one ordinal at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VolumeConflict {
    /// The service.
    pub service: Resource,
    /// Whose volumes.
    pub ordinal: u32,
    /// The one that was there.
    pub first: InstanceId,
    /// The one that was started beside it.
    pub second: InstanceId,
}

type Predicate = Box<dyn Fn(&Workload) -> bool + Send + Sync>;

/// Which behaviour for which workloads.
pub(super) struct Rule {
    pub(super) applies: Predicate,
    pub(super) behaviour: Behaviour,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.behaviour.fmt(f)
    }
}

/// What happens to an instance next, if nothing comes between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Ready,
    End,
    Start,
    Gone,
}

#[derive(Debug)]
struct Instance {
    status: InstanceStatus,
    /// What it was started from, which is what it is started from again.
    origin: Arc<Workload>,
    behaviour: Behaviour,
    began: Instant,
    failures: u32,
    next: Option<(Due, Next)>,
}

impl Instance {
    fn is_stopping(&self) -> bool {
        self.status.state == InstanceState::Stopping
    }

    fn has_process(&self) -> bool {
        !matches!(self.status.state, InstanceState::BackingOff | InstanceState::Exited)
    }
}

#[derive(Debug, Default)]
struct Held {
    desired: Option<Arc<Workload>>,
    applied: Option<Digest>,
    ran: bool,
    refused: Option<String>,
    instances: BTreeMap<InstanceId, Instance>,
}

type Due = (Instant, u64);

#[derive(Debug)]
pub(super) struct State {
    pub(super) fence: Fence,
    pub(super) rules: Vec<Rule>,
    pub(super) default: Behaviour,
    pub(super) calls: BTreeMap<&'static str, u64>,
    pub(super) conflicts: Vec<VolumeConflict>,
    pub(super) started: u64,
    pub(super) feed: HintFeed,
    /// Whether it replaces instances of another template by itself.
    native: bool,
    clock: Clock,
    workloads: BTreeMap<WorkloadKey, Held>,
    agenda: BTreeMap<Due, (WorkloadKey, InstanceId)>,
    turns: u64,
    ids: u64,
    endpoints: u32,
}

/// The pause before the `failures`th start in a row.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(100).saturating_mul(2u32.saturating_pow(failures)).min(LONGEST_PAUSE)
}

/// The longest pause; an instance that lived as long begins with the shortest again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl State {
    pub(super) fn new(clock: Clock, native: bool) -> Self {
        Self {
            fence: Fence::default(),
            rules: Vec::new(),
            default: Behaviour::healthy(),
            calls: BTreeMap::new(),
            conflicts: Vec::new(),
            started: 0,
            feed: HintFeed::new(1_024),
            native,
            clock,
            workloads: BTreeMap::new(),
            agenda: BTreeMap::new(),
            turns: 0,
            ids: 0,
            endpoints: 0,
        }
    }

    /// When something happens next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// Lets everything happen that was to happen until now, in order.
    pub(super) fn settle(&mut self) {
        let now = Instant::now();
        while let Some((at, (key, id))) = self.next_until(now) {
            let Some(instance) = self.instance_mut(&key, &id) else { continue };
            match instance.next.take() {
                Some((_, Next::Ready)) => self.ready(&key, &id),
                Some((_, Next::End)) => {
                    let (exit, for_good) = self.planned_exit(&key, &id, at);
                    self.ended(&key, &id, exit, for_good, at);
                }
                Some((_, Next::Start)) => {
                    if let Some(instance) = self.instance_mut(&key, &id) {
                        instance.status.restarts += 1;
                    }
                    self.begin(&key, &id, at);
                }
                Some((_, Next::Gone)) => self.gone(&key, &id, at),
                None => {}
            }
            self.tell(&key);
        }
    }

    pub(super) fn apply(&mut self, workload: &Workload) -> Digest {
        let now = Instant::now();
        let digest = workload.digest();
        let held = self.workloads.entry(workload.key.clone()).or_default();
        held.desired = Some(Arc::new(workload.clone()));
        held.applied = Some(digest.clone());
        held.refused = None;
        for id in &workload.retire {
            self.stop(&workload.key, id, now);
        }
        self.reconcile(&workload.key, now);
        self.tell(&workload.key);
        digest
    }

    pub(super) fn remove(&mut self, key: &WorkloadKey) {
        let now = Instant::now();
        let Some(held) = self.workloads.get_mut(key) else { return };
        held.desired = None;
        held.applied = None;
        held.ran = false;
        let ids: Vec<InstanceId> = held.instances.keys().cloned().collect();
        for id in ids {
            self.stop(key, &id, now);
            self.discard_exited(key, &id);
        }
        self.reconcile(key, now);
        self.tell(key);
    }

    pub(super) fn list(&self, resource: &Resource) -> Vec<WorkloadStatus> {
        let selected = self.workloads.iter().filter(|(key, _)| resource.contains(&key.resource()));
        selected
            .map(|(key, held)| {
                let mut status = WorkloadStatus::new(key.clone(), held.applied.clone());
                status.message.clone_from(&held.refused);
                status.instances = held.instances.values().map(|i| i.status.clone()).collect();
                status.instances.sort_by(|a, b| (a.ordinal, &a.id).cmp(&(b.ordinal, &b.id)));
                status
            })
            .collect()
    }

    /// Forgets how workloads were to behave, and makes what was refused.
    pub(super) fn heal(&mut self) {
        self.rules.clear();
        let again = |(key, held): (&WorkloadKey, &mut Held)| held.refused.take().map(|_| key.clone());
        let refused: Vec<WorkloadKey> = self.workloads.iter_mut().filter_map(again).collect();
        for key in refused {
            self.reconcile(&key, Instant::now());
            self.tell(&key);
        }
    }

    /// Forgets what was applied, as a scheduler that was started again and found its instances.
    pub(super) fn forget(&mut self) {
        self.workloads.values_mut().for_each(|held| held.applied = None);
        self.feed = HintFeed::new(1_024);
    }

    pub(super) fn crash(&mut self, id: &InstanceId, code: i32) -> Result<()> {
        let now = Instant::now();
        let key = self.find(id)?;
        if self.instance_mut(&key, id).is_some_and(|instance| instance.has_process()) {
            let exit = Exit::with_code(code, self.time(now));
            self.ended(&key, id, exit, false, now);
            self.tell(&key);
        }
        Ok(())
    }

    pub(super) fn make_ready(&mut self, id: &InstanceId, is_ready: bool) -> Result<()> {
        let key = self.find(id)?;
        let Some(instance) = self.instance_mut(&key, id) else { return Ok(()) };
        match (instance.status.state, is_ready) {
            (InstanceState::Starting | InstanceState::Unready, true) => self.ready(&key, id),
            (InstanceState::Ready, false) => {
                instance.status.state = InstanceState::Unready;
                instance.status.message = Some("its readiness check fails".into());
            }
            _ => return Ok(()),
        }
        self.tell(&key);
        Ok(())
    }

    fn next_until(&mut self, now: Instant) -> Option<(Instant, (WorkloadKey, InstanceId))> {
        let first = self.agenda.first_entry().filter(|first| first.key().0 <= now)?;
        let ((at, _), who) = first.remove_entry();
        Some((at, who))
    }

    fn find(&self, id: &InstanceId) -> Result<WorkloadKey> {
        let has = |(key, held): (&WorkloadKey, &Held)| held.instances.contains_key(id).then(|| key.clone());
        self.workloads
            .iter()
            .find_map(has)
            .ok_or_else(|| Error::not_found("no such instance").with("instance", id))
    }

    fn instance_mut(&mut self, key: &WorkloadKey, id: &InstanceId) -> Option<&mut Instance> {
        self.workloads.get_mut(key)?.instances.get_mut(id)
    }

    fn tell(&self, key: &WorkloadKey) {
        self.feed.tell(key.resource(), &key.app);
    }

    fn time(&self, at: Instant) -> Timestamp {
        let ago = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Timestamp(self.clock.now().0.saturating_sub(ago))
    }

    fn schedule(&mut self, key: &WorkloadKey, id: &InstanceId, next: Option<(Instant, Next)>) {
        self.turns += 1;
        let turn = self.turns;
        let Some(instance) = self.instance_mut(key, id) else { return };
        let before = instance.next.take();
        instance.next = next.map(|(at, next)| ((at, turn), next));
        if let Some((due, _)) = before {
            self.agenda.remove(&due);
        }
        if let Some((at, _)) = next {
            self.agenda.insert((at, turn), (key.clone(), id.clone()));
        }
    }

    fn behaviour(&self, workload: &Workload) -> Behaviour {
        let rule = self.rules.iter().rev().find(|rule| (rule.applies)(workload));
        rule.map_or(&self.default, |rule| &rule.behaviour).clone().of(workload)
    }

    /// Why nothing of a workload can be made. Rules are not asked for nothing: whoever gave one may count.
    fn refused(&self, workload: &Workload) -> Option<String> {
        let mut all = self.rules.iter().map(|rule| &rule.behaviour).chain([&self.default]);
        all.any(|behaviour| behaviour.refused.is_some()).then(|| self.behaviour(workload).refused)?
    }

    /// Starts what is missing and stops what is too much.
    fn reconcile(&mut self, key: &WorkloadKey, now: Instant) {
        let Some(held) = self.workloads.get_mut(key) else { return };
        let Some(desired) = held.desired.clone() else {
            if held.instances.is_empty() {
                self.workloads.remove(key);
            }
            return;
        };
        if self.native && !desired.is_task() {
            return self.roll(key, &desired, now);
        }
        let mut active: Vec<&InstanceStatus> =
            held.instances.values().filter(|i| !i.is_stopping()).map(|i| &i.status).collect();
        let count = u32::try_from(active.len()).unwrap_or(u32::MAX);
        let wanted = desired.replicas.unwrap_or_else(|| count.max(1));
        if count > wanted {
            active.sort_by_key(|status| (status.is_ready(), std::cmp::Reverse(status.ordinal)));
            let excess = (count - wanted) as usize;
            let excess: Vec<InstanceId> = active[..excess].iter().map(|status| status.id.clone()).collect();
            excess.iter().for_each(|id| self.stop(key, id, now));
        } else if !desired.is_task() || !std::mem::replace(&mut held.ran, true) {
            for ordinal in missing(held, &desired, wanted - count) {
                self.start(key, &desired, ordinal, now);
            }
        }
    }

    /// As a scheduler that replaces instances of another template by itself.
    fn roll(&mut self, key: &WorkloadKey, desired: &Arc<Workload>, now: Instant) {
        let there = |state: &Self| -> Vec<InstanceStatus> {
            let held = state.workloads.get(key);
            held.into_iter().flat_map(|held| held.instances.values()).map(|own| own.status.clone()).collect()
        };
        loop {
            let before = there(self);
            let Steps { stop, start, .. } = Steps::rolling(desired, &before);
            stop.iter().for_each(|id| self.stop(key, id, now));
            let goes_on = there(self).len() == before.len();
            start.into_iter().for_each(|ordinal| self.start(key, desired, ordinal, now));
            // What had no process is gone at once, and nobody will tell of it.
            if goes_on {
                return;
            }
        }
    }

    fn start(&mut self, key: &WorkloadKey, workload: &Arc<Workload>, ordinal: u32, now: Instant) {
        if let Some(reason) = self.refused(workload) {
            if let Some(held) = self.workloads.get_mut(key) {
                held.refused = Some(reason);
            }
            return;
        }
        self.ids += 1;
        let Ok(id) = InstanceId::new(format!("i-{:06}", self.ids)) else { return };
        let digest = workload.template.digest();
        let mut status = InstanceStatus::new(id.clone(), ordinal, workload.revision, digest, self.time(now));
        if let (Role::Slot(slot), Some(_)) = (&key.role, workload.template.port) {
            let address = loopback(30_000, self.endpoints);
            status.endpoint = Some(Endpoint { instance: id.clone(), slot: *slot, address });
            self.endpoints += 1;
        }
        let instance = Instance {
            status,
            origin: Arc::clone(workload),
            behaviour: Behaviour::healthy(),
            began: now,
            failures: 0,
            next: None,
        };
        let Some(held) = self.workloads.get_mut(key) else { return };
        held.instances.insert(id.clone(), instance);
        self.begin(key, &id, now);
    }

    /// A process begins: the first time, or again in its place.
    fn begin(&mut self, key: &WorkloadKey, id: &InstanceId, now: Instant) {
        self.started += 1;
        self.find_conflicts(key, id);
        let Some(instance) = self.instance_mut(key, id) else { return };
        let origin = Arc::clone(&instance.origin);
        let behaviour = self.behaviour(&origin);
        let Some(instance) = self.instance_mut(key, id) else { return };
        instance.status.state = InstanceState::Starting;
        instance.status.message = None;
        instance.began = now;
        instance.behaviour = behaviour;
        let Behaviour { startup, ends, .. } = &instance.behaviour;
        let next = match (startup, ends) {
            (Some(startup), Some(ends)) if *startup < ends.after => Some((now + *startup, Next::Ready)),
            (_, Some(ends)) => Some((now + ends.after, Next::End)),
            (Some(startup), None) => Some((now + *startup, Next::Ready)),
            (None, None) => None,
        };
        self.schedule(key, id, next);
    }

    fn find_conflicts(&mut self, key: &WorkloadKey, id: &InstanceId) {
        let Some(own) = self.workloads.get(key).and_then(|held| held.instances.get(id)) else { return };
        let service = key.resource();
        let shares = |other: &Instance| {
            let mounted = |name| other.origin.template.mounts.iter().any(|mount| &mount.name == name);
            other.status.id != *id
                && other.status.ordinal == own.status.ordinal
                && other.has_process()
                && own.origin.template.mounts.iter().any(|mount| mounted(&mount.name))
        };
        let found: Vec<VolumeConflict> = self
            .workloads
            .iter()
            .filter(|(other, _)| other.resource() == service)
            .flat_map(|(_, held)| held.instances.values())
            .filter(|other| shares(other))
            .map(|other| VolumeConflict {
                service: service.clone(),
                ordinal: own.status.ordinal,
                first: other.status.id.clone(),
                second: id.clone(),
            })
            .collect();
        self.conflicts.extend(found);
    }

    fn ready(&mut self, key: &WorkloadKey, id: &InstanceId) {
        let Some(instance) = self.instance_mut(key, id) else { return };
        instance.status.state = InstanceState::Ready;
        instance.status.message = None;
        let end = instance.behaviour.ends.as_ref().map(|ends| (instance.began + ends.after, Next::End));
        self.schedule(key, id, end);
        if self.native {
            self.reconcile(key, Instant::now());
        }
    }

    fn planned_exit(&mut self, key: &WorkloadKey, id: &InstanceId, at: Instant) -> (Exit, bool) {
        let time = self.time(at);
        let ends = self.instance_mut(key, id).and_then(|instance| instance.behaviour.ends.clone());
        ends.map_or_else(
            || (Exit::with_code(0, time), false),
            |ends| (ends.exit(time), ends.reason.is_some()),
        )
    }

    fn ended(&mut self, key: &WorkloadKey, id: &InstanceId, exit: Exit, for_good: bool, now: Instant) {
        let Some(instance) = self.instance_mut(key, id) else { return };
        if instance.is_stopping() {
            return self.gone(key, id, now);
        }
        instance.status.message = Some(exit.to_string());
        instance.status.last_exit = Some(exit);
        if for_good || instance.origin.is_task() {
            instance.status.state = InstanceState::Exited;
            return self.schedule(key, id, None);
        }
        if now.saturating_duration_since(instance.began) >= LONGEST_PAUSE {
            instance.failures = 0;
        }
        let again = now + pause(instance.failures);
        instance.failures = instance.failures.saturating_add(1);
        instance.status.state = InstanceState::BackingOff;
        self.schedule(key, id, Some((again, Next::Start)));
    }

    /// Asks an instance to end; one without a process is gone at once. A finished task stays: it is the answer.
    fn stop(&mut self, key: &WorkloadKey, id: &InstanceId, now: Instant) {
        let Some(instance) = self.instance_mut(key, id) else { return };
        match instance.status.state {
            InstanceState::Stopping => {}
            InstanceState::Exited if instance.origin.is_task() => {}
            InstanceState::Exited | InstanceState::BackingOff => self.discard(key, id),
            InstanceState::Starting | InstanceState::Ready | InstanceState::Unready => {
                let origin = Arc::clone(&instance.origin);
                instance.status.state = InstanceState::Stopping;
                let stop = self.behaviour(&origin).stop.min(origin.template.grace);
                self.schedule(key, id, Some((now + stop, Next::Gone)));
            }
        }
    }

    fn discard_exited(&mut self, key: &WorkloadKey, id: &InstanceId) {
        let exited = self.instance_mut(key, id).is_some_and(|i| i.status.state == InstanceState::Exited);
        if exited {
            self.discard(key, id);
        }
    }

    fn discard(&mut self, key: &WorkloadKey, id: &InstanceId) {
        self.schedule(key, id, None);
        if let Some(held) = self.workloads.get_mut(key) {
            held.instances.remove(id);
        }
    }

    fn gone(&mut self, key: &WorkloadKey, id: &InstanceId, now: Instant) {
        self.discard(key, id);
        self.reconcile(key, now);
    }
}

/// The ordinals of the instances to start now. Volumes belong to an ordinal, so one that has volumes waits for the
/// old instance of its ordinal; others take the lowest that nobody has.
fn missing(held: &Held, desired: &Workload, count: u32) -> Vec<u32> {
    let taken = |ordinal: u32, stopping: bool| {
        held.instances.values().any(|i| i.status.ordinal == ordinal && (stopping || !i.is_stopping()))
    };
    let count = count as usize;
    let has_volumes = !desired.template.mounts.is_empty()
        || held.instances.values().any(|instance| !instance.origin.template.mounts.is_empty());
    if has_volumes {
        let free = (0..).filter(|ordinal| !taken(*ordinal, false)).take(count);
        return free.filter(|ordinal| !taken(*ordinal, true)).collect();
    }
    (0..).filter(|ordinal| !taken(*ordinal, true)).take(count).collect()
}
