//! From a record and an observation to the calls that bring the world nearer to the record.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::defect::{self, Defect};
use super::record::{AppRecord, Direction, Phase, ServiceState};
use super::rollout::{Course, Situation, slot_digest};
use super::stage::ALL;
use super::template;
use crate::model::{
    EndpointUse, InstanceId, InstanceState, InstanceStatus, Operation, OperationState, Resource, Role, Route,
    RouteSlot, ServiceId, ServiceName, Slot, Volume, Workload, WorkloadKey,
};

/// A call of a port.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a handful live at a time")]
pub(crate) enum Action {
    ApplyVolume(Volume),
    ApplyRoute(Route),
    RemoveRoute(Resource),
    ApplyWorkload(Workload),
    RemoveWorkload(WorkloadKey),
}

/// What a slot should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Share {
    count: u32,
    /// Of all requests; 0 keeps it out of the route.
    weight: u32,
    /// Reached by the release's header alone.
    by_header: bool,
}

/// What one service should have.
struct Target {
    slots: BTreeMap<Slot, Share>,
    /// How many ready instances must stay in the route.
    floor: u32,
    /// Instances of another template than their slot's are exchanged one at a time.
    exchange: bool,
}

/// All calls that are due, in an order that is safe to stop anywhere in.
pub(crate) fn actions(situation: Situation<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mut wanted = BTreeSet::new();
    for (name, service) in &situation.app.services {
        service_actions(situation, name, service, &mut wanted, &mut actions);
    }
    for (key, status) in &situation.observed.workloads {
        let known = situation.app.services.values().any(|service| service.id == key.0);
        // What is stopping already was removed before.
        let stays = |instance: &InstanceStatus| instance.state != InstanceState::Stopping;
        let there = status.applied.is_some() || status.instances.iter().any(stays);
        if !wanted.contains(key) && there && known && may_remove(situation, key) {
            actions.push(Action::RemoveWorkload(situation.app.key(&key.0, key.1.clone())));
        }
    }
    actions
}

/// A workload may go when none of its instances can be reached.
fn may_remove(situation: Situation<'_>, (service, role): &(ServiceId, Role)) -> bool {
    let Some(status) = situation.observed.workload(service, role.clone()) else { return false };
    status.instances.iter().all(|instance| is_released(situation, service, &instance.id))
}

/// How long requests that are open on a leaving instance may go on before it is asked to end; it then has its own
/// grace to finish them.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);

/// Whether an instance may be stopped: nothing is open on it, or it has had its time.
fn is_released(situation: Situation<'_>, service: &ServiceId, instance: &InstanceId) -> bool {
    let Some(route) = situation.observed.routes.get(service) else { return true };
    let overdue = |used: &EndpointUse| {
        used.left.is_some_and(|left| situation.now >= left + DRAIN) || defect::has(Defect::DrainSkipped)
    };
    (!route.routed.contains(instance) || defect::has(Defect::StoppedWhileRouted))
        && route.in_use.iter().filter(|used| used.instance == *instance && used.open > 0).all(overdue)
}

fn service_actions(
    situation: Situation<'_>,
    name: &ServiceName,
    service: &ServiceState,
    wanted: &mut BTreeSet<(ServiceId, Role)>,
    actions: &mut Vec<Action>,
) {
    let Situation { app, observed, .. } = situation;
    let target = target(situation, name, service);
    let victims = victims(situation, name, service, &target);
    match route(situation, name, service, &target, &victims) {
        Some(route)
            if observed.routes.get(&service.id).is_none_or(|status| status.applied != route.digest()) =>
        {
            actions.push(Action::ApplyRoute(route));
        }
        None if observed.routes.contains_key(&service.id) && observed.is_down(&service.id) => {
            actions.push(Action::RemoveRoute(app.service_resource(&service.id)));
        }
        _ => {}
    }
    for (slot, share) in &target.slots {
        let role = Role::Slot(*slot);
        let Some(build) = service.slots.get(slot) else { continue };
        let Some(template) = template::template(app, situation.revisions, name, *build) else {
            // Without a template nothing can be started. What runs stays, unless all of it is to go.
            if share.count > 0 {
                wanted.insert((service.id.clone(), role));
            }
            continue;
        };
        if share.count == 0 && observed.is_empty(&service.id, *slot) {
            continue;
        }
        wanted.insert((service.id.clone(), role.clone()));
        let (retire, kept) = retired(situation, service, *slot, share.count, &victims);
        let key = app.key(&service.id, role.clone());
        let mut workload = Workload::new(key, app.labels(name), build.revision, template, kept);
        workload.retire = retire;
        let status = observed.workload(&service.id, role);
        if status.and_then(|status| status.applied.as_ref()) != Some(&workload.digest()) {
            volumes(app, service, &workload, actions);
            actions.push(Action::ApplyWorkload(workload));
        }
    }
    task(situation, name, service, wanted, actions);
}

/// The volumes that a workload's instances will ask for.
fn volumes(app: &AppRecord, service: &ServiceState, workload: &Workload, actions: &mut Vec<Action>) {
    for ordinal in 0..workload.replicas.unwrap_or(0) {
        for mount in &workload.template.mounts {
            let (tenant, environment) = (app.tenant.clone(), app.environment.clone());
            let (service, name) = (service.id.clone(), mount.name.clone());
            let volume = Volume::new(tenant, environment, service, name, ordinal, mount.size);
            actions.extend(volume.ok().map(Action::ApplyVolume));
        }
    }
}

/// The task before a release, while the rollout is in that phase.
fn task(
    situation: Situation<'_>,
    name: &ServiceName,
    service: &ServiceState,
    wanted: &mut BTreeSet<(ServiceId, Role)>,
    actions: &mut Vec<Action>,
) {
    let Situation { app, revisions, observed, .. } = situation;
    let (Some(rollout), Some(operation)) = (&service.rollout, &app.operation) else { return };
    if rollout.phase != Phase::Task || rollout.direction == Direction::Back || !is_releasing(operation) {
        return;
    }
    let is_task = template::spec(revisions, rollout.build, name)
        .is_some_and(|spec| spec.kind == crate::model::Kind::Task);
    let Some(template) =
        template::task(app, revisions, name, rollout.build).filter(|_| is_task || !rollout.quick)
    else {
        return;
    };
    let role = Role::Task(operation.id.clone());
    wanted.insert((service.id.clone(), role.clone()));
    let key = app.key(&service.id, role.clone());
    let workload = Workload::new(key, app.labels(name), rollout.build.revision, template, 1);
    let status = observed.workload(&service.id, role.clone());
    let applied = status.and_then(|status| status.applied.as_ref()) == Some(&workload.digest());
    // Two migrations at once are worse than one that waits.
    let another = observed.workloads.iter().any(|((id, other), status)| {
        let runs = |instance: &InstanceStatus| instance.state != InstanceState::Exited;
        *id == service.id
            && matches!(other, Role::Task(_))
            && *other != role
            && status.instances.iter().any(runs)
    });
    if !applied && !another {
        actions.push(Action::ApplyWorkload(workload));
    }
}

/// Whether an operation leads to a revision, and goes on.
pub(crate) fn is_releasing(operation: &Operation) -> bool {
    operation.state == OperationState::Running && operation.kind.revision().is_some()
}

/// Whether a service belongs to the app as it is or is becoming.
pub(crate) fn is_wanted(app: &AppRecord, revisions: &template::Revisions, name: &ServiceName) -> bool {
    use super::record::Desired;
    use crate::model::OperationState;
    if app.desired == Desired::Removed && app.services.get(name).is_none_or(|service| service.halted) {
        return false;
    }
    let goal = app.operation.as_ref().filter(|operation| operation.state == OperationState::Running);
    let goals = goal.and_then(|operation| operation.kind.revision()).into_iter().chain(app.promoted);
    goals
        .into_iter()
        .any(|number| revisions.get(&number).is_none_or(|revision| revision.spec.services.contains_key(name)))
}

fn target(situation: Situation<'_>, name: &ServiceName, service: &ServiceState) -> Target {
    let full = |count, weight| Share { count, weight, by_header: false };
    let count = service.count();
    let (active, other) = (service.active, service.active.other());
    let course = service
        .rollout
        .as_ref()
        .and_then(|rollout| Course::of(situation, name, service, rollout).map(|course| (rollout, course)));
    if !is_wanted(situation.app, situation.revisions, name) && course.is_none() {
        return Target {
            slots: [(active, full(0, 0)), (other, full(0, 0))].into(),
            floor: 0,
            exchange: false,
        };
    }
    let Some((rollout, course)) = course else {
        let warm = if service.warm_until.is_some() { count } else { 0 };
        let slots = [(active, full(count, ALL)), (other, full(warm, 0))].into();
        return Target { slots, floor: count, exchange: false };
    };
    if course.is_in_place() || !course.has_old {
        return in_place(service, rollout.phase, rollout.direction, &course);
    }
    let (candidate, old) = side_by_side(situation, service, &course);
    Target { slots: [(active, old), (course.slot, candidate)].into(), floor: count, exchange: false }
}

fn in_place(service: &ServiceState, phase: Phase, direction: Direction, course: &Course<'_>) -> Target {
    let count = service.count();
    let stopping = match phase {
        Phase::Emptying => !course.is_ordered(),
        _ => direction == Direction::Back && !course.has_old,
    };
    let share = Share { count: if stopping { 0 } else { count }, weight: ALL, by_header: false };
    let other = Share { count: 0, weight: 0, by_header: false };
    // On the way back there may be instances of several builds, however they got there.
    let exchange = course.is_ordered() || direction == Direction::Back;
    let floor = match (stopping, exchange) {
        (true, _) => 0,
        (false, true) => count.saturating_sub(1),
        (false, false) => count,
    };
    Target { slots: [(course.slot, share), (course.slot.other(), other)].into(), floor, exchange }
}

/// The candidate's and the old side's shares while both run.
fn side_by_side(situation: Situation<'_>, service: &ServiceState, course: &Course<'_>) -> (Share, Share) {
    let count = service.count();
    let Some(rollout) = &service.rollout else { return (none(), none()) };
    let stage = course.stage(service, rollout);
    let previous = rollout.stage.checked_sub(1).map(|index| course.stages(service, rollout)[index as usize]);
    let new = situation.observed.ready(&service.id, course.slot);
    let old = situation.observed.ready(&service.id, service.active);
    let fair = (ALL * new).checked_div(new + old).unwrap_or(0);
    let (candidate, weight, old) = match (rollout.direction, rollout.phase) {
        // The candidate makes room as the old side comes back: there may be none for both.
        (Direction::Back, Phase::Filling) => (stage.candidate.min(count.saturating_sub(old)), fair, count),
        (Direction::Back, _) => (0, 0, count),
        // A slot that is still warm may be just what is wanted; Emptying passes over it then.
        (_, Phase::Task) => (if service.warm_until.is_some() { count } else { 0 }, 0, count),
        (_, Phase::Emptying) => (0, 0, count),
        (_, Phase::Filling) if defect::has(Defect::FloorIgnored) => (stage.candidate, 0, stage.old),
        (_, Phase::Filling) => (
            stage.candidate,
            previous.map_or(0, |stage| stage.weight),
            previous.map_or(count, |stage| stage.old),
        ),
        // The candidate has lost what it had: the old side stays, and serves its part.
        (_, Phase::Shifting | Phase::Holding) if new < stage.candidate => {
            (stage.candidate, fair.min(stage.weight), previous.map_or(count, |stage| stage.old))
        }
        (_, Phase::Shifting | Phase::Holding) => (stage.candidate, stage.weight, stage.old),
    };
    // Before it is filled, the slot holds what was released before the last time.
    let holds_candidate =
        rollout.direction == Direction::Forward && !matches!(rollout.phase, Phase::Task | Phase::Emptying);
    let by_header = course.release.header.is_some() && holds_candidate;
    (
        Share { count: candidate, weight, by_header },
        Share { count: old, weight: ALL - weight, by_header: false },
    )
}

fn none() -> Share {
    Share { count: 0, weight: 0, by_header: false }
}

/// The instances of a slot that were not asked to end, among them those that could not be started at all: they too
/// hold a place until they are retired.
fn staying<'a>(
    situation: Situation<'a>,
    service: &ServiceState,
    slot: Slot,
) -> impl Iterator<Item = &'a InstanceStatus> {
    let all = situation.observed.instances(&service.id, slot).iter();
    all.filter(|instance| instance.state != InstanceState::Stopping)
}

/// Instances that should stop as soon as nothing is open on them. As many ready ones of the route as the floor allows.
fn victims(
    situation: Situation<'_>,
    name: &ServiceName,
    service: &ServiceState,
    target: &Target,
) -> BTreeSet<InstanceId> {
    let mut victims = BTreeSet::new();
    if situation.observed.native {
        // It chooses and drains what it stops, also while nobody looks.
        return victims;
    }
    let routed = |share: &Share| share.weight > 0;
    let ready =
        |slot: &Slot| staying(situation, service, *slot).filter(|instance| instance.is_ready()).count();
    let serving: usize =
        target.slots.iter().filter(|(_, share)| routed(share)).map(|(slot, _)| ready(slot)).sum();
    let floor = if defect::has(Defect::FloorIgnored) { 0 } else { target.floor as usize };
    let mut spare = serving.saturating_sub(floor);
    for (slot, share) in &target.slots {
        let digest = slot_digest(situation, name, service, *slot);
        let mut candidates: Vec<_> = staying(situation, service, *slot).collect();
        let outdated =
            |instance: &InstanceStatus| digest.as_ref().is_some_and(|digest| *digest != instance.template);
        // First what serves least: unready, then outdated, then the highest ordinal.
        candidates.sort_by_key(|i| (i.is_ready(), !outdated(i), std::cmp::Reverse(i.ordinal)));
        let excess = candidates.len().saturating_sub(share.count as usize);
        let exchanged = candidates.iter().filter(|instance| target.exchange && outdated(instance)).count();
        let settled = candidates.iter().all(|instance| instance.is_ready() || outdated(instance));
        let all_there = candidates.len() >= share.count as usize;
        let due = if excess > 0 { excess } else { usize::from(exchanged > 0 && all_there && settled) };
        for instance in candidates.into_iter().take(due) {
            if instance.is_ready() && routed(share) {
                if spare == 0 {
                    continue;
                }
                spare -= 1;
            }
            victims.insert(instance.id.clone());
        }
    }
    victims
}

/// The victims of a slot that have drained, and the count to keep beside them.
fn retired(
    situation: Situation<'_>,
    service: &ServiceState,
    slot: Slot,
    count: u32,
    victims: &BTreeSet<InstanceId>,
) -> (Vec<InstanceId>, u32) {
    if situation.observed.native {
        return (Vec::new(), count);
    }
    let drained = |instance: &&InstanceStatus| {
        victims.contains(&instance.id) && is_released(situation, &service.id, &instance.id)
    };
    let retire: Vec<_> =
        staying(situation, service, slot).filter(drained).map(|instance| instance.id.clone()).collect();
    let others = staying(situation, service, slot).count() - retire.len();
    // A smaller count alone would let the scheduler choose, and stop what has not drained.
    let kept = count.max(u32::try_from(others).unwrap_or(u32::MAX));
    (retire, kept)
}

/// The route a service should have; `None` where it has no port or should have none.
fn route(
    situation: Situation<'_>,
    name: &ServiceName,
    service: &ServiceState,
    target: &Target,
    victims: &BTreeSet<InstanceId>,
) -> Option<Route> {
    let Situation { app, revisions, .. } = situation;
    let candidate = service.rollout.as_ref().map(|rollout| rollout.build);
    let serving = service.settled.or(candidate).or_else(|| service.slots.get(&service.active).copied())?;
    if !is_wanted(app, revisions, name) && candidate.is_none() && situation.observed.is_down(&service.id) {
        return None;
    }
    let spec = template::spec(revisions, serving, name)?;
    spec.port?;
    let (tenant, environment) = (app.tenant.clone(), app.environment.clone());
    let mut route = Route::new(tenant, environment, app.id.clone(), service.id.clone(), spec.protocol);
    route.hosts = spec.domain.clone();
    let release =
        candidate.and_then(|build| template::spec(revisions, build, name)).unwrap_or(spec).release();
    route.sticky = release.sticky.clone();
    for (slot, share) in target.slots.iter().filter(|(_, share)| share.weight > 0 || share.by_header) {
        let Some(build) = service.slots.get(slot) else { continue };
        let is_open = |i: &&InstanceStatus| {
            (i.is_ready() || defect::has(Defect::RoutedBeforeReady)) && !victims.contains(&i.id)
        };
        let open = staying(situation, service, *slot).filter(is_open);
        let endpoints: Vec<_> = open.filter_map(|instance| instance.endpoint.clone()).collect();
        if endpoints.is_empty() {
            continue;
        }
        if share.by_header {
            route.header = release.header.clone().map(|header| (header, *slot));
        }
        route.slots.push(RouteSlot {
            slot: *slot,
            revision: build.revision,
            weight: share.weight,
            endpoints,
        });
    }
    Some(route)
}

/// Whether the route that a service should have now is in force.
pub(crate) fn is_routed(situation: Situation<'_>, name: &ServiceName, service: &ServiceState) -> bool {
    let target = target(situation, name, service);
    let victims = victims(situation, name, service, &target);
    let wanted = route(situation, name, service, &target, &victims).map(|route| route.digest());
    let applied = situation.observed.routes.get(&service.id).map(|status| status.applied.clone());
    wanted.is_none() || wanted == applied
}
