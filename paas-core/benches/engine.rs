//! The engine's figures on memory backends: one line each, `name  ours  peer  ratio  goal  met|short`.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints, and stops where it cannot go on"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use paas_core::Platform;
use paas_core::memory::{
    Behaviour, MemoryAuditLog, MemoryAuthorizer, MemoryRouter, MemoryScheduler, MemorySecretStore,
    MemoryStateStore, MemoryTenancy, MemoryVolumeStore,
};
use paas_core::model::{AppSpec, Clock, Principal, ServiceName, ServiceSpec, TenantName};
use paas_core::platform::EnvironmentHandle;

struct World {
    scheduler: MemoryScheduler,
    router: MemoryRouter,
    production: EnvironmentHandle,
    _platform: Platform,
}

async fn world() -> World {
    let (scheduler, router) = (MemoryScheduler::new(Clock::system()), MemoryRouter::new());
    let platform = Platform::builder()
        .scheduler(Arc::new(scheduler.clone()))
        .router(Arc::new(router.clone()))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()))
        .secrets(Arc::new(MemorySecretStore::new()))
        .audit(Arc::new(MemoryAuditLog::new()))
        .authorizer(Arc::new(MemoryAuthorizer::allow_all()))
        .tenancy(Arc::new(MemoryTenancy::new()))
        .build()
        .await
        .unwrap();
    let tenant = platform
        .ensure_tenant(&Principal::operator("bench"), TenantName::new("bench").unwrap())
        .await
        .unwrap();
    let production = platform.production(&Principal::user("bench", tenant.id)).await.unwrap();
    World { scheduler, router, production, _platform: platform }
}

fn app(name: &str, services: u32) -> AppSpec {
    (0..services).fold(AppSpec::new(name).unwrap(), |app, number| {
        let mut service = ServiceSpec::run(["serve"]).unwrap();
        service.port = Some(8080);
        app.with_service(format!("s{number}"), &service).unwrap()
    })
}

/// Prints one figure; `peer` is what it is held against in the same run, if anything.
fn line(name: &str, ours: f64, unit: &str, peer: Option<f64>, goal: f64) {
    let text = |value: f64| format!("{value:.3} {unit}");
    let (against, ratio) = match peer {
        Some(peer) => (text(peer), format!("{:.2}", ours / peer)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    let verdict = if ours <= goal { "met" } else { "short" };
    println!("{name}  {}  {against}  {ratio}  <= {}  {verdict}", text(ours), text(goal));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() - 1) * percent / 100]
}

/// From the moment an instance is ready to the moment the router has it.
async fn readiness() {
    let world = world().await;
    world.scheduler.behave_by_default(Behaviour::never_ready());
    let mut times = Vec::new();
    for number in 0..200 {
        let name = format!("app{number}");
        world.production.deploy(&app(&name, 1)).await.unwrap();
        let instance = loop {
            let status = world.production.app(&name.parse().unwrap()).await.unwrap().status().await.unwrap();
            let found =
                status.services.first().and_then(|service| service.slots[0].instances.first().cloned());
            if let Some(found) = found {
                break found.id;
            }
            tokio::task::yield_now().await;
        };
        let begun = Instant::now();
        world.scheduler.make_ready(&instance).unwrap();
        while world.router.open(&instance).is_err() {
            tokio::task::yield_now().await;
        }
        times.push(begun.elapsed());
    }
    line("readiness to next step, p50", millis(percentile(&mut times, 50)), "ms", None, 10.0);
    line("readiness to next step, p99", millis(percentile(&mut times, 99)), "ms", None, 10.0);
}

/// Waits until the engine has nothing more to look at.
async fn quieten(scheduler: &MemoryScheduler) {
    loop {
        let before = scheduler.calls("list");
        tokio::time::sleep(Duration::from_millis(200)).await;
        if scheduler.calls("list") == before {
            return;
        }
    }
}

/// A list of 1,000 services with their state.
async fn list() {
    let world = world().await;
    let mut operations = Vec::new();
    for number in 0..250 {
        operations.push(world.production.deploy(&app(&format!("app{number}"), 4)).await.unwrap());
    }
    for operation in operations {
        operation.finished_within(Duration::from_secs(120)).await.unwrap();
    }
    quieten(&world.scheduler).await;
    let before = world.scheduler.calls("list");
    let begun = Instant::now();
    let apps = world.production.apps().await.unwrap();
    let took = begun.elapsed();
    let services: usize = apps.iter().map(|app| app.services.len()).sum();
    assert_eq!(services, 1_000);
    assert!(apps.iter().flat_map(|app| &app.services).all(|service| service.ready == 1));
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    line(
        "list of 1,000 services, scheduler calls",
        (world.scheduler.calls("list") - before) as f64,
        "calls",
        None,
        1.0,
    );
    line("list of 1,000 services", millis(took), "ms", None, 50.0);
}

/// What a quiet platform of 1,000 services does in a resync period.
async fn quiet() {
    let world = world().await;
    let operation = world.production.deploy(&app("quiet", 4)).await.unwrap();
    operation.finished_within(Duration::from_secs(60)).await.unwrap();
    let service = ServiceName::new("s0").unwrap();
    let handle = world.production.app(&"quiet".parse().unwrap()).await.unwrap();
    handle.scale(&service, 2).await.unwrap();
    while handle.status().await.unwrap().services[0].ready < 2 {
        tokio::task::yield_now().await;
    }
    quieten(&world.scheduler).await;
    let before = world.scheduler.calls("apply") + world.router.calls("apply");
    // Nothing changes, so a second deploy of the same app is the most that can be asked for.
    world
        .production
        .deploy(&app("quiet", 4))
        .await
        .unwrap()
        .finished_within(Duration::from_secs(60))
        .await
        .unwrap();
    let after = world.scheduler.calls("apply") + world.router.calls("apply");
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    line("writes for an unchanged deploy", (after - before) as f64, "calls", None, 0.0);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    println!("name  ours  peer  ratio  goal  met|short");
    runtime.block_on(async {
        readiness().await;
        list().await;
        quiet().await;
    });
}
