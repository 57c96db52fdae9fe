//! The engine on memory backends with a paused clock, under random people and random trouble.
//!
//! A seed makes an app, a sequence of what people do to it, and faults: calls that fail before or after they took effect
//! or never answer, instances that crash, a scheduler that forgets, and an engine that dies between any two calls. Two
//! replicas of the platform share the backends: one in trouble, one that people talk to and that takes over when the
//! other is gone. Once the trouble stops, exactly what was asked for must run, in bounded time, and nothing else.

mod app;
mod rng;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use paas_core::engine::EngineConfig;
use paas_core::memory::{
    MemoryAuditLog, MemoryAuthorizer, MemoryRouter, MemoryScheduler, MemorySecretStore, MemoryStateStore,
    MemoryVolumeStore,
};
use paas_core::model::{
    AppName, AppSpec, Clock, IdSource, Principal, RevisionNumber, ServiceName, Signal, TenantName, Timestamp,
};
use paas_core::platform::{AppHandle, AppStatus, EnvironmentHandle};
use paas_core::{Error, ErrorKind, Platform, Result};

use crate::fault::{Fault, FaultPlan, Faulty};
use app::{Author, Width, behave, version};
use rng::Rng;

/// How many things people do in a seed.
const ACTIONS: u64 = 12;
/// How long the platform may take to come to rest once trouble has stopped.
const REST: Duration = Duration::from_secs(900);

/// Trouble for one replica.
#[derive(Debug)]
struct Trouble {
    rng: std::sync::Mutex<Rng>,
    on: AtomicBool,
    crashed: AtomicBool,
    struck: AtomicU64,
}

impl FaultPlan for Trouble {
    fn decide(&self, port: &'static str, op: &'static str) -> Fault {
        if !self.on.load(Ordering::SeqCst) || self.crashed.load(Ordering::SeqCst) {
            // A dead engine makes no calls; one that was about to waits until it is dropped.
            return if self.crashed.load(Ordering::SeqCst) { Fault::Never } else { Fault::None };
        }
        let mut rng = self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let error = || Error::unavailable("trouble").with("call", format!("{port}.{op}"));
        let fault = match rng.below(1_000) {
            0..20 => Fault::Before(error()),
            20..40 => Fault::After(error()),
            40..45 => Fault::Never,
            45..50 => Fault::NeverAfter,
            50..60 => Fault::Crash,
            60..70 => Fault::CrashAfter,
            70..90 => Fault::Late(Duration::from_millis(rng.below(3_000))),
            _ => return Fault::None,
        };
        self.struck.fetch_add(1, Ordering::SeqCst);
        fault
    }

    fn crashed(&self) {
        self.crashed.store(true, Ordering::SeqCst);
    }
}

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Faults that struck.
    pub faults: u64,
    /// Engines that died.
    pub crashes: u64,
    /// Releases that people asked for.
    pub deploys: u64,
    /// Processes that were started.
    pub started: u64,
}

/// Runs a seed on a clock of its own.
///
/// # Errors
/// What did not hold, in words.
pub fn simulate(seed: u64) -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut world = World::new(seed).await.map_err(|error| format!("{error:?}"))?;
        world.live().await.map_err(|error| format!("{error:?}"))?;
        world.rest().await?;
        Ok(world.outcome)
    })
}

struct World {
    rng: Rng,
    author: Author,
    seed: u64,
    backends: Backends,
    trouble: Arc<Trouble>,
    troubled: Option<Platform>,
    environment: EnvironmentHandle,
    /// The apps behind revision numbers.
    specs: BTreeMap<RevisionNumber, AppSpec>,
    /// Volumes in which something was written.
    marked: BTreeSet<String>,
    outcome: Outcome,
    _calm: Platform,
}

/// What both replicas share.
struct Backends {
    clock: Clock,
    scheduler: MemoryScheduler,
    router: MemoryRouter,
    volumes: MemoryVolumeStore,
    state: MemoryStateStore,
}

impl World {
    async fn new(seed: u64) -> Result<Self> {
        let clock = Clock::runtime(Timestamp(1_700_000_000_000));
        let backends = Backends {
            scheduler: MemoryScheduler::new(clock.clone()),
            router: MemoryRouter::new().with_clock(clock.clone()),
            volumes: MemoryVolumeStore::new(),
            state: MemoryStateStore::new(),
            clock,
        };
        behave(&backends.scheduler);
        let trouble = Arc::new(Trouble {
            rng: std::sync::Mutex::new(Rng::new(seed, "trouble")),
            on: AtomicBool::new(false),
            crashed: AtomicBool::new(false),
            struck: AtomicU64::new(0),
        });
        let calm_plan: Arc<dyn FaultPlan> = Arc::new(|_: &'static str, _: &'static str| Fault::None);
        let calm = compose("calm", &calm_plan, &backends, seed).await?;
        let tenant = calm.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
        let environment = calm.production(&Principal::user("ann", tenant.id)).await?;
        let author = Author::new(Rng::new(seed, "author"), Width { services: 4, only_rolling: false });
        let rng = Rng::new(seed, "people");
        let mut world = Self {
            rng,
            author,
            seed,
            backends,
            trouble,
            troubled: None,
            environment,
            specs: BTreeMap::new(),
            marked: BTreeSet::new(),
            outcome: Outcome::default(),
            _calm: calm,
        };
        world.revive().await?;
        Ok(world)
    }

    /// A replica in trouble takes the place of the one that died.
    async fn revive(&mut self) -> Result<()> {
        self.troubled = None;
        self.trouble.crashed.store(false, Ordering::SeqCst);
        let on = self.trouble.on.swap(false, Ordering::SeqCst);
        let plan: Arc<dyn FaultPlan> = self.trouble.clone();
        // Its ids must differ from the other's.
        self.troubled = Some(compose("troubled", &plan, &self.backends, !self.seed).await?);
        self.trouble.on.store(on, Ordering::SeqCst);
        Ok(())
    }

    async fn app(&self) -> Result<AppHandle> {
        self.environment.app(&AppName::new("shop")?).await
    }

    async fn live(&mut self) -> Result<()> {
        self.trouble.on.store(true, Ordering::SeqCst);
        let first = self.author.first()?;
        self.deploy(&first).await?;
        for _ in 0..ACTIONS {
            self.pass_time().await?;
            match self.act().await {
                // What people may not do now, they are told; everything else is a defect.
                Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) => {}
                outcome => outcome?,
            }
        }
        self.pass_time().await?;
        self.trouble.on.store(false, Ordering::SeqCst);
        self.revive().await
    }

    async fn deploy(&mut self, app: &AppSpec) -> Result<()> {
        self.outcome.deploys += 1;
        let operation = self.environment.deploy(app).await?.state().await?;
        if let Some(number) = operation.kind.revision() {
            self.specs.insert(number, app.clone());
        }
        Ok(())
    }

    /// Time goes by, in pieces, so that a dead replica is soon followed by another.
    async fn pass_time(&mut self) -> Result<()> {
        for _ in 0..self.rng.between(1, 30) {
            self.mark_volumes()?;
            tokio::time::sleep(Duration::from_millis(self.rng.between(1, 2_000))).await;
            if self.trouble.crashed.load(Ordering::SeqCst) {
                self.outcome.crashes += 1;
                self.troubled = None;
                tokio::time::sleep(Duration::from_millis(self.rng.below(25_000))).await;
                self.revive().await?;
            }
        }
        Ok(())
    }

    async fn act(&mut self) -> Result<()> {
        let service = ServiceName::new(*self.rng.pick(&["a", "b", "c", "d", "e"]))?;
        match self.rng.below(16) {
            0..=4 => {
                let bad = self.rng.chance(400);
                let app = self.author.next(bad)?;
                self.deploy(&app).await
            }
            5 => {
                let known: Vec<_> = self.app().await?.revisions().await?;
                let Some(revision) = known.get(self.rng.below(known.len() as u64) as usize) else {
                    return Ok(());
                };
                self.app().await?.rollback(revision.number).await.map(drop)
            }
            6 => self.app().await?.scale(&service, u32::try_from(self.rng.below(5)).unwrap_or(1)).await,
            7 => self.app().await?.restart(&service).await,
            8 => self.app().await?.stop().await.map(drop),
            9 | 10 => self.app().await?.start().await.map(drop),
            11 => {
                let signal = *self.rng.pick(&[Signal::Approve, Signal::Abort, Signal::Pause, Signal::Resume]);
                self.signal(signal).await
            }
            12 => {
                self.backends.scheduler.restart();
                Ok(())
            }
            _ => {
                let living = self.backends.scheduler.instances();
                let Some((_, victim)) = living.get(self.rng.below(living.len() as u64) as usize) else {
                    return Ok(());
                };
                self.backends.scheduler.crash(&victim.id, 137)
            }
        }
    }

    async fn signal(&self, signal: Signal) -> Result<()> {
        let app = self.app().await?;
        match app.status().await?.operation {
            Some(operation) => app.operation(operation.id).signal(signal).await,
            None => Ok(()),
        }
    }

    /// Without trouble, everything comes to rest where it should.
    async fn rest(&mut self) -> Result<(), String> {
        let text = |error: Error| format!("{error:?}");
        let until = tokio::time::Instant::now() + REST;
        loop {
            let app = self.app().await.map_err(text)?;
            let status = app.status().await.map_err(text)?;
            let wrong = self.wrong(&status);
            if wrong.is_none() {
                break;
            }
            if tokio::time::Instant::now() > until {
                let explained = app.explain().await.map_err(text)?;
                return Err(format!("not at rest: {}\n{explained}", wrong.unwrap_or_default()));
            }
            // People let what waits for them go on.
            let _ = self.signal(Signal::Resume).await;
            let _ = self.signal(Signal::Approve).await;
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let conflicts = self.backends.scheduler.volume_conflicts();
        if !conflicts.is_empty() {
            return Err(format!("two writers on a volume: {conflicts:?}"));
        }
        self.kept()?;
        self.quiet().await?;
        self.outcome.faults = self.trouble.struck.load(Ordering::SeqCst);
        self.outcome.started = self.backends.scheduler.started();
        Ok(())
    }

    /// What is not as the last promoted revision says.
    fn wrong(&self, status: &AppStatus) -> Option<String> {
        if let Some(operation) = &status.operation {
            return Some(format!("{} is {:?}", operation.kind, operation.state));
        }
        let instances = self.backends.scheduler.instances();
        let none = || (!instances.is_empty()).then(|| format!("{} instances are left", instances.len()));
        let Some(promoted) = status.promoted.filter(|_| status.running) else { return none() };
        let spec = self.specs.get(&promoted)?;
        let mut expected = 0;
        for (name, wanted) in &spec.services {
            let Some(service) = status.service(name.as_str()) else {
                return Some(format!("{name} is missing"));
            };
            expected += service.replicas;
            let right = instances.iter().filter(|(key, instance)| {
                // A template is of one version, whatever revision its instances were started for.
                let started = self.specs.get(&instance.revision).and_then(|spec| spec.services.get(name));
                key.service == service.id
                    && instance.is_ready()
                    && started.map(version) == Some(version(wanted))
            });
            let right = u32::try_from(right.count()).unwrap_or(u32::MAX);
            if right != service.replicas {
                return Some(format!(
                    "{name}: {right} of {} run version {}",
                    service.replicas,
                    version(wanted)
                ));
            }
        }
        (instances.len() != expected as usize)
            .then(|| format!("{} instances instead of {expected}", instances.len()))
    }

    /// Marks volumes that are new, so that it is seen whether their content stays.
    fn mark_volumes(&mut self) -> Result<()> {
        for volume in self.backends.volumes.volumes() {
            if self.marked.insert(volume.id.to_string()) {
                self.backends.volumes.write(
                    &volume.tenant,
                    &volume.id,
                    Bytes::from(volume.id.to_string()),
                )?;
            }
        }
        Ok(())
    }

    /// No data went unasked.
    fn kept(&self) -> Result<(), String> {
        let there = self.backends.volumes.volumes();
        for marked in &self.marked {
            let volume = there.iter().find(|volume| volume.id.as_str() == marked);
            let content =
                volume.and_then(|volume| self.backends.volumes.read(&volume.tenant, &volume.id).ok());
            if content.as_deref() != Some(marked.as_bytes()) {
                return Err(format!("volume {marked} or its data is gone"));
            }
        }
        Ok(())
    }

    /// At rest nothing is written any more, but the lease.
    async fn quiet(&self) -> Result<(), String> {
        // Old slots cool down first.
        tokio::time::sleep(Duration::from_secs(120)).await;
        let calls = || {
            (
                self.backends.scheduler.calls("apply") + self.backends.scheduler.calls("remove"),
                self.backends.router.calls("apply"),
            )
        };
        let before = calls();
        tokio::time::sleep(Duration::from_secs(120)).await;
        if calls() == before { Ok(()) } else { Err(format!("not quiet: {before:?} became {:?}", calls())) }
    }
}

/// A replica of the platform whose calls of the scheduler, the router and the stores go through a plan.
async fn compose(name: &str, plan: &Arc<dyn FaultPlan>, world: &Backends, seed: u64) -> Result<Platform> {
    let mut engine = EngineConfig::default();
    engine.replica = name.to_owned();
    let clock = world.clock.clone();
    Platform::builder()
        .scheduler(Arc::new(Faulty::new(plan.clone(), Arc::new(world.scheduler.clone()))))
        .router(Arc::new(Faulty::new(plan.clone(), Arc::new(world.router.clone()))))
        .volumes(Arc::new(Faulty::new(plan.clone(), Arc::new(world.volumes.clone()))))
        .state(Arc::new(Faulty::new(plan.clone(), Arc::new(world.state.clone()))))
        .secrets(Arc::new(MemorySecretStore::new()))
        .audit(Arc::new(MemoryAuditLog::new()))
        .authorizer(Arc::new(MemoryAuthorizer::allow_all()))
        .engine(engine)
        .ids(IdSource::seeded(clock.clone(), seed))
        .clock(clock)
        .build()
        .await
}
