//! What becomes of an app's record, given what was observed.

use std::collections::BTreeSet;

use super::defect::{self, Defect};
use super::desire::{DRAIN, is_wanted};
use super::observed::Observed;
use super::record::{AppRecord, Build, Desired, Direction, ServiceState};
use super::rollout::{Situation, Step, advance};
use super::template::{self, Revisions, same};
use crate::model::Timestamp;
use crate::model::service::Kind;
use crate::model::{
    Epoch, Failure, InstanceStatus, OperationKind, OperationState, RevisionNumber, ServiceName, ServiceSpec,
};

/// The outcome of one look.
#[derive(Debug, PartialEq)]
pub(crate) struct Decision {
    pub(crate) app: AppRecord,
    /// When to look again if nothing happens before.
    pub(crate) wake: Option<Timestamp>,
}

/// Decides until nothing more can be decided without acting.
pub(crate) fn decide(
    app: &AppRecord,
    revisions: &Revisions,
    observed: &Observed,
    now: Timestamp,
    epoch: Epoch,
) -> Decision {
    let mut app = app.clone();
    let mut wake = None;
    // Each round either changes something or is the last; a service has a handful of phases a stage, so this ends.
    for _ in 0..64 {
        let before = app.clone();
        wake = None;
        Look { revisions, observed, now, wake: &mut wake }.round(&mut app);
        if app == before {
            break;
        }
    }
    app.epoch = epoch;
    Decision { app, wake }
}

struct Look<'a> {
    revisions: &'a Revisions,
    observed: &'a Observed,
    now: Timestamp,
    wake: &'a mut Option<Timestamp>,
}

impl Look<'_> {
    fn round(&mut self, app: &mut AppRecord) {
        self.tidy(app);
        match app.operation.as_ref().map(|operation| (operation.kind.clone(), operation.state)) {
            Some((OperationKind::Deploy(goal) | OperationKind::Rollback(goal), OperationState::Running)) => {
                self.release(app, goal);
            }
            Some((_, OperationState::RollingBack)) => self.roll_back(app),
            Some((OperationKind::Stop | OperationKind::Remove, OperationState::Running)) => self.stop(app),
            Some((OperationKind::Start, OperationState::Running)) => self.start(app),
            _ => {}
        }
        self.restart(app);
        self.step_all(app);
        self.archive(app);
    }

    fn situation<'b>(&'b self, app: &'b AppRecord) -> Situation<'b> {
        Situation { app, revisions: self.revisions, observed: self.observed, now: self.now }
    }

    fn wake_at(&mut self, at: Timestamp) {
        *self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// What follows from observation alone.
    fn tidy(&mut self, app: &mut AppRecord) {
        let unwanted: BTreeSet<ServiceName> =
            app.services.keys().filter(|name| !is_wanted(app, self.revisions, name)).cloned().collect();
        let mut wakes = Vec::new();
        for (name, service) in &mut app.services {
            service.address = self.observed.routes.get(&service.id).map(|route| route.address.clone());
            if service.warm_until.is_some_and(|until| self.now >= until) {
                service.warm_until = None;
            }
            wakes.extend(service.warm_until);
            let other = service.active.other();
            let idle = service.rollout.is_none() && service.warm_until.is_none();
            if idle && self.observed.is_empty(&service.id, other) {
                service.slots.remove(&other);
            }
            if unwanted.contains(name) && service.rollout.is_none() && self.observed.is_down(&service.id) {
                service.slots.clear();
                service.settled = None;
            }
        }
        let leaving =
            self.observed.routes.values().flat_map(|route| &route.in_use).filter_map(|used| used.left);
        wakes.extend(leaving.map(|left| left + DRAIN).filter(|due| *due > self.now));
        wakes.into_iter().for_each(|at| self.wake_at(at));
    }

    fn note(&self, app: &mut AppRecord, service: Option<&ServiceName>, text: impl Into<String>) {
        app.progressed = self.now;
        if let Some(operation) = &mut app.operation {
            operation.note(self.now, service, text);
        }
    }

    fn end(&self, app: &mut AppRecord, state: OperationState) {
        app.progressed = self.now;
        if let Some(operation) = &mut app.operation {
            operation.end(self.now, state);
        }
    }

    /// Ended operations leave the record once they are archived.
    fn archive(&self, app: &mut AppRecord) {
        if let Some(operation) = app.operation.take_if(|operation| operation.state.is_final()) {
            app.ended.push(operation);
        }
    }

    /// Whether a service is at a revision and has nothing more to do for it.
    fn is_at(&self, app: &AppRecord, name: &ServiceName, goal: RevisionNumber) -> bool {
        let Some(service) = app.services.get(name) else { return false };
        service.rollout.is_none()
            && service.settled.is_some_and(|settled| {
                same(app, self.revisions, name, settled, Build { revision: goal, ..settled })
            })
    }

    /// Ready instances that requests reach, where there are requests.
    fn serving(&self, service: &ServiceState) -> u32 {
        let route = self.observed.routes.get(&service.id);
        let reached = |instance: &&InstanceStatus| {
            let routed = route.is_none_or(|route| route.routed.contains(&instance.id));
            instance.is_ready() && (routed || instance.endpoint.is_none())
        };
        let serving = self.observed.instances(&service.id, service.active).iter().filter(reached).count();
        u32::try_from(serving).unwrap_or(u32::MAX)
    }

    /// Whether all that should run of a service is ready, and reached.
    fn is_ready(&self, app: &AppRecord, name: &ServiceName, goal: RevisionNumber) -> bool {
        let Some(service) = app.services.get(name) else { return false };
        let build = Build { revision: goal, incarnation: 0 };
        let is_task = template::spec(self.revisions, build, name).is_some_and(|spec| spec.kind == Kind::Task);
        is_task || self.serving(service) >= service.count()
    }

    fn order(&self, goal: RevisionNumber) -> Vec<ServiceName> {
        // A revision is only stored after its spec was checked, so it has an order.
        self.revisions.get(&goal).and_then(|revision| revision.spec.order().ok()).unwrap_or_default()
    }

    fn needs(&self, goal: RevisionNumber, name: &ServiceName) -> Vec<ServiceName> {
        let build = Build { revision: goal, incarnation: 0 };
        template::spec(self.revisions, build, name).map(|spec| spec.needs.clone()).unwrap_or_default()
    }

    /// Leads all services to a revision, each after what it needs.
    fn release(&mut self, app: &mut AppRecord, goal: RevisionNumber) {
        let quick = matches!(app.operation.as_ref().map(|o| &o.kind), Some(OperationKind::Rollback(_)));
        self.turn_back_leavers(app, goal);
        let mut waiting = None;
        for name in self.order(goal) {
            let there = |app: &AppRecord, name: &ServiceName| {
                self.is_at(app, name, goal) && self.is_ready(app, name, goal)
            };
            if self.needs(goal, &name).iter().all(|need| there(app, need)) {
                self.wake(app, &name);
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
    fn wake(&self, app: &mut AppRecord, name: &ServiceName) {
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

    /// Begins the restarts that people asked for, as releases of the same revision; not of what is about to leave.
    fn restart(&self, app: &mut AppRecord) {
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

    /// Whether two builds of a service differ in nothing but what its route says.
    fn is_alike(&self, app: &AppRecord, name: &ServiceName, a: Build, b: Build) -> bool {
        let template = |build| template::template(app, self.revisions, name, build);
        template(a) == template(b) && self.tasks(a, name) == self.tasks(b, name)
    }

    fn tasks(&self, build: Build, name: &ServiceName) -> Option<crate::model::Command> {
        template::spec(self.revisions, build, name)?.before_release.clone()
    }

    fn finish_release(&mut self, app: &mut AppRecord, goal: RevisionNumber) {
        if app.promoted != Some(goal) || defect::has(Defect::PromotedTwice) {
            app.promoted = Some(goal);
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
        let rolling = app.services.values().any(|service| service.rollout.is_some());
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
        let mut failure = Failure::of(name.clone(), "it was not to change, and is not ready");
        if let Some(service) = app.services.get(name) {
            let instances = self.observed.instances(&service.id, service.active);
            if let Some(instance) = instances.iter().find(|instance| !instance.is_ready()) {
                failure.instance = Some(instance.id.clone());
                failure.exit = instance.last_exit.clone();
            }
        }
        self.fail(app, failure);
    }

    fn paused(&self, app: &AppRecord) -> bool {
        app.operation.as_ref().is_some_and(|operation| operation.paused)
    }

    /// Turns an operation around: everything goes back to what was promoted last.
    fn fail(&self, app: &mut AppRecord, failure: Failure) {
        let service = failure.service.clone();
        self.note(app, service.as_ref(), format!("failed: {}", failure.reason));
        if let Some(operation) = &mut app.operation {
            operation.state = OperationState::RollingBack;
            operation.failure = Some(failure);
        }
    }

    fn roll_back(&mut self, app: &mut AppRecord) {
        let goal = app.promoted;
        let mut waiting = false;
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
        if !waiting {
            let text =
                goal.map_or("nothing runs, as before".to_owned(), |goal| format!("revision {goal} is back"));
            self.note(app, None, text);
            return self.end(app, OperationState::Failed);
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

    /// What a service is to run now.
    fn current(&self, app: &AppRecord, name: &ServiceName) -> Option<&ServiceSpec> {
        let service = app.services.get(name)?;
        let build = service.rollout.as_ref().map(|rollout| rollout.build).or(service.settled)?;
        template::spec(self.revisions, build, name)
    }

    fn stop(&mut self, app: &mut AppRecord) {
        let goal = app.promoted.or(Some(app.last_revision));
        let names: Vec<ServiceName> = app.services.keys().cloned().collect();
        for name in &names {
            let down = |dependent: &ServiceName| {
                app.services.get(dependent).is_none_or(|service| self.observed.is_down(&service.id))
            };
            let needed = names.iter().any(|other| {
                let needs = goal.map(|goal| self.needs(goal, other)).unwrap_or_default();
                other != name && needs.contains(name) && !down(other)
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
        if app.services.values().all(|service| service.halted && self.observed.is_down(&service.id)) {
            self.forget_unpromoted(app);
            self.note(app, None, "everything has stopped");
            self.end(app, OperationState::Succeeded);
        }
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
            if template::spec(self.revisions, settled, name) != Some(spec) {
                service.settled = Some(build);
            }
            service.slots = service.settled.map(|settled| (service.active, settled)).into_iter().collect();
        }
    }

    fn start(&mut self, app: &mut AppRecord) {
        let order = app.promoted.map(|goal| self.order(goal)).unwrap_or_default();
        // What the revision does not know stays down, but is not held down once another one does.
        let others = app.services.iter_mut().filter(|(name, _)| !order.contains(name));
        others.for_each(|(_, service)| service.halted = false);
        let Some(goal) = app.promoted else {
            return self.end(app, OperationState::Succeeded);
        };
        let mut waiting = None;
        for name in order {
            let up = |app: &AppRecord, name: &ServiceName| {
                app.services.get(name).is_some_and(|service| !service.halted)
                    && self.is_ready(app, name, goal)
            };
            if self.needs(goal, &name).iter().all(|need| up(app, need)) {
                self.wake(app, &name);
            }
            if !up(app, &name) {
                waiting.get_or_insert(name);
            }
        }
        match waiting {
            None => {
                self.note(app, None, "everything is ready");
                self.end(app, OperationState::Succeeded);
            }
            Some(name) => self.bound_start(app, &name, goal),
        }
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

    /// One step of every rollout.
    fn step_all(&mut self, app: &mut AppRecord) {
        let names: Vec<ServiceName> = app.services.keys().cloned().collect();
        for name in names {
            let Some(mut service) = app.services.get(&name).cloned() else { continue };
            let operation = app.operation.as_ref().map(|operation| operation.id.clone());
            let paused = self.paused(app);
            let step = advance(self.situation(app), &name, &mut service, operation.as_ref(), paused);
            self.settle(app, &name, service, step);
        }
    }

    fn settle(&mut self, app: &mut AppRecord, name: &ServiceName, mut service: ServiceState, step: Step) {
        if let (Step::Failed(_), Some(settled)) = (&step, service.settled) {
            // A restart that failed is not tried again.
            service.incarnation = settled.incarnation;
        }
        match step {
            Step::Wait(at) => at.into_iter().for_each(|at| self.wake_at(at)),
            Step::Moved(text) => {
                app.services.insert(name.clone(), service);
                self.note(app, Some(name), text);
            }
            Step::Done(direction) => {
                app.services.insert(name.clone(), service);
                self.note(
                    app,
                    Some(name),
                    match direction {
                        Direction::Forward => "released",
                        Direction::Back => "is as it was",
                    },
                );
            }
            Step::Failed(failure) => {
                // A return has nothing else to return to: it is tried on, and `explain` tells.
                service.turn_back(self.situation(app), name);
                app.services.insert(name.clone(), service);
                let releasing = app.operation.as_ref().is_some_and(|operation| {
                    operation.state == OperationState::Running && operation.kind.revision().is_some()
                });
                if releasing {
                    self.fail(app, failure);
                }
            }
        }
    }
}

/// Marks an app as stopped, started or removed; the operation carries it out.
pub(crate) fn intend(app: &mut AppRecord, kind: &OperationKind) {
    app.desired = match kind {
        OperationKind::Stop => Desired::Stopped,
        OperationKind::Remove => Desired::Removed,
        OperationKind::Deploy(_) | OperationKind::Rollback(_) | OperationKind::Start => Desired::Running,
    };
}
