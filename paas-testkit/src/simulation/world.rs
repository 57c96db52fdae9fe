//! Everything of one run, and its course.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use paas_core::engine::{EngineConfig, Ports};
use paas_core::memory::{
    MemoryAuditLog, MemoryAuthorizer, MemoryRouter, MemoryScheduler, MemorySecretStore, MemoryStateStore,
    MemoryVolumeStore,
};
use paas_core::model::{Clock, IdSource, Principal, Resource, Scope, TenantName, Timestamp};
use paas_core::platform::AppStatus;
use paas_core::port::{Router, Scheduler, Selector};
use paas_core::{Guard, Guarded, Platform, Result};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::app::{Author, Width, behave, cannot_run, version};
use super::client::visit;
use super::oracle::{Backends, Oracle};
use super::people::People;
use super::replica::Replica;
use super::rng::Rng;
use super::rule::{Rule, Violation};
use super::trouble::Trouble;
use super::wire::Wire;
use super::{Outcome, Simulation};
use crate::fault::{FaultPlan, Faulty};

/// How many things people do in a seed.
const ACTIONS: u64 = 12;
/// How long the platform may take to come to rest once trouble has stopped: releases hold, drain and wait meanwhile.
const LONGEST: Duration = Duration::from_secs(900);
/// How many calls it may make until then.
const CALLS: u64 = 5_000;
const REPLICAS: [&str; 2] = ["red", "green"];

pub(super) struct World {
    seed: u64,
    rng: Rng,
    oracle: Oracle,
    people: People,
    replicas: Vec<Member>,
    incarnations: u64,
    trouble: bool,
    /// Volumes in which something was written.
    marked: BTreeSet<String>,
    outcome: Outcome,
    _clients: JoinSet<()>,
}

/// A replica's place, and who holds it now.
struct Member {
    trouble: Arc<Trouble>,
    replica: Option<Replica>,
    /// When a dead one is started again, or a suspended one goes on.
    until: Option<Instant>,
}

impl World {
    pub(super) async fn new(Simulation { seed, native, trace, .. }: Simulation) -> Result<Self> {
        let clock = Clock::runtime(Timestamp(1_700_000_000_000));
        let mut capabilities = MemoryScheduler::new(clock.clone()).capabilities();
        capabilities.native_rolling = native;
        let backends = Backends {
            scheduler: MemoryScheduler::with_capabilities(clock.clone(), capabilities),
            router: MemoryRouter::new().with_clock(clock.clone()),
            volumes: MemoryVolumeStore::new(),
            state: MemoryStateStore::new(),
            clock,
        };
        behave(&backends.scheduler);
        let platform = platform(&backends, seed).await?;
        let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
        let environment = platform.production(&Principal::user("ann", tenant.id)).await?;
        let author = Author::new(Rng::new(seed, "author"), Width { services: 4, only_rolling: false });
        let oracle = Oracle::new(backends, trace);
        let mut clients = JoinSet::new();
        for name in ["client 1", "client 2"] {
            clients.spawn(visit(oracle.clone(), Rng::new(seed, name)));
        }
        let people = People::new(Rng::new(seed, "people"), author, platform, environment, oracle.clone());
        let mut world = Self {
            seed,
            rng: Rng::new(seed, "world"),
            oracle,
            people,
            replicas: Vec::new(),
            incarnations: 0,
            trouble: true,
            marked: BTreeSet::new(),
            outcome: Outcome::default(),
            _clients: clients,
        };
        world.replicas = (0..REPLICAS.len()).map(|index| world.start(index)).collect();
        Ok(world)
    }

    /// Starts a replica in one of the places.
    fn start(&mut self, index: usize) -> Member {
        self.incarnations += 1;
        let rng = Rng::new(self.seed, &format!("trouble {}", self.incarnations));
        let trouble = Arc::new(Trouble::new(rng));
        trouble.set(self.trouble);
        let ports = self.ports(index, &trouble);
        let replica = Replica::start(REPLICAS[index], ports, self.oracle.backends.clock.clone());
        Member { trouble, replica: Some(replica), until: None }
    }

    fn ports(&self, replica: usize, trouble: &Arc<Trouble>) -> Ports {
        /// Guard, faults, wire and backend, from the outside in.
        macro_rules! reach {
            ($backend:ident) => {{
                let inner = self.oracle.backends.$backend.clone();
                let (oracle, trouble) = (self.oracle.clone(), Arc::clone(trouble));
                let plan: Arc<dyn FaultPlan> = trouble.clone();
                let wire = Arc::new(Wire { inner, replica, oracle, trouble });
                Arc::new(Guarded::new(Guard::default(), Arc::new(Faulty::new(plan, wire))))
            }};
        }
        Ports {
            scheduler: reach!(scheduler),
            router: reach!(router),
            volumes: reach!(volumes),
            state: reach!(state),
            log_store: None,
            tenancies: Vec::new(),
        }
    }

    fn check(&self) -> Result<(), Violation> {
        self.oracle.violation().map_or(Ok(()), Err)
    }

    /// People act, and trouble strikes.
    pub(super) async fn live(&mut self) -> Result<(), Violation> {
        self.people.begin().await?;
        for _ in 0..ACTIONS {
            self.pass_time().await?;
            self.people.act().await?;
        }
        self.pass_time().await?;
        self.trouble = false;
        for index in 0..self.replicas.len() {
            let member = &mut self.replicas[index];
            member.trouble.set(false);
            if member.trouble.is_dead() || member.replica.is_none() {
                self.replicas[index] = self.start(index);
            } else if let Some(replica) = &member.replica {
                replica.resume();
            }
        }
        Ok(())
    }

    /// Time goes by in pieces.
    async fn pass_time(&mut self) -> Result<(), Violation> {
        for _ in 0..self.rng.between(1, 30) {
            self.mark_volumes();
            tokio::time::sleep(Duration::from_millis(self.rng.between(1, 2_000))).await;
            for index in 0..self.replicas.len() {
                self.look_after(index);
            }
            self.check()?;
            self.kept()?;
        }
        Ok(())
    }

    /// A dead replica is followed by another, a suspended one goes on, and sometimes one is suspended.
    fn look_after(&mut self, index: usize) {
        let now = Instant::now();
        let member = &mut self.replicas[index];
        match (&member.replica, member.until) {
            (Some(_), _) if member.trouble.is_dead() => {
                self.outcome.crashes += 1;
                member.replica = None;
                member.until = Some(now + Duration::from_millis(self.rng.below(25_000)));
            }
            (None, Some(until)) if now >= until => {
                let before = std::mem::replace(&mut self.outcome.faults, 0);
                self.outcome.faults = before + member.trouble.struck();
                self.replicas[index] = self.start(index);
            }
            (Some(replica), Some(until)) if now >= until => {
                self.oracle.tell(|| format!("{index}: goes on"));
                replica.resume();
                member.until = None;
            }
            (Some(replica), None) if self.rng.chance(15) => {
                self.oracle.tell(|| format!("{index}: is suspended"));
                self.outcome.suspensions += 1;
                replica.suspend();
                member.until = Some(now + Duration::from_millis(self.rng.between(500, 40_000)));
            }
            _ => {}
        }
    }

    /// Without trouble, everything comes to rest where it should, and a sound release succeeds.
    pub(super) async fn rest(&mut self) -> Result<Outcome, Violation> {
        let before = self.oracle.calls();
        self.settle().await?;
        self.outcome.calls_to_rest = self.oracle.calls() - before;
        if self.outcome.calls_to_rest > CALLS {
            return Err(Violation::new(Rule::Rest, format!("{} calls to rest", self.outcome.calls_to_rest)));
        }
        let goal = self.people.release_soundly().await?;
        self.settle().await?;
        let status = self.people.status().await?;
        if status.promoted != Some(goal) {
            let explained = self.people.explain().await;
            let text =
                format!("the sound revision {goal} is not promoted, {:?} is\n{explained}", status.promoted);
            return Err(Violation::new(Rule::Rest, text));
        }
        self.quiet().await?;
        self.check()?;
        self.kept()?;
        let struck: u64 = self.replicas.iter().map(|member| member.trouble.struck()).sum();
        self.outcome.faults += struck;
        self.outcome.deploys = self.people.deploys();
        self.outcome.started = self.oracle.backends.scheduler.started();
        self.outcome.calls = self.oracle.calls();
        Ok(self.outcome.clone())
    }

    /// Waits until what was promoted last runs, and nothing else.
    async fn settle(&mut self) -> Result<(), Violation> {
        let until = Instant::now() + LONGEST;
        loop {
            self.check()?;
            let status = self.people.status().await?;
            let Some(wrong) = self.wrong(&status) else { return Ok(()) };
            if Instant::now() > until {
                let (explained, there) = (self.people.explain().await, self.there().await);
                self.oracle.violate(Rule::Rest, || format!("{wrong}\n{explained}\n{there}"));
                continue;
            }
            self.people.let_go_on().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    /// What runs and what is routed, for people who look for a cause.
    async fn there(&self) -> String {
        let instances = self.oracle.backends.scheduler.instances();
        let instances = instances.iter().fold(String::new(), |all, (key, i)| {
            all + &format!(
                "  {} {} {} {:?} revision {} {:?}\n",
                key.service, key.role, i.id, i.state, i.revision, i.message
            )
        });
        let scope = Scope::testing(Resource::Platform);
        let routes = self.oracle.backends.router.observe(&scope, &Selector::All).await.unwrap_or_default();
        routes.iter().fold(instances, |all, route| {
            all + &format!("  {} routes to {:?}, in use {:?}\n", route.service, route.routed, route.in_use)
        })
    }

    /// What is not as the last promoted revision says.
    fn wrong(&self, status: &AppStatus) -> Option<String> {
        if let Some(operation) = &status.operation {
            return Some(format!("{} is {:?}", operation.kind, operation.state));
        }
        let Some(intent) = self.oracle.intent() else { return Some("the app's record is gone".to_owned()) };
        let specs = self.oracle.specs(&intent);
        let instances = self.oracle.backends.scheduler.instances();
        let none = || (!instances.is_empty()).then(|| format!("{} instances are left", instances.len()));
        let Some(promoted) = status.promoted.filter(|_| status.running) else { return none() };
        let Some(spec) = specs.app(&intent, promoted) else {
            return Some(format!("revision {promoted} is gone"));
        };
        let (mut expected, mut all_run) = (0, true);
        for (name, wanted) in &spec.services {
            let Some(service) = status.service(name.as_str()) else {
                return Some(format!("{name} is missing"));
            };
            // What people asked for, whether it was stopped or not: the app runs.
            let replicas = intent.services.get(name).map_or(0, |service| service.replicas);
            expected += replicas;
            if cannot_run(wanted) {
                // It was promoted while it had no replicas, and is tried for ever since it has some; what took its
                // place meanwhile may serve on.
                all_run = false;
                continue;
            }
            let right = instances.iter().filter(|(key, instance)| {
                // A template is of one version, whatever revision its instances were started for.
                let started = specs.service(&intent, instance.revision, name);
                key.service == service.id
                    && instance.is_ready()
                    && started.map(version) == Some(version(wanted))
            });
            let (right, all) = (right.count(), replicas);
            if right != all as usize {
                return Some(format!("{name}: {right} of {all} run version {}", version(wanted)));
            }
        }
        (all_run && instances.len() != expected as usize)
            .then(|| format!("{} instances instead of {expected}", instances.len()))
    }

    /// Marks volumes that are new, so that it is seen whether their content stays.
    fn mark_volumes(&mut self) {
        let volumes = &self.oracle.backends.volumes;
        for volume in volumes.volumes() {
            let content = Bytes::from(volume.id.to_string());
            if self.marked.insert(volume.id.to_string())
                && let Err(error) = volumes.write(&volume.tenant, &volume.id, content)
            {
                self.oracle.violate(Rule::Data, || error.to_string());
            }
        }
    }

    /// No data went unasked.
    fn kept(&self) -> Result<(), Violation> {
        let volumes = &self.oracle.backends.volumes;
        let there = volumes.volumes();
        for marked in &self.marked {
            let volume = there.iter().find(|volume| volume.id.as_str() == marked);
            let content = volume.and_then(|volume| volumes.read(&volume.tenant, &volume.id).ok());
            if content.as_deref() != Some(marked.as_bytes()) {
                return Err(Violation::new(Rule::Data, format!("volume {marked} or its data is gone")));
            }
        }
        Ok(())
    }

    /// At rest nothing is written any more, but the lease.
    async fn quiet(&self) -> Result<(), Violation> {
        // Old slots cool down first.
        tokio::time::sleep(Duration::from_secs(120)).await;
        let backends = &self.oracle.backends;
        let writes = || {
            let (scheduler, router) = (&backends.scheduler, &backends.router);
            let records = backends.state.records().into_iter();
            let records = records.filter(|record| record.key.kind.as_str() != "lease");
            (
                scheduler.calls("apply") + scheduler.calls("remove"),
                router.calls("apply") + router.calls("remove"),
                records.map(|record| record.version).max(),
            )
        };
        let before = writes();
        tokio::time::sleep(Duration::from_secs(120)).await;
        let after = writes();
        if after != before {
            return Err(Violation::new(Rule::Quiet, format!("{before:?} writes became {after:?}")));
        }
        Ok(())
    }
}

/// The replica that people talk to: it has no trouble and never leads.
async fn platform(backends: &Backends, seed: u64) -> Result<Platform> {
    let mut engine = EngineConfig::default();
    engine.lead = false;
    Platform::builder()
        .scheduler(Arc::new(backends.scheduler.clone()))
        .router(Arc::new(backends.router.clone()))
        .volumes(Arc::new(backends.volumes.clone()))
        .state(Arc::new(backends.state.clone()))
        .secrets(Arc::new(MemorySecretStore::new()))
        .audit(Arc::new(MemoryAuditLog::new()))
        .authorizer(Arc::new(MemoryAuthorizer::allow_all()))
        .engine(engine)
        .ids(IdSource::seeded(backends.clock.clone(), seed))
        .clock(backends.clock.clone())
        .build()
        .await
}
