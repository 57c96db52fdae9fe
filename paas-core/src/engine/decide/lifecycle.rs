//! Stops, starts and restarts what an app has.

use super::Look;
use crate::engine::defect::{self, Defect};
use crate::engine::record::{AppRecord, Build, Desired, Phase};
use crate::engine::template;
use crate::model::service::Kind;
use crate::model::{Failure, OperationState, RevisionNumber, ServiceName};

impl Look<'_> {
    pub(super) fn stop(&mut self, app: &mut AppRecord) {
        self.turn_back_beginnings(app);
        let goal = app.promoted.or(Some(app.last_revision));
        let names: Vec<ServiceName> = app.services.keys().cloned().collect();
        for name in &names {
            let down = |dependent: &ServiceName| {
                app.services.get(dependent).is_none_or(|service| self.observed.is_idle(&service.id))
            };
            let needed = names.iter().any(|other| {
                let needs = goal.map(|goal| self.needs(goal, other)).unwrap_or_default();
                other != name && needs.contains(name) && !down(other) && !defect::has(Defect::OrderIgnored)
            });
            if !needed && app.services.get(name).is_some_and(|service| !service.halted) {
                if let Some(service) = app.services.get_mut(name) {
                    // Not before: what others still need goes on serving from wherever it is.
                    service.drop_rollout();
                    service.halted = true;
                    if defect::has(Defect::ReplicasForgotten) {
                        service.replicas = 1;
                    }
                }
                self.note(app, Some(name), "stops");
            }
        }
        if app.services.values().all(|service| service.halted && self.observed.is_idle(&service.id)) {
            self.forget_unpromoted(app);
            self.note(app, None, "everything has stopped");
            self.end(app, OperationState::Succeeded);
        }
    }

    /// Releases that have started nothing yet: a stop runs no task for them.
    fn turn_back_beginnings(&self, app: &mut AppRecord) {
        let mut turned = app.services.clone();
        for (name, service) in &mut turned {
            let phase = service.rollout.as_ref().map(|rollout| rollout.phase);
            if matches!(phase, Some(Phase::Task | Phase::Emptying)) {
                service.turn_back(self.situation(app), name);
            }
        }
        app.services = turned;
    }

    /// A release that a stop has cut short must not come back by halves: what starts next is what was promoted last.
    fn forget_unpromoted(&self, app: &mut AppRecord) {
        let Some(goal) = app.promoted else { return };
        for (name, service) in &mut app.services {
            let build = service.build(goal);
            let (Some(settled), Some(spec)) = (service.settled, template::spec(self.revisions, build, name))
            else {
                continue;
            };
            if spec.kind == Kind::Task {
                continue; // a task has no slots
            }
            if template::spec(self.revisions, settled, name) != Some(spec) {
                service.settled = Some(build);
            }
            service.slots = service.settled.map(|settled| (service.active, settled)).into_iter().collect();
        }
    }

    pub(super) fn start(&mut self, app: &mut AppRecord) {
        // What was promoted last serves even where an operation before this one has left something else.
        let waiting = self.start_in_order(app).or_else(|| {
            let goal = app.promoted?;
            self.order(goal).into_iter().find(|name| !self.is_ready(app, name, goal))
        });
        match (waiting, app.promoted) {
            (Some(name), Some(goal)) => self.bound_start(app, &name, goal),
            _ => {
                self.note(app, None, "everything is ready");
                self.end(app, OperationState::Succeeded);
            }
        }
    }

    /// Lets services that were stopped run, each once what it needs is ready; the first that has to wait.
    pub(super) fn start_in_order(&self, app: &mut AppRecord) -> Option<ServiceName> {
        let order = app.promoted.map(|goal| self.order(goal)).unwrap_or_default();
        // What the revision does not know stays down, but is not held down once another one does.
        let others = app.services.iter_mut().filter(|(name, _)| !order.contains(name));
        others.for_each(|(_, service)| service.halted = false);
        let goal = app.promoted?;
        let mut waiting = None;
        for name in order {
            let is_halted = |app: &AppRecord, name: &ServiceName| {
                app.services.get(name).is_some_and(|service| service.halted)
            };
            let up = |need: &ServiceName| !is_halted(app, need) && self.is_ready(app, need, goal);
            if is_halted(app, &name) && self.needs(goal, &name).iter().all(up) {
                self.unhalt(app, &name);
            }
            if is_halted(app, &name) {
                waiting.get_or_insert(name);
            }
        }
        waiting
    }

    /// A start has nothing to go back to: past the deadline it ends as failed, and the services keep being tried.
    fn bound_start(&mut self, app: &mut AppRecord, name: &ServiceName, goal: RevisionNumber) {
        let build = Build { revision: goal, incarnation: 0 };
        let Some(spec) = template::spec(self.revisions, build, name) else { return };
        let deadline = app.progressed + spec.release().deadline;
        if self.now < deadline {
            return self.wake_at(deadline);
        }
        for service in app.services.values_mut() {
            service.halted = false;
        }
        if let Some(operation) = &mut app.operation {
            operation.failure = Some(Failure::of(name.clone(), "not ready in time; it is still being tried"));
        }
        self.end(app, OperationState::Failed);
    }

    /// Begins the restarts that people asked for, as releases of the same revision; not of what is about to leave.
    pub(super) fn restart(&self, app: &mut AppRecord) {
        if app.desired != Desired::Running {
            return;
        }
        let running = app.operation.as_ref().filter(|operation| operation.state == OperationState::Running);
        let goal = running.and_then(|operation| operation.kind.revision()).or(app.promoted);
        let stays = |name: &ServiceName| {
            let revision = goal.and_then(|goal| self.revisions.get(&goal));
            revision.is_some_and(|revision| revision.spec.services.contains_key(name))
        };
        let mut services = app.services.clone();
        for (name, service) in &mut services {
            let Some(settled) = service.settled.filter(|settled| settled.incarnation != service.incarnation)
            else {
                continue;
            };
            if !service.halted && stays(name) && service.rollout.is_none() {
                let build = Build { incarnation: service.incarnation, ..settled };
                service.begin(self.situation(app), name, build, true);
            }
        }
        app.services = services;
    }
}
