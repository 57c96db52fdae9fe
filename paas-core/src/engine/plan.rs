//! The dry run: what a deploy would do, and what of it cannot be seamless.

use std::fmt;

use super::observed::Observed;
use super::record::{AppRecord, Build, Mode};
use super::rollout::mode;
use super::stage::{ALL, Hold, stages};
use super::template::{self, Revisions, same};
use crate::model::service::Kind;
use crate::model::{AbortRule, Release, Revision, RevisionNumber, ServiceName, ServiceSpec, Strategy};
use crate::port::{RouterCapabilities, SchedulerCapabilities};

/// What would happen to one service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanStep {
    /// Nothing.
    Keep(ServiceName),
    /// It is new.
    Start(ServiceName, Vec<String>),
    /// A new revision of it is released; what its stages are, and what changes.
    Release(ServiceName, Vec<String>),
    /// It leaves the app. Its volumes stay.
    Remove(ServiceName),
}

/// Something that cannot be seamless, or cannot be judged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// In which service.
    pub service: ServiceName,
    /// In words.
    pub text: String,
}

/// What a deploy would do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// Step by step; services that need others come after them.
    pub steps: Vec<PlanStep>,
    /// What to know before.
    pub warnings: Vec<Warning>,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let (word, name, lines): (_, _, &[String]) = match step {
                PlanStep::Keep(name) => ("keep", name, &[]),
                PlanStep::Start(name, lines) => ("start", name, lines),
                PlanStep::Release(name, lines) => ("release", name, lines),
                PlanStep::Remove(name) => ("remove", name, &[]),
            };
            writeln!(f, "{word:<8} {name}")?;
            for line in lines {
                writeln!(f, "           {line}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(f, "! {}: {}", warning.service, warning.text)?;
        }
        Ok(())
    }
}

/// What the backends can do, as far as a plan cares.
pub(crate) struct Capabilities {
    pub(crate) scheduler: SchedulerCapabilities,
    pub(crate) router: RouterCapabilities,
    /// Whether log lines are kept.
    pub(crate) log_store: bool,
}

/// Plans the release of a revision that is not stored yet.
pub(crate) fn plan(
    app: Option<&AppRecord>,
    revisions: &Revisions,
    next: &Revision,
    observed: &Observed,
    can: &Capabilities,
) -> crate::Result<Plan> {
    let mut plan = Plan::default();
    let number = RevisionNumber(app.map_or(0, |app| app.last_revision.0) + 1);
    let mut revisions = revisions.clone();
    revisions.insert(number, std::sync::Arc::new(next.clone()));
    let old = app.and_then(|app| app.promoted).and_then(|promoted| revisions.get(&promoted).cloned());
    let changes = old.as_ref().map(|old| next.diff(old)).transpose()?.unwrap_or_default();
    for name in next.spec.order()? {
        let spec = &next.spec.services[&name];
        let service = app.and_then(|app| app.services.get(&name));
        let settled = service.and_then(|service| service.settled);
        let goal = Build { revision: number, incarnation: settled.map_or(0, |settled| settled.incarnation) };
        if app.zip(settled).is_some_and(|(app, settled)| same(app, &revisions, &name, settled, goal)) {
            plan.steps.push(PlanStep::Keep(name));
            continue;
        }
        let count = service.map_or(spec.replicas, |service| service.replicas);
        let own =
            |line: &&String| line.strip_prefix(name.as_str()).is_some_and(|rest| rest.starts_with(": "));
        let mut lines = describe(spec, count, settled.is_some());
        lines.extend(changes.iter().filter(own).map(|line| line[name.as_str().len() + 2..].to_owned()));
        let current = settled.map(|settled| template::spec(&revisions, settled, &name));
        warn(&mut plan, &name, spec, count, current, can);
        let running = service.is_some_and(|service| !observed.is_down(&service.id)) || settled.is_some();
        plan.steps.push(if running { PlanStep::Release(name, lines) } else { PlanStep::Start(name, lines) });
    }
    let leaving = app.iter().flat_map(|app| &app.services).filter(|(name, service)| {
        !next.spec.services.contains_key(*name)
            && (service.settled.is_some() || !observed.is_down(&service.id))
    });
    plan.steps.extend(leaving.map(|(name, _)| PlanStep::Remove(name.clone())));
    Ok(plan)
}

fn describe(spec: &ServiceSpec, count: u32, has_old: bool) -> Vec<String> {
    let mut lines = Vec::new();
    if spec.kind == Kind::Task {
        return vec!["runs to its end".to_owned()];
    }
    if spec.before_release.is_some() {
        lines.push("runs the task before the release".to_owned());
    }
    let release = spec.release();
    if !has_old {
        lines.push(format!("starts {count} instances"));
        return lines;
    }
    match release.strategy {
        Strategy::Recreate => lines.push(format!("stops all instances, then starts {count} new ones")),
        Strategy::Ordered => lines.push(format!("exchanges {count} instances one at a time")),
        _ => lines.extend(stages(&release, count, true, false).iter().map(|stage| {
            let hold = match stage.hold {
                Hold::None => String::new(),
                Hold::For(time) => format!(", held for {}", humantime::format_duration(time)),
                Hold::Approval => ", until approved".to_owned(),
            };
            let share = stage.weight * 100 / ALL;
            format!(
                "{}: {} new instances beside {} old, {share}% of the requests{hold}",
                release.strategy.word(),
                stage.candidate,
                stage.old
            )
        })),
    }
    lines
}

fn warn(
    plan: &mut Plan,
    name: &ServiceName,
    spec: &ServiceSpec,
    count: u32,
    current: Option<Option<&ServiceSpec>>,
    can: &Capabilities,
) {
    let release = spec.release();
    let mut add = |wrong: bool, text: &str| {
        if wrong {
            plan.warnings.push(Warning { service: name.clone(), text: text.to_owned() });
        }
    };
    let sources = spec.sources();
    add(
        !sources.iter().any(|source| can.scheduler.sources.contains(&source.word())),
        "this scheduler runs none of its sources; the release would be refused",
    );
    add(
        !spec.volumes.is_empty() && !can.scheduler.volumes,
        "this scheduler has no volumes; the release would be refused",
    );
    if spec.kind == Kind::Task {
        return;
    }
    let mode = current.map(|current| mode(spec, current, can.scheduler.native_rolling));
    let down = mode.is_some_and(|mode| match mode {
        Mode::Recreate => true,
        Mode::Ordered => count <= 1,
        Mode::Native => count <= 1 && !spec.volumes.is_empty(),
        Mode::SideBySide => false,
    });
    add(down, "it does not answer while the new revision starts");
    add(spec.port.is_some() && spec.ready.is_none(), "it has no `ready` probe: an open port counts as ready");
    add(
        spec.limits != crate::model::Limits::default() && !can.scheduler.limits,
        "this scheduler does not enforce its limits",
    );
    gates(&release, spec, can, mode, &mut add);
}

fn gates(
    release: &Release,
    spec: &ServiceSpec,
    can: &Capabilities,
    mode: Option<Mode>,
    add: &mut impl FnMut(bool, &str),
) {
    let canary = matches!(release.strategy, Strategy::Canary { .. });
    let gated = release.abort_if.iter().any(AbortRule::is_of_requests);
    let by_lines = release.abort_if.iter().any(|rule| !rule.is_of_requests());
    add(
        by_lines && !can.log_store,
        "no signal: this platform keeps no log lines, so `log` in `abort_if` never fires",
    );
    add(gated && !can.router.traffic, "no signal: this router counts no requests, so `abort_if` never fires");
    add(
        gated && spec.port.is_none(),
        "no signal: without a port there are no requests, so `abort_if` never fires",
    );
    add(
        mode.is_some() && canary && !can.router.internal_weights,
        "callers within the platform follow the active slot, not the canary's weights",
    );
    add(
        release.strategy == Strategy::Rolling
            && mode == Some(Mode::SideBySide)
            && !spec.domain.is_empty()
            && !can.router.weights,
        "this router does not share requests out: while it rolls, the greater side answers all of them alone",
    );
    add(
        spec.shares_out() && !can.router.weights,
        "this router does not share the requests of a domain out; the release would be refused",
    );
    add(
        release.header.is_some() && !can.router.headers,
        "this router cannot choose by header; the release would be refused",
    );
    add(
        release.sticky.is_some() && !can.router.sticky,
        "this router has no sticky cookies; the release would be refused",
    );
}
