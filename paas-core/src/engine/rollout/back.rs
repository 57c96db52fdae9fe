//! The return of a service to what ran before.

use super::{Course, Situation, Step, Walk};
use crate::engine::record::{Build, Direction, Phase, ServiceState};
use crate::model::ServiceName;

impl ServiceState {
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

    /// Begins a release in the middle of a return, where that harms nothing: what it returns to may never run again.
    pub(crate) fn leave_return(
        &mut self,
        situation: Situation<'_>,
        name: &ServiceName,
        build: Build,
        quick: bool,
    ) {
        let Some(rollout) = self.rollout.clone().filter(|rollout| rollout.phase == Phase::Filling) else {
            return;
        };
        let Some(course) = Course::of(situation, name, self, &rollout) else { return };
        if course.is_in_place() || !course.has_old {
            self.begin(situation, name, build, quick);
            if let Some(begun) = &mut self.rollout {
                // The slot may hold instances of several builds, so it cannot be the old side of two.
                begun.mode = rollout.mode;
            }
        } else if situation.observed.ready(&self.id, self.active) == 0
            && situation.now >= rollout.since + course.release.deadline
        {
            // The candidate serves what the old side cannot: the release begins from there.
            self.active = course.slot;
            self.settled = Some(rollout.build);
            self.begin(situation, name, build, quick);
        }
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

impl Walk<'_> {
    pub(super) fn back(&self, service: &mut ServiceState) -> Step {
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
                Phase::Filling => {
                    let deadline = self.deadline();
                    return Step::Wait((self.situation.now < deadline).then_some(deadline));
                }
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
                let all = self.left(service);
                if self.candidates(service).len() < all
                    || observed.ready(&service.id, service.active) < service.count()
                {
                    return Step::Wait(None);
                }
                service.rollout = None;
                Step::Done(Direction::Back)
            }
        }
    }
}
