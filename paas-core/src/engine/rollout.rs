//! One service on its way from one build to another: the one function behind every release strategy.
//!
//! A service has two slots. Where old and new instances may run side by side, the candidate fills the slot that is not
//! active and [`stage`](super::stage)s move replicas and weights over. Where they may not (volumes, `recreate`), the
//! one slot changes its build in place.

use super::defect::{self, Defect};
use super::observed::Observed;
use super::record::{AppRecord, Build, Direction, Mode, Phase, Rollout, ServiceState};
use super::stage::{Stage, stages};
use super::template::{self, Revisions};
use crate::model::{
    Digest, Failure, OperationId, Release, ServiceName, ServiceSpec, Slot, Strategy, Timestamp,
};

mod back;
mod forward;

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

    /// Whether instances are exchanged in their places while others serve.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(self.mode, Mode::Ordered | Mode::Native) && self.has_old
    }
}

/// How a service goes over to a spec: volumes have one writer, so they allow no second slot. What a scheduler can roll by
/// itself goes on while the platform is away; it knows no pauses.
pub(crate) fn mode(spec: &ServiceSpec, current: Option<&ServiceSpec>, native: bool) -> Mode {
    let release = spec.release();
    let steady = !release.approve && release.every.is_zero() && release.header.is_none();
    let has_volumes = |spec: &ServiceSpec| !spec.volumes.is_empty();
    let names = |spec: &ServiceSpec| spec.volumes.keys().cloned().collect::<Vec<_>>();
    match release.strategy {
        Strategy::Recreate => Mode::Recreate,
        // What runs instances with other volumes is another thing to the scheduler: one goes before the other comes.
        _ if native && current.is_some_and(|current| names(current) != names(spec)) => Mode::Recreate,
        _ if defect::has(Defect::VolumeShared) => Mode::SideBySide,
        Strategy::Rolling | Strategy::Ordered if native && steady => Mode::Native,
        _ if release.overlaps() && !has_volumes(spec) && !current.is_some_and(has_volumes) => {
            Mode::SideBySide
        }
        _ if native => Mode::Native,
        _ => Mode::Ordered,
    }
}

impl ServiceState {
    /// Starts a rollout to a build. Without its revision there is none.
    pub(crate) fn begin(&mut self, situation: Situation<'_>, name: &ServiceName, build: Build, quick: bool) {
        let Some(spec) = template::spec(situation.revisions, build, name) else { return };
        let current = self.slots.get(&self.active);
        let current = current.and_then(|build| template::spec(situation.revisions, *build, name));
        let mode = mode(spec, current, situation.observed.native);
        if mode != Mode::SideBySide {
            self.warm_until = None;
        }
        self.rollout = Some(Rollout {
            build,
            direction: Direction::Forward,
            mode,
            quick,
            stage: 0,
            phase: Phase::Task,
            begun: situation.now,
            since: situation.now,
            approved: false,
            baseline: None,
        });
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

/// Gives what waits the whole of its time again after a pause.
pub(crate) fn resume(app: &mut AppRecord, now: Timestamp) {
    let going = app.services.values_mut().filter_map(|service| service.rollout.as_mut());
    going.for_each(|rollout| rollout.since = now);
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
