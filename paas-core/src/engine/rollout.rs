//! One service on its way from one build to another: the one function behind every release strategy.
//!
//! A service has two slots. Where old and new instances may run side by side, the candidate fills the slot that is not
//! active and [`stage`](super::stage)s move replicas and weights over. Where they may not (volumes, `recreate`), the
//! one slot changes its build in place.

use super::defect::{self, Defect};
use super::gate;
use super::observed::Observed;
use super::record::{AppRecord, Build, Direction, Mode, Phase, Rollout, ServiceState};
use super::stage::{Hold, Stage, stages};
use super::template::{self, Revisions};
use crate::model::service::Kind;
use crate::model::{
    Digest, Failure, InstanceState, InstanceStatus, OperationId, Release, Role, ServiceName, ServiceSpec,
    Slot, SlotTraffic, Strategy, Timestamp,
};

/// Everything that a decision is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Situation<'a> {
    pub(crate) app: &'a AppRecord,
    pub(crate) revisions: &'a Revisions,
    pub(crate) observed: &'a Observed,
    pub(crate) now: Timestamp,
}

/// What one step of a rollout came to.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing to decide before something else happens, or this time comes.
    Wait(Option<Timestamp>),
    /// It went on; the text is for people.
    Moved(String),
    /// It is over, in the direction it went.
    Done(Direction),
    /// It must go back.
    Failed(Failure),
}

/// How often a new instance may end before it was ever ready.
const CRASHES: u32 = 3;

/// The facts of a service's rollout that do not change while it goes on.
pub(crate) struct Course<'a> {
    pub(crate) spec: &'a ServiceSpec,
    pub(crate) release: Release,
    pub(crate) mode: Mode,
    /// Whether something ran before that serves until the candidate does.
    pub(crate) has_old: bool,
    pub(crate) slot: Slot,
}

impl<'a> Course<'a> {
    /// `None` where the revision of the rollout is not known.
    pub(crate) fn of(
        situation: Situation<'a>,
        name: &ServiceName,
        service: &ServiceState,
        rollout: &Rollout,
    ) -> Option<Self> {
        let spec = template::spec(situation.revisions, rollout.build, name)?;
        let (release, mode) = (spec.release(), rollout.mode);
        let has_old = service.settled.is_some() && service.slots.contains_key(&service.active);
        let slot = if mode == Mode::SideBySide && has_old { service.active.other() } else { service.active };
        Some(Self { spec, release, mode, has_old, slot })
    }

    /// Whether the candidate takes the place of what runs.
    pub(crate) fn is_in_place(&self) -> bool {
        self.mode != Mode::SideBySide
    }

    pub(crate) fn stages(&self, service: &ServiceState, rollout: &Rollout) -> Vec<Stage> {
        stages(&self.release, service.count(), self.has_old && !self.is_in_place(), rollout.quick)
    }

    pub(crate) fn stage(&self, service: &ServiceState, rollout: &Rollout) -> Stage {
        let stages = self.stages(service, rollout);
        // There is always a stage, and a count that shrank meanwhile can only shorten the way.
        stages[(rollout.stage as usize).min(stages.len() - 1)]
    }

    /// Whether instances are exchanged one at a time in their places.
    pub(crate) fn is_ordered(&self) -> bool {
        self.mode == Mode::Ordered && self.has_old
    }
}

/// How a service goes over to a spec: volumes have one writer, so they allow no second slot.
fn mode(spec: &ServiceSpec, current: Option<&ServiceSpec>) -> Mode {
    let release = spec.release();
    let has_volumes = |spec: &ServiceSpec| !spec.volumes.is_empty();
    match release.strategy {
        Strategy::Recreate => Mode::Recreate,
        _ if defect::has(Defect::VolumeShared) => Mode::SideBySide,
        _ if release.overlaps() && !has_volumes(spec) && !current.is_some_and(has_volumes) => {
            Mode::SideBySide
        }
        _ => Mode::Ordered,
    }
}

impl ServiceState {
    /// Starts a rollout to a build. Without its revision there is none.
    pub(crate) fn begin(&mut self, situation: Situation<'_>, name: &ServiceName, build: Build, quick: bool) {
        let Some(spec) = template::spec(situation.revisions, build, name) else { return };
        let current = self.slots.get(&self.active);
        let current = current.and_then(|build| template::spec(situation.revisions, *build, name));
        self.rollout = Some(Rollout {
            build,
            direction: Direction::Forward,
            mode: mode(spec, current),
            quick,
            stage: 0,
            phase: Phase::Task,
            since: situation.now,
            approved: false,
            baseline: None,
        });
    }

    /// Turns a rollout around.
    pub(crate) fn turn_back(&mut self, situation: Situation<'_>, name: &ServiceName) {
        let Some(mut rollout) =
            self.rollout.clone().filter(|rollout| rollout.direction == Direction::Forward)
        else {
            return;
        };
        let Some(course) = Course::of(situation, name, self, &rollout) else { return };
        let untouched = matches!(rollout.phase, Phase::Task | Phase::Emptying);
        rollout.direction = Direction::Back;
        rollout.since = situation.now;
        match (self.settled, course.is_in_place() && course.has_old) {
            // The place was not given up yet, or the settled build is on its way out of an emptied place: both are
            // mended by filling it with the settled build again.
            (Some(settled), true) if untouched => {
                self.slots.insert(self.active, settled);
                rollout.build = settled;
                rollout.phase = Phase::Filling;
            }
            (Some(settled), true) => {
                rollout.build = settled;
                if course.is_ordered() {
                    self.slots.insert(self.active, settled);
                    rollout.phase = Phase::Filling;
                } else {
                    rollout.phase = Phase::Emptying;
                }
            }
            _ => rollout.phase = Phase::Filling,
        }
        self.rollout = Some(rollout);
    }

    /// Gives a rollout up at once, when all instances are to stop anyway. A slot keeps its build until it is empty:
    /// the route is made from it while its instances drain.
    pub(crate) fn drop_rollout(&mut self) {
        if self.rollout.take().is_some()
            && let Some(settled) = self.settled
        {
            self.slots.entry(self.active).and_modify(|build| *build = settled);
        }
        self.warm_until = None;
    }
}

/// One step of a service's rollout, if it has one.
pub(crate) fn advance(
    situation: Situation<'_>,
    name: &ServiceName,
    service: &mut ServiceState,
    operation: Option<&OperationId>,
    paused: bool,
) -> Step {
    let Some(rollout) = service.rollout.clone() else { return Step::Wait(None) };
    let Some(course) = Course::of(situation, name, service, &rollout) else {
        return Step::Failed(Failure::of(name.clone(), "the revision is not known any more"));
    };
    let walk = Walk { situation, name, course, rollout, paused };
    match walk.rollout.direction {
        Direction::Forward => walk.forward(service, operation),
        Direction::Back => walk.back(service),
    }
}

struct Walk<'a> {
    situation: Situation<'a>,
    name: &'a ServiceName,
    course: Course<'a>,
    rollout: Rollout,
    paused: bool,
}

impl Walk<'_> {
    fn forward(self, service: &mut ServiceState, operation: Option<&OperationId>) -> Step {
        match self.rollout.phase {
            Phase::Task => self.task(service, operation),
            Phase::Emptying => self.emptying(service),
            Phase::Filling => self.filling(service),
            Phase::Shifting => self.shifting(service),
            Phase::Holding => self.holding(service),
        }
    }

    fn enter(&self, service: &mut ServiceState, phase: Phase, text: impl Into<String>) -> Step {
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

    fn deadline(&self) -> Timestamp {
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
        if template::template(situation.app, situation.revisions, name, rollout.build).is_none() {
            return Step::Wait(None); // the address of a need is on its way
        }
        let due = operation.filter(|_| !rollout.quick || course.spec.kind == Kind::Task);
        let task = template::task(situation.app, situation.revisions, name, rollout.build);
        let task = task.filter(|_| !defect::has(Defect::TaskSkipped));
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
                self.fail("the task before the release took too long", instance)
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
        let waits = !self.is_warm(service) && !self.course.is_ordered();
        if waits && !self.situation.observed.is_empty(&service.id, self.course.slot) {
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
    fn candidates(&self, service: &ServiceState) -> Vec<&InstanceStatus> {
        let Situation { app, revisions, observed, .. } = self.situation;
        let digest = template::template(app, revisions, self.name, self.rollout.build)
            .map(|template| template.digest());
        let of_build = |instance: &&InstanceStatus| Some(&instance.template) == digest.as_ref();
        observed.instances(&service.id, self.course.slot).iter().filter(of_build).collect()
    }

    fn filling(&self, service: &mut ServiceState) -> Step {
        let candidates = self.candidates(service);
        let ready = u32::try_from(candidates.iter().filter(|instance| instance.is_ready()).count())
            .unwrap_or(u32::MAX);
        let stage = self.course.stage(service, &self.rollout);
        let all = self.situation.observed.instances(&service.id, self.course.slot).len();
        let exchanged = !self.course.is_ordered() || candidates.len() == all;
        if ready >= stage.candidate && exchanged && !self.paused {
            let rollout = Rollout { baseline: self.traffic(service).cloned(), ..self.rollout.clone() };
            let text = format!("{ready} of {} are ready", service.count());
            return self.enter_as(service, rollout, Phase::Shifting, text);
        }
        let broken = |instance: &&&InstanceStatus| {
            !instance.is_ready() && (instance.state == InstanceState::Exited || instance.restarts >= CRASHES)
        };
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
            let why = witness
                .and_then(|instance| instance.message.as_deref())
                .map_or(String::new(), |why| format!(": {why}"));
            return self.fail(
                format!("{ready} of {} instances were ready after {seconds} s{why}", stage.candidate),
                witness,
            );
        }
        Step::Wait(Some(self.deadline()))
    }

    fn traffic(&self, service: &ServiceState) -> Option<&SlotTraffic> {
        let counted = self.situation.observed.traffic.get(&service.id)?;
        counted.iter().find(|traffic| {
            traffic.slot == self.course.slot && traffic.revision == self.rollout.build.revision
        })
    }

    fn judged(&self, service: &ServiceState) -> Option<Step> {
        let verdict =
            gate::judge(&self.course.release, self.rollout.baseline.as_ref(), self.traffic(service))?;
        Some(self.fail(verdict, None))
    }

    fn shifting(&self, service: &mut ServiceState) -> Step {
        if let Some(failed) = self.judged(service) {
            return failed;
        }
        let stage = self.course.stage(service, &self.rollout);
        let shrunk = self.course.slot == service.active
            || self.situation.observed.instances(&service.id, service.active).len() <= stage.old as usize;
        if !shrunk || !super::desire::is_routed(self.situation, self.name, service) {
            return Step::Wait(None);
        }
        let text = match stage.weight * 100 / super::stage::ALL {
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
        if self.paused {
            return Step::Wait(None);
        }
        match self.course.stage(service, &self.rollout).hold {
            Hold::For(time) if self.situation.now < self.rollout.since + time => {
                return Step::Wait(Some(self.rollout.since + time));
            }
            Hold::Approval if !self.rollout.approved => return Step::Wait(None),
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

    fn back(&self, service: &mut ServiceState) -> Step {
        if self.course.is_in_place() && self.course.has_old {
            return self.back_in_place(service);
        }
        let observed = self.situation.observed;
        if !self.course.has_old {
            if !observed.is_down(&service.id) {
                return Step::Wait(None);
            }
            service.slots.clear();
        } else {
            let old = observed.ready(&service.id, service.active);
            match self.rollout.phase {
                Phase::Filling
                    if old >= service.count() || observed.ready(&service.id, self.course.slot) == 0 =>
                {
                    return self.enter(service, Phase::Shifting, "the old revision takes over again");
                }
                Phase::Filling => return Step::Wait(None),
                _ if !observed.is_empty(&service.id, self.course.slot) => return Step::Wait(None),
                _ => service.slots.remove(&self.course.slot),
            };
        }
        service.rollout = None;
        Step::Done(Direction::Back)
    }

    fn back_in_place(&self, service: &mut ServiceState) -> Step {
        match self.rollout.phase {
            Phase::Emptying if !self.situation.observed.is_empty(&service.id, service.active) => {
                Step::Wait(None)
            }
            Phase::Emptying => {
                service.slots.insert(service.active, self.rollout.build);
                self.enter(service, Phase::Filling, "starts the old revision again")
            }
            _ => {
                let observed = self.situation.observed;
                let all = observed.instances(&service.id, service.active).len();
                let exchanged = !self.course.is_ordered() || self.candidates(service).len() == all;
                if !exchanged || observed.ready(&service.id, service.active) < service.count() {
                    return Step::Wait(None);
                }
                service.rollout = None;
                Step::Done(Direction::Back)
            }
        }
    }
}

/// The digest of what new instances of a slot are.
pub(crate) fn slot_digest(
    situation: Situation<'_>,
    name: &ServiceName,
    service: &ServiceState,
    slot: Slot,
) -> Option<Digest> {
    let build = service.slots.get(&slot)?;
    template::template(situation.app, situation.revisions, name, *build).map(|template| template.digest())
}

/// Lets every service that waits for an approval go on.
pub(crate) fn approve(app: &mut AppRecord) -> crate::Result<()> {
    let waiting = app.services.values_mut().filter_map(|service| service.rollout.as_mut());
    let mut held: Vec<_> = waiting.filter(|rollout| rollout.phase == Phase::Holding).collect();
    if held.is_empty() {
        return Err(crate::Error::conflict("nothing waits for an approval"));
    }
    held.iter_mut().for_each(|rollout| rollout.approved = true);
    Ok(())
}
