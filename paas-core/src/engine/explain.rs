//! Walks from an app to what is wrong with it, and what to do.

use std::fmt;

use super::observed::Observed;
use super::record::{AppRecord, Direction, Phase, ServiceState};
use crate::model::{Exit, InstanceState, InstanceStatus, Operation, ServiceName, Slot};

/// How one service fares.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServiceExplanation {
    /// The service.
    pub service: ServiceName,
    /// Whether everything that should run is ready.
    pub healthy: bool,
    /// In one line.
    pub summary: String,
    /// What was found, from the outside in: release, instances, probes, exits.
    pub findings: Vec<String>,
    /// What the instance that shows it wrote last.
    pub last_lines: Vec<String>,
    /// What to do next.
    pub suggestion: Option<String>,
}

/// How an app fares.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// In one line.
    pub summary: String,
    /// Why the platform itself cannot go on with it; known where it is asked on the replica that leads.
    pub trouble: Option<String>,
    /// By service, those that others need first.
    pub services: Vec<ServiceExplanation>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.summary)?;
        if let Some(trouble) = &self.trouble {
            writeln!(f, "!! the platform cannot go on with it: {trouble}")?;
        }
        for service in &self.services {
            let mark = if service.healthy { "ok" } else { "!!" };
            writeln!(f, "{mark} {}: {}", service.service, service.summary)?;
            for finding in &service.findings {
                writeln!(f, "     {finding}")?;
            }
            for line in &service.last_lines {
                writeln!(f, "     | {}", line.escape_debug())?;
            }
            if let Some(suggestion) = &service.suggestion {
                writeln!(f, "     -> {suggestion}")?;
            }
        }
        Ok(())
    }
}

/// Explains an app from its record and what is observed of it.
pub(crate) fn explain(app: &AppRecord, observed: &Observed) -> Explanation {
    let services: Vec<_> = app.services.iter().filter(|(_, service)| concerns(service, observed)).collect();
    let services: Vec<_> =
        services.into_iter().map(|(name, service)| explain_service(name, service, observed)).collect();
    let broken = services.iter().filter(|service| !service.healthy).count();
    let operation = app.operation.as_ref().map(describe_operation);
    let summary = match (operation, broken) {
        (Some(operation), _) => format!("{}: {operation}", app.name),
        (None, 0) => format!("{}: all is well", app.name),
        (None, broken) => format!("{}: {broken} of {} services need attention", app.name, services.len()),
    };
    Explanation { summary, trouble: None, services }
}

fn concerns(service: &ServiceState, observed: &Observed) -> bool {
    service.settled.is_some() || service.rollout.is_some() || !observed.is_down(&service.id)
}

fn describe_operation(operation: &Operation) -> String {
    let state = match (operation.state, operation.paused) {
        (crate::model::OperationState::RollingBack, _) => "is rolling back",
        (_, true) => "is paused",
        _ => "is going on",
    };
    let last = operation.events.last().map_or("", |event| event.text.as_str());
    format!("{} {state} ({last})", operation.kind)
}

fn explain_service(name: &ServiceName, service: &ServiceState, observed: &Observed) -> ServiceExplanation {
    let ready = observed.ready(&service.id, service.active);
    let count = service.count();
    let mut findings = Vec::new();
    if let Some(rollout) = &service.rollout {
        findings.push(describe_rollout(rollout.direction, rollout.phase, rollout.build.revision.0));
    }
    let instances = Slot::BOTH.iter().flat_map(|slot| observed.instances(&service.id, *slot));
    let unwell: Vec<&InstanceStatus> = instances.filter(|instance| !instance.is_ready()).collect();
    findings.extend(unwell.iter().map(|instance| describe_instance(instance)));
    let missing = count
        .saturating_sub(u32::try_from(observed.instances(&service.id, service.active).len()).unwrap_or(0));
    if missing > 0 && service.rollout.is_none() {
        findings.push(format!("{missing} instances have not been started yet"));
    }
    let is_complete = ready >= count && service.rollout.is_none();
    if !is_complete {
        let kept = Slot::BOTH.iter().filter_map(|slot| observed.missing(&service.id, *slot));
        findings.extend(kept.map(|why| format!("instances cannot be made: {why}")));
    }
    let unpublished = observed.unpublished(&service.id);
    findings.extend(unpublished.map(|why| format!("its domains are not reached: {why}")));
    let worst = unwell.iter().find(|instance| instance.last_exit.is_some());
    let exit = worst.and_then(|instance| instance.last_exit.as_ref());
    let healthy = is_complete && unpublished.is_none();
    let suggested = unwell.iter().find_map(|instance| suggest(instance, exit));
    let suggested = suggested.or(unpublished.map(|_| PUBLISH.to_owned()));
    ServiceExplanation {
        service: name.clone(),
        healthy,
        summary: match (service.halted, service.settled) {
            (true, _) => "stopped".to_owned(),
            (false, Some(settled)) => format!("{ready} of {count} ready, revision {}", settled.revision),
            (false, None) => format!("{ready} of {count} ready, never released"),
        },
        last_lines: exit.map(|exit| exit.last_lines.clone()).unwrap_or_default(),
        suggestion: suggested.filter(|_| !healthy),
        findings,
    }
}

/// What to do where an edge refuses a domain.
const PUBLISH: &str =
    "whoever runs the edge must let it: check its listeners, and the hosts and apps that they admit";

fn describe_rollout(direction: Direction, phase: Phase, revision: u64) -> String {
    let waits = match phase {
        Phase::Task => "waits for the task before the release",
        Phase::Emptying => "waits for old instances to end",
        Phase::Filling => "waits for new instances to become ready",
        Phase::Shifting => "waits for old instances to drain and end",
        Phase::Holding => "holds the step, for its time or an approval",
    };
    match direction {
        Direction::Forward => format!("the release of revision {revision} {waits}"),
        Direction::Back => format!("the return to what ran before {waits}"),
    }
}

fn describe_instance(instance: &InstanceStatus) -> String {
    let state = match instance.state {
        InstanceState::Starting => "is starting",
        InstanceState::Ready => "is ready",
        InstanceState::Unready => "is not ready any more",
        InstanceState::BackingOff => "ended and will be started again",
        InstanceState::Stopping => "is stopping",
        InstanceState::Exited => "has ended",
    };
    let exit = instance.last_exit.as_ref().map_or(String::new(), |exit| format!(", last: {exit}"));
    let message = instance.message.as_ref().map_or(String::new(), |message| format!(" ({message})"));
    format!("instance {} {state}{message}, {} restarts{exit}", instance.id, instance.restarts)
}

fn suggest(instance: &InstanceStatus, exit: Option<&Exit>) -> Option<String> {
    let text = match (instance.state, exit.and_then(|exit| exit.code)) {
        (InstanceState::Exited, _) => "it could not be started: check `run`, and that the program is there",
        (InstanceState::BackingOff, Some(0)) => {
            "it ends by itself: a service must keep running, or be of kind `task`"
        }
        (InstanceState::BackingOff, _) => "it crashes: read its last lines, then fix it or roll back",
        (InstanceState::Starting, _) => {
            "its `ready` probe has not passed yet: check the path, the port, and what it needs"
        }
        (InstanceState::Unready, _) => "its `ready` probe fails: check what it needs",
        _ => return None,
    };
    Some(text.to_owned())
}
