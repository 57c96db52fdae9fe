//! What becomes of an app's record, given what was observed.

use std::collections::BTreeSet;

use super::desire::{DRAIN, is_releasing, is_wanted};
use super::observed::Observed;
use super::record::{AppRecord, Build, Desired, Direction, ServiceState};
use super::rollout::{Situation, Step, advance};
use super::template::{self, Revisions, same};
use crate::model::Timestamp;
use crate::model::service::Kind;
use crate::model::{Epoch, InstanceStatus, OperationKind, OperationState, RevisionNumber, ServiceName};

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

mod lifecycle;
mod release;

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
            // A return that took longer than its operation goes on.
            None if app.desired == Desired::Running && app.promoted.is_some() => {
                self.return_all(app);
            }
            _ => {}
        }
        self.restart(app);
        self.step_all(app);
        self.retire(app);
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

    /// An ended operation stays in the record until this is stored again, and has one of its own by then.
    fn retire(&self, app: &mut AppRecord) {
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

    fn paused(&self, app: &AppRecord) -> bool {
        app.operation.as_ref().is_some_and(|operation| operation.paused)
    }

    /// One step of every rollout.
    fn step_all(&mut self, app: &mut AppRecord) {
        let names: Vec<ServiceName> = app.services.keys().cloned().collect();
        for name in names {
            let Some(mut service) = app.services.get(&name).cloned() else { continue };
            let operation = app.operation.as_ref().filter(|operation| is_releasing(operation));
            let operation = operation.map(|operation| operation.id.clone());
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
                if app.operation.as_ref().is_some_and(is_releasing) {
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
