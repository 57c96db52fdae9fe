//! The apps that are released: random services, and random changes of them.

use std::collections::BTreeMap;
use std::time::Duration;

use paas_core::Result;
use paas_core::memory::{Behaviour, MemoryScheduler};
use paas_core::model::{AppSpec, Role, ServiceName, ServiceSpec, Workload};

use super::rng::Rng;

/// What is wrong with a version of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// Starts and never becomes ready.
    NeverReady,
    /// Ends soon after each start.
    Crashes,
    /// Cannot be started at all.
    CannotStart,
    /// Its task before the release fails.
    TaskFails,
    /// Answers half of its requests with errors.
    Errors,
}

impl Flaw {
    const ALL: [Self; 5] =
        [Self::NeverReady, Self::Crashes, Self::CannotStart, Self::TaskFails, Self::Errors];

    fn word(self) -> &'static str {
        match self {
            Self::NeverReady => "never-ready",
            Self::Crashes => "crashes",
            Self::CannotStart => "cannot-start",
            Self::TaskFails => "task-fails",
            Self::Errors => "errors",
        }
    }
}

/// Which version of a service an environment variable names; unique within a seed.
const VERSION: &str = "VERSION";
const FLAW: &str = "FLAW";
const STARTUP: &str = "STARTUP";
const STOP: &str = "STOP";
const STARTUPS: [u64; 3] = [10, 400, 3_000];
const STOPS: [u64; 3] = [5, 1_500, 20_000];

fn env(workload: &Workload, name: &str, value: &str) -> bool {
    workload.template.env.get(name).is_some_and(|own| own == value)
}

/// The version of a service in a spec.
pub(super) fn version(spec: &ServiceSpec) -> &str {
    spec.env.get(VERSION).map_or("", |version| version.0.as_str())
}

fn has(spec: &ServiceSpec, flaw: Flaw) -> bool {
    spec.env.get(FLAW).is_some_and(|own| own.0 == flaw.word())
}

/// Whether no instance of a service can ever become ready.
pub(super) fn cannot_run(spec: &ServiceSpec) -> bool {
    [Flaw::NeverReady, Flaw::Crashes, Flaw::CannotStart].iter().any(|flaw| has(spec, *flaw))
}

/// Whether a service answers half of its requests with errors.
pub(super) fn errs(spec: &ServiceSpec) -> bool {
    has(spec, Flaw::Errors)
}

/// Teaches a scheduler what the versions of services do.
pub(super) fn behave(scheduler: &MemoryScheduler) {
    for startup in STARTUPS {
        for stop in STOPS {
            let (a, b) = (startup.to_string(), stop.to_string());
            let behaviour = Behaviour::healthy()
                .with_startup(Duration::from_millis(startup))
                .with_stop(Duration::from_millis(stop));
            scheduler.behave_where(move |w| env(w, STARTUP, &a) && env(w, STOP, &b), behaviour);
        }
    }
    let slot = |flaw: Flaw| {
        move |workload: &Workload| {
            matches!(workload.key.role, Role::Slot(_)) && env(workload, FLAW, flaw.word())
        }
    };
    scheduler.behave_where(slot(Flaw::NeverReady), Behaviour::never_ready());
    scheduler.behave_where(slot(Flaw::Crashes), Behaviour::exits(1));
    scheduler.behave_where(slot(Flaw::CannotStart), Behaviour::cannot_start("no such program"));
    scheduler.behave_where(
        |w| matches!(w.key.role, Role::Task(_)) && env(w, FLAW, Flaw::TaskFails.word()),
        Behaviour::exits(3),
    );
}

/// How wide an app may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    pub(super) services: u64,
    pub(super) only_rolling: bool,
}

/// Makes apps: each differs from the one before.
#[derive(Debug)]
pub(super) struct Author {
    rng: Rng,
    width: Width,
    versions: u64,
    services: BTreeMap<ServiceName, ServiceSpec>,
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

impl Author {
    pub(super) fn new(rng: Rng, width: Width) -> Self {
        Self { rng, width, versions: 0, services: BTreeMap::new() }
    }

    /// The first app.
    pub(super) fn first(&mut self) -> Result<AppSpec> {
        let count = self.rng.between(1, self.width.services);
        for index in 0..usize::try_from(count).unwrap_or(1) {
            self.add(index)?;
        }
        self.app()
    }

    /// The app with at least one service changed; where it is to be bad, one of them has a flaw.
    pub(super) fn next(&mut self, bad: bool) -> Result<AppSpec> {
        self.change_services()?;
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        let sure = self.rng.pick(&names).clone();
        for name in &names {
            if *name == sure || self.rng.chance(350) {
                self.change(name)?;
            }
        }
        if bad {
            let flaw = *self.rng.pick(&Flaw::ALL);
            if let Some(service) = self.services.get_mut(&sure) {
                service.env.insert(FLAW.into(), flaw.word().into());
                if flaw == Flaw::TaskFails {
                    service.before_release = Some("./migrate".parse()?);
                }
            }
        }
        self.app()
    }

    /// The app with every service changed and none flawed.
    pub(super) fn sound(&mut self) -> Result<AppSpec> {
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        names.iter().try_for_each(|name| self.change(name))?;
        self.app()
    }

    fn app(&self) -> Result<AppSpec> {
        let mut app = AppSpec::new("shop")?;
        app.services.clone_from(&self.services);
        Ok(app)
    }

    /// Sometimes a service joins or leaves.
    fn change_services(&mut self) -> Result<()> {
        if self.width.services == 1 || !self.rng.chance(150) {
            return Ok(());
        }
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        let last = self.rng.pick(&names).clone();
        let needed = self.services.values().any(|service| service.needs.contains(&last));
        if self.rng.chance(500) && names.len() > 1 && !needed {
            self.services.remove(&last);
        } else if let Some(index) =
            NAMES.iter().position(|name| names.iter().all(|own| own.as_str() != *name))
        {
            self.add(index)?;
        }
        Ok(())
    }

    fn add(&mut self, index: usize) -> Result<()> {
        let mut service = ServiceSpec::run(["./serve"])?;
        service.replicas =
            u32::try_from(self.rng.between(0, 9)).map_or(1, |n| [0, 1, 1, 2, 2, 2, 3, 3, 3, 4][n as usize]);
        if self.rng.chance(850) {
            service.port = Some(8_080);
        }
        if !self.width.only_rolling && self.rng.chance(200) {
            service.volumes.insert("data".parse()?, "1MiB".parse()?);
        }
        for (other, name) in NAMES.iter().enumerate().take(index) {
            let name = ServiceName::new(name)?;
            if other < index && self.services.contains_key(&name) && self.rng.chance(400) {
                service.needs.push(name);
            }
        }
        let name = ServiceName::new(NAMES[index])?;
        self.services.insert(name.clone(), service);
        self.change(&name)
    }

    /// Makes another version of a service.
    fn change(&mut self, name: &ServiceName) -> Result<()> {
        self.versions += 1;
        let version = self.versions.to_string();
        let (startup, stop) = (*self.rng.pick(&STARTUPS), *self.rng.pick(&STOPS));
        let (task, pushy) = (self.rng.chance(200), self.rng.chance(800));
        let Some(service) = self.services.get(name) else { return Ok(()) };
        let has_volumes = !service.volumes.is_empty();
        let release = self.release(has_volumes);
        let Some(service) = self.services.get_mut(name) else { return Ok(()) };
        service.env.clear();
        service.env.insert(VERSION.into(), version.into());
        service.env.insert(STARTUP.into(), startup.to_string().into());
        // Most end at once: an end that outlasts the drain keeps a release busy for long.
        let stop = if pushy { stop.min(1_500) } else { stop };
        service.env.insert(STOP.into(), stop.to_string().into());
        service.before_release = if task { Some("./migrate".parse()?) } else { None };
        service.release = match release {
            Some(json) => {
                let broken = |_| paas_core::Error::internal("the simulation wrote a wrong release");
                Some(serde_json::from_str(&json).map_err(broken)?)
            }
            None => None,
        };
        Ok(())
    }

    fn release(&mut self, has_volumes: bool) -> Option<String> {
        let rng = &mut self.rng;
        if has_volumes {
            let word = *rng.pick(&["ordered", "recreate"]);
            return Some(format!(r#"{{"strategy":"{word}","deadline":"20s"}}"#));
        }
        if self.width.only_rolling {
            return Some(r#"{"strategy":"rolling","deadline":"20s"}"#.to_owned());
        }
        let warm = *rng.pick(&["0s", "15s", "60s"]);
        let hold =
            *rng.pick(&[r#""every":"0s""#, r#""every":"5s""#, r#""every":"12s""#, r#""approve":true"#]);
        let rule = *rng.pick(&["", "", r#","abort_if":[{"errors":"> 10%"}]"#]);
        let header = if rng.chance(200) { r#","header":{"name":"x-canary","value":"1"}"# } else { "" };
        Some(match rng.below(10) {
            0..=3 => {
                let surge = *rng.pick(&["25%", "50%", "100%"]);
                format!(r#"{{"strategy":"rolling","surge":"{surge}","deadline":"20s"{rule}}}"#)
            }
            4 => r#"{"strategy":"recreate","deadline":"20s"}"#.to_owned(),
            5 => r#"{"strategy":"ordered","deadline":"20s"}"#.to_owned(),
            6 | 7 => {
                format!(
                    r#"{{"strategy":"blue-green","deadline":"20s","warm":"{warm}",{hold}{rule}{header}}}"#
                )
            }
            _ => {
                let steps = *rng.pick(&[r#""10%""#, r#""0%","50%""#, r#""5%","25%","50%""#]);
                format!(r#"{{"canary":[{steps}],"deadline":"20s","warm":"{warm}",{hold}{rule}{header}}}"#)
            }
        })
    }
}
