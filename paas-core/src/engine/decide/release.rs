//! Leads all services of an app to one revision, or back to the one promoted last.

use super::Look;
use crate::engine::defect::{self, Defect};
use crate::engine::desire::DRAIN;
use crate::engine::record::{AppRecord, Build, Direction, Rollout};
use crate::engine::report;
use crate::engine::template::{self, same};
use crate::model::{
    Command, Failure, OperationKind, OperationState, RevisionNumber, ServiceName, ServiceSpec,
};

impl Look<'_> {
    /// Leads all services to a revision, each after what it needs.
    pub(super) fn release(&mut self, app: &mut AppRecord, goal: RevisionNumber) {
        let quick = matches!(app.operation.as_ref().map(|o| &o.kind), Some(OperationKind::Rollback(_)));
        self.turn_back_leavers(app, goal);
        let mut waiting = None;
        for name in self.order(goal) {
            let there = |app: &AppRecord, name: &ServiceName| {
                self.is_at(app, name, goal) && self.is_ready(app, name, goal)
            };
            if self.needs(goal, &name).iter().all(|need| there(app, need)) {
                self.unhalt(app, &name);
                if !self.is_at(app, &name, goal) {
                    self.lead(app, &name, goal, quick);
                }
            }
            if !there(app, &name) {
                waiting.get_or_insert(name);
            }
        }
        match waiting {
            None => self.finish_release(app, goal),
            Some(name) => self.watch_progress(app, &name, goal),
        }
    }

    /// Starts a service that was stopped.
    pub(super) fn unhalt(&self, app: &mut AppRecord, name: &ServiceName) {
        if let Some(service) = app.services.get_mut(name).filter(|service| service.halted) {
            service.halted = false;
            self.note(app, Some(name), "starts");
        }
    }

    /// What an operation before this one had begun to release, and this one does not know.
    fn turn_back_leavers(&self, app: &mut AppRecord, goal: RevisionNumber) {
        let Some(revision) = self.revisions.get(&goal) else { return };
        let mut turned = app.services.clone();
        for (name, service) in
            turned.iter_mut().filter(|(name, _)| !revision.spec.services.contains_key(*name))
        {
            service.turn_back(self.situation(app), name);
        }
        app.services = turned;
    }

    /// Starts a service's rollout to a revision, or turns another one around first.
    fn lead(&self, app: &mut AppRecord, name: &ServiceName, goal: RevisionNumber, quick: bool) {
        let Some(mut service) = app.services.get(name).cloned() else { return };
        let build = service.build(goal);
        match &service.rollout {
            Some(rollout) if rollout.direction == Direction::Back => {
                let returns = service.settled.is_some_and(|settled| self.is_alike(app, name, settled, build));
                if !returns {
                    service.leave_return(self.situation(app), name, build, quick);
                }
            }
            Some(rollout) if same(app, self.revisions, name, rollout.build, build) => {
                if rollout.build == build {
                    return;
                }
                // The same instances under a newer number.
                let known = rollout.build;
                service.slots.values_mut().filter(|slot| **slot == known).for_each(|slot| *slot = build);
                if let Some(rollout) = &mut service.rollout {
                    rollout.build = build;
                    rollout.baseline = None;
                }
            }
            Some(_) => service.turn_back(self.situation(app), name),
            None => {
                if let Some(settled) = service.settled
                    && self.is_alike(app, name, settled, build)
                {
                    // Only what the route says differs.
                    service.settled = Some(build);
                    let active = service.active;
                    service.slots.entry(active).and_modify(|slot| *slot = build);
                } else {
                    service.begin(self.situation(app), name, build, quick);
                }
            }
        }
        app.services.insert(name.clone(), service);
    }

    /// Whether two builds of a service differ in nothing but what its route says.
    fn is_alike(&self, app: &AppRecord, name: &ServiceName, a: Build, b: Build) -> bool {
        let template = |build| template::template(app, self.revisions, name, build);
        template(a).is_some() && template(a) == template(b) && self.tasks(a, name) == self.tasks(b, name)
    }

    fn tasks(&self, build: Build, name: &ServiceName) -> Option<Command> {
        template::spec(self.revisions, build, name)?.before_release.clone()
    }

    fn finish_release(&mut self, app: &mut AppRecord, goal: RevisionNumber) {
        if app.promoted != Some(goal) || defect::has(Defect::PromotedTwice) {
            app.promoted = Some(goal);
            let known = app.revisions.iter_mut().filter(|known| known.number == goal);
            known.for_each(|known| known.released = true);
            self.note(app, None, format!("revision {goal} is promoted"));
        }
        let Some(revision) = self.revisions.get(&goal) else { return };
        let mut leaving = false;
        for (name, service) in &mut app.services {
            if !revision.spec.services.contains_key(name) {
                service.drop_rollout();
                leaving |= !self.observed.is_down(&service.id);
            }
        }
        if !leaving {
            self.note(app, None, "done");
            self.end(app, OperationState::Succeeded);
        }
    }

    /// Fails a release that waits for something no rollout of its own bounds: a service that was not to change.
    fn watch_progress(&mut self, app: &mut AppRecord, name: &ServiceName, goal: RevisionNumber) {
        // A release has deadlines of its own; a return in its way has not.
        let forward = |rollout: &Rollout| rollout.direction == Direction::Forward;
        let rolling = app.services.values().any(|service| service.rollout.as_ref().is_some_and(forward));
        let build = Build { revision: goal, incarnation: 0 };
        let Some(spec) = template::spec(self.revisions, build, name) else { return };
        let deadline = app.progressed + spec.release().deadline;
        if rolling || self.paused(app) {
            return;
        }
        if self.now < deadline {
            self.wake_at(deadline);
            return;
        }
        let returning = app.services.get(name).is_some_and(|service| service.rollout.is_some());
        let reason = if returning {
            "it could not return to what ran before; scale it down or remove what keeps it, then try again"
        } else {
            "it was not to change, and is not ready"
        };
        let mut failure = Failure::of(name.clone(), reason);
        if let Some(service) = app.services.get(name) {
            let instances = self.observed.instances(&service.id, service.active);
            if let Some(instance) = instances.iter().find(|instance| !instance.is_ready()) {
                failure.instance = Some(instance.id.clone());
                failure.exit = instance.last_exit.clone();
            }
        }
        self.fail(app, failure);
    }

    /// Turns an operation around: everything goes back to what was promoted last.
    pub(super) fn fail(&self, app: &mut AppRecord, mut failure: Failure) {
        let service = failure.service.clone();
        let told = app.operation.as_ref().and_then(|operation| report::refusal(operation, service.as_ref()));
        if let Some(told) = told.filter(|_| failure.instance.is_none()) {
            // No instance shows why: what the backend said does.
            failure.reason = format!("{}: {told}", failure.reason);
        }
        self.note(app, service.as_ref(), format!("failed: {}", failure.reason));
        if let Some(operation) = &mut app.operation {
            operation.state = OperationState::RollingBack;
            operation.failure = Some(failure);
        }
    }

    pub(super) fn roll_back(&mut self, app: &mut AppRecord) {
        if !self.return_all(app) {
            let text = app
                .promoted
                .map_or("nothing runs, as before".to_owned(), |goal| format!("revision {goal} is back"));
            self.note(app, None, text);
            let misstated = defect::has(Defect::OutcomeMisstated);
            let state = if misstated { OperationState::Succeeded } else { OperationState::Failed };
            return self.end(app, state);
        }
        // What is returned to may not run any more either: the operation ends, and the return is tried on.
        let patience =
            app.services.keys().filter_map(|name| Some(self.current(app, name)?.release().deadline));
        let deadline = app.progressed + patience.max().unwrap_or_default() + DRAIN;
        if self.now < deadline {
            return self.wake_at(deadline);
        }
        self.note(app, None, "what ran before is not ready; it is still being tried");
        self.end(app, OperationState::Failed);
    }

    /// Leads everything to what was promoted last; whether something is not there yet.
    pub(super) fn return_all(&self, app: &mut AppRecord) -> bool {
        let goal = app.promoted;
        // It may have taken the place of a start that was not over.
        let mut waiting = self.start_in_order(app).is_some();
        let names: Vec<ServiceName> = app.services.keys().cloned().collect();
        for name in names {
            let Some(service) = app.services.get(&name).cloned() else { continue };
            let wanted = goal.filter(|goal| {
                self.revisions.get(goal).is_some_and(|revision| revision.spec.services.contains_key(&name))
            });
            let forward = service.rollout.as_ref().filter(|rollout| rollout.direction == Direction::Forward);
            match (wanted, forward) {
                (Some(goal), None) if service.rollout.is_none() => {
                    if !self.is_at(app, &name, goal) && !defect::has(Defect::PartialRollback) {
                        self.lead(app, &name, goal, true);
                        waiting = true;
                    }
                }
                (Some(goal), Some(rollout))
                    if same(app, self.revisions, &name, rollout.build, service.build(goal)) =>
                {
                    waiting = true;
                }
                (Some(_), Some(_)) => {
                    let mut service = service;
                    service.turn_back(self.situation(app), &name);
                    app.services.insert(name, service);
                    waiting = true;
                }
                (Some(_), None) => waiting = true,
                // What was never promoted goes, and so may what it needs: there is nothing to return to.
                (None, _) => {
                    waiting |= !self.observed.is_down(&service.id);
                    let mut service = service;
                    service.drop_rollout();
                    app.services.insert(name, service);
                }
            }
        }
        waiting
    }

    /// What a service is to run now.
    fn current(&self, app: &AppRecord, name: &ServiceName) -> Option<&ServiceSpec> {
        let service = app.services.get(name)?;
        let build = service.rollout.as_ref().map(|rollout| rollout.build).or(service.settled)?;
        template::spec(self.revisions, build, name)
    }
}
