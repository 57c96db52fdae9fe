//! The phases of a release: task, emptying, filling, shifting, holding.

use std::time::Duration;

use super::{Step, Walk};
use crate::engine::defect::{self, Defect};
use crate::engine::desire::is_routed;
use crate::engine::gate;
use crate::engine::record::{Direction, Mode, Phase, Rollout, ServiceState};
use crate::engine::rollout::Situation;
use crate::engine::stage::{ALL, Hold};
use crate::engine::template;
use crate::model::service::Kind;
use crate::model::{
    Failure, InstanceState, InstanceStatus, OperationId, Role, SlotTraffic, Timestamp, WorkloadStatus,
};

/// How often a new instance may end before it was ever ready.
const CRASHES: u32 = 3;
/// Between two looks at the rules that may end a release.
const JUDGEMENT: Duration = Duration::from_secs(2);

impl Walk<'_> {
    pub(super) fn forward(self, service: &mut ServiceState, operation: Option<&OperationId>) -> Step {
        match self.rollout.phase {
            Phase::Task => self.task(service, operation),
            Phase::Emptying => self.emptying(service),
            Phase::Filling => self.filling(service),
            Phase::Shifting => self.shifting(service),
            Phase::Holding => self.holding(service),
        }
    }

    pub(super) fn enter(&self, service: &mut ServiceState, phase: Phase, text: impl Into<String>) -> Step {
        self.enter_as(service, self.rollout.clone(), phase, text)
    }

    fn enter_as(
        &self,
        service: &mut ServiceState,
        rollout: Rollout,
        phase: Phase,
        text: impl Into<String>,
    ) -> Step {
        service.rollout = Some(Rollout { phase, since: self.situation.now, ..rollout });
        Step::Moved(text.into())
    }

    pub(super) fn deadline(&self) -> Timestamp {
        self.rollout.since + self.course.release.deadline
    }

    fn fail(&self, reason: impl Into<String>, witness: Option<&InstanceStatus>) -> Step {
        let mut failure = Failure::of(self.name.clone(), reason);
        if let Some(instance) = witness {
            failure.instance = Some(instance.id.clone());
            failure.exit = instance.last_exit.clone();
        }
        Step::Failed(failure)
    }

    fn task(&self, service: &mut ServiceState, operation: Option<&OperationId>) -> Step {
        let Self { situation, name, course, rollout, .. } = self;
        if self.paused {
            return Step::Wait(None);
        }
        if template::template(situation.app, situation.revisions, name, rollout.build).is_none() {
            // The address of a need is on its way.
            return self.in_time("the address of a service that it needs is not known");
        }
        let due = operation.filter(|_| !rollout.quick || course.spec.kind == Kind::Task);
        let task = template::task(situation.app, situation.revisions, name, rollout.build);
        let task = task.filter(|_| !defect::has(Defect::TaskSkipped));
        if operation.is_none() && !rollout.quick && task.is_some() {
            return Step::Wait(None); // only a release runs its task; what takes its place turns this one around
        }
        let (Some(operation), Some(_)) = (due, task) else {
            return self.enter(service, Phase::Emptying, "begins");
        };
        let status = situation.observed.workload(&service.id, Role::Task(operation.clone()));
        let instance = status.and_then(|status| status.instances.first());
        match instance.filter(|instance| instance.state == InstanceState::Exited) {
            Some(ended) if ended.last_exit.as_ref().is_some_and(crate::model::Exit::is_success) => {
                if course.spec.kind == Kind::Task {
                    service.settled = Some(rollout.build);
                    service.rollout = None;
                    return Step::Done(Direction::Forward);
                }
                self.enter(service, Phase::Emptying, "the task before the release has succeeded")
            }
            Some(ended) => self.fail("the task before the release failed", Some(ended)),
            None if situation.now >= self.deadline() => {
                let why = why(status, instance);
                self.fail(format!("the task before the release took too long{why}"), instance)
            }
            None => Step::Wait(Some(self.deadline())),
        }
    }

    /// Whether the candidate's slot holds interchangeable instances already, still warm.
    fn is_warm(&self, service: &ServiceState) -> bool {
        let Situation { app, revisions, .. } = self.situation;
        let warm = service.slots.get(&self.course.slot).filter(|_| self.course.slot != service.active);
        warm.is_some_and(|warm| {
            template::template(app, revisions, self.name, *warm)
                == template::template(app, revisions, self.name, self.rollout.build)
        })
    }

    fn emptying(&self, service: &mut ServiceState) -> Step {
        if self.paused {
            return Step::Wait(None);
        }
        let observed = self.situation.observed;
        let is_free = match self.course.mode {
            // Nothing of another build may run beside it, not even a slot that is still warm.
            Mode::Recreate => observed.is_down(&service.id),
            Mode::Ordered | Mode::Native => true,
            Mode::SideBySide => self.is_warm(service) || observed.is_empty(&service.id, self.course.slot),
        };
        if !is_free {
            return Step::Wait(None);
        }
        service.slots.insert(self.course.slot, self.rollout.build);
        if self.course.slot != service.active {
            service.warm_until = None;
        }
        let count = service.count();
        self.enter(
            service,
            Phase::Filling,
            format!("starts instances of revision {}, {count} in the end", self.rollout.build.revision),
        )
    }

    /// The candidate's instances that are of its template.
    pub(super) fn candidates(&self, service: &ServiceState) -> Vec<&InstanceStatus> {
        let Situation { app, revisions, observed, .. } = self.situation;
        let digest = template::template(app, revisions, self.name, self.rollout.build)
            .map(|template| template.digest());
        let of_build = |instance: &&InstanceStatus| Some(&instance.template) == digest.as_ref();
        let all = observed.instances(&service.id, self.course.slot).iter();
        all.filter(of_build).filter(|instance| self.counts(instance)).collect()
    }

    /// Whether a release waits for an instance: what a scheduler that rolls by itself has replaced may take its time to end,
    /// unless it has a volume to give up.
    fn counts(&self, instance: &InstanceStatus) -> bool {
        !self.situation.observed.native
            || !self.course.spec.volumes.is_empty()
            || instance.state != InstanceState::Stopping
    }

    /// How many instances of any template the candidate's slot has.
    pub(super) fn left(&self, service: &ServiceState) -> usize {
        let all = self.situation.observed.instances(&service.id, self.course.slot).iter();
        all.filter(|instance| self.counts(instance)).count()
    }

    fn filling(&self, service: &mut ServiceState) -> Step {
        let candidates = self.candidates(service);
        let ready = u32::try_from(candidates.iter().filter(|instance| instance.is_ready()).count())
            .unwrap_or(u32::MAX);
        let stage = self.course.stage(service, &self.rollout);
        let all = self.left(service);
        let exchanged = !self.course.is_ordered() || candidates.len() == all;
        if !self.paused && ready >= stage.candidate && exchanged {
            let rollout = Rollout { baseline: self.traffic(service).cloned(), ..self.rollout.clone() };
            let text = format!("{ready} of {} are ready", service.count());
            return self.enter_as(service, rollout, Phase::Shifting, text);
        }
        let broken = |instance: &&&InstanceStatus| {
            !instance.is_ready() && (instance.state == InstanceState::Exited || instance.restarts >= CRASHES)
        };
        if self.paused {
            return Step::Wait(None);
        }
        if let Some(witness) = candidates.iter().find(broken) {
            let reason =
                witness.message.clone().unwrap_or_else(|| "an instance ends before it is ready".to_owned());
            return self.fail(reason, Some(witness));
        }
        if self.course.is_ordered() && ready > self.rollout.stage {
            // Each instance that was exchanged gives the next one the whole deadline.
            let rollout = Rollout { stage: ready, since: self.situation.now, ..self.rollout.clone() };
            service.rollout = Some(rollout);
            return Step::Moved(format!("{ready} of {} instances exchanged", service.count()));
        }
        if self.situation.now >= self.deadline() {
            let witness = candidates.iter().find(|instance| !instance.is_ready()).copied();
            let seconds = self.course.release.deadline.as_secs();
            let slot = Role::Slot(self.course.slot);
            let why = why(self.situation.observed.workload(&service.id, slot), witness);
            return self.fail(
                format!("{ready} of {} instances were ready after {seconds} s{why}", stage.candidate),
                witness,
            );
        }
        Step::Wait(Some(self.deadline()))
    }

    /// Waits, until the deadline.
    fn in_time(&self, reason: &str) -> Step {
        let deadline = self.deadline();
        if self.situation.now >= deadline { self.fail(reason, None) } else { Step::Wait(Some(deadline)) }
    }

    /// Whether the candidate has what its stage asks for, still.
    fn is_filled(&self, service: &ServiceState) -> bool {
        let stage = self.course.stage(service, &self.rollout);
        let ready = self.candidates(service).iter().filter(|instance| instance.is_ready()).count();
        ready >= stage.candidate as usize
    }

    fn traffic(&self, service: &ServiceState) -> Option<&SlotTraffic> {
        let counted = self.situation.observed.traffic.get(&service.id)?;
        counted.iter().find(|traffic| {
            traffic.slot == self.course.slot && traffic.revision == self.rollout.build.revision
        })
    }

    fn judged(&self, service: &ServiceState) -> Option<Step> {
        let lines =
            self.situation.observed.lines.get(&service.id).and_then(Option::as_deref).unwrap_or_default();
        let verdict =
            gate::judge(&self.course.release, self.rollout.baseline.as_ref(), self.traffic(service), lines)?;
        Some(self.fail(verdict, None))
    }

    /// When the rules are asked again: nobody tells of requests and lines.
    fn next_judgement(&self) -> Option<Timestamp> {
        (!self.course.release.abort_if.is_empty()).then(|| self.situation.now + JUDGEMENT)
    }

    fn shifting(&self, service: &mut ServiceState) -> Step {
        if let Some(failed) = self.judged(service) {
            return failed;
        }
        if !self.is_filled(service) {
            return self.in_time("an instance was ready, and is not any more");
        }
        let stage = self.course.stage(service, &self.rollout);
        let shrunk = self.course.slot == service.active
            || self.situation.observed.instances(&service.id, service.active).len() <= stage.old as usize;
        if !shrunk || !is_routed(self.situation, self.name, service) {
            return Step::Wait(None);
        }
        let text = match stage.weight * 100 / ALL {
            100 => "gets all requests".to_owned(),
            0 => "is ready and gets no requests yet".to_owned(),
            share => format!("gets {share}% of the requests"),
        };
        self.enter(service, Phase::Holding, text)
    }

    fn holding(&self, service: &mut ServiceState) -> Step {
        if let Some(failed) = self.judged(service) {
            return failed;
        }
        if !self.is_filled(service) {
            return self.enter(service, Phase::Shifting, "an instance is not ready any more");
        }
        let is_unknown = self.situation.observed.lines.get(&service.id).is_some_and(Option::is_none);
        if self.paused || is_unknown {
            return Step::Wait(self.next_judgement());
        }
        match self.course.stage(service, &self.rollout).hold {
            Hold::For(time) if self.situation.now < self.rollout.since + time => {
                let end = self.rollout.since + time;
                return Step::Wait(Some(self.next_judgement().map_or(end, |next| next.min(end))));
            }
            Hold::Approval if !self.rollout.approved => return Step::Wait(self.next_judgement()),
            _ => {}
        }
        let next = self.rollout.stage + 1;
        if !self.course.is_in_place() && (next as usize) < self.course.stages(service, &self.rollout).len() {
            let rollout = Rollout { stage: next, approved: false, ..self.rollout.clone() };
            return self.enter_as(service, rollout, Phase::Filling, format!("goes on to step {}", next + 1));
        }
        self.promote(service);
        Step::Done(Direction::Forward)
    }

    fn promote(&self, service: &mut ServiceState) {
        if self.course.slot != service.active {
            service.active = self.course.slot;
            let stage = self.course.stage(service, &self.rollout);
            let warm = self.course.release.warm;
            service.warm_until = (stage.old > 0 && !warm.is_zero()).then(|| self.situation.now + warm);
        }
        service.settled = Some(self.rollout.build);
        service.rollout = None;
    }
}

/// What is known of why it is not ready: its instance's message, or why there is none.
fn why(workload: Option<&WorkloadStatus>, witness: Option<&InstanceStatus>) -> String {
    let why = witness.and_then(|instance| instance.message.as_deref());
    let why = why.or_else(|| workload?.message.as_deref());
    why.map_or(String::new(), |why| format!(": {why}"))
}
