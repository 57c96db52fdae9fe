//! The platform on memory backends and a paused clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::ErrorKind;
use crate::memory::{
    Behaviour, MemoryAuditLog, MemoryAuthorizer, MemoryLogSource, MemoryRouter, MemoryScheduler,
    MemorySecretStore, MemoryStateStore, MemoryTenancy, MemoryVolumeStore,
};
use crate::model::{
    AppSpec, Confirmation, OperationState, RevisionNumber, ServiceName, ServiceSpec, Signal, Slot, Timestamp,
};

mod alert;
mod altered;
mod change;
mod claim;
mod drift;
mod exec;
mod gate;
mod native;
mod node;
mod refusal;
mod removal;
mod replica;
mod rig;
mod sender;
mod task;
mod tenancy;

use altered::Altered;

/// A platform, the backends behind it, and somebody who may do everything.
struct World {
    platform: Platform,
    scheduler: MemoryScheduler,
    router: MemoryRouter,
    volumes: MemoryVolumeStore,
    user: Principal,
}

const LONG: Duration = Duration::from_secs(600);

fn name(text: &str) -> ServiceName {
    ServiceName::new(text).unwrap()
}

/// A platform but for the backends that tests look into.
fn compose(clock: &Clock) -> PlatformBuilder {
    Platform::builder()
        .secrets(Arc::new(MemorySecretStore::new()))
        .audit(Arc::new(MemoryAuditLog::new()))
        .authorizer(Arc::new(MemoryAuthorizer::allow_all()))
        .tenancy(Arc::new(MemoryTenancy::new()))
        .logs(Arc::new(MemoryLogSource::new(clock.clone())))
        .ids(IdSource::seeded(clock.clone(), 1))
        .clock(clock.clone())
}

impl World {
    async fn new() -> Self {
        let scheduler = MemoryScheduler::new(Clock::runtime(Timestamp(1_000_000)));
        Self::on(&scheduler, Arc::new(scheduler.clone())).await
    }

    /// A world whose platform reaches the scheduler in a way of its own.
    async fn on(scheduler: &MemoryScheduler, reached: Arc<dyn Scheduler>) -> Self {
        Self::of(scheduler, reached, |builder| builder).await
    }

    /// A world whose platform has more backends than others.
    async fn of(
        scheduler: &MemoryScheduler,
        reached: Arc<dyn Scheduler>,
        more: impl FnOnce(PlatformBuilder) -> PlatformBuilder,
    ) -> Self {
        let clock = Clock::runtime(Timestamp(1_000_000));
        let router = MemoryRouter::new().with_clock(clock.clone());
        let volumes = MemoryVolumeStore::new();
        let platform = more(compose(&clock))
            .scheduler(reached)
            .router(Arc::new(router.clone()))
            .volumes(Arc::new(volumes.clone()))
            .state(Arc::new(MemoryStateStore::new()))
            .build()
            .await
            .unwrap();
        let operator = Principal::operator("ops");
        let tenant = platform.ensure_tenant(&operator, TenantName::new("acme").unwrap()).await.unwrap();
        Self {
            platform,
            scheduler: scheduler.clone(),
            router,
            volumes,
            user: Principal::user("ann", tenant.id),
        }
    }

    async fn deploy(&self, app: &AppSpec) -> Result<crate::model::Operation> {
        self.platform.deploy(&self.user, app).await?.finished_within(LONG).await
    }

    async fn shop(&self) -> AppHandle {
        let production = self.platform.production(&self.user).await.unwrap();
        production.app(&crate::model::AppName::new("shop").unwrap()).await.unwrap()
    }

    /// Service names in the order in which their first instances were started.
    fn ready(&self) -> BTreeMap<String, usize> {
        let mut ready = BTreeMap::new();
        for (_, instance) in self.scheduler.instances() {
            *ready.entry(instance.revision.to_string()).or_default() += usize::from(instance.is_ready());
        }
        ready
    }
}

fn service(version: &str, needs: &[&str]) -> ServiceSpec {
    let mut service = ServiceSpec::run(["./serve"]).unwrap();
    service.port = Some(8080);
    service.env.insert("VERSION".into(), version.into());
    service.needs = needs.iter().map(|need| name(need)).collect();
    service
}

/// An app of this service alone.
fn one(web: &ServiceSpec) -> AppSpec {
    AppSpec::new("shop").unwrap().with_service("web", web).unwrap()
}

fn with(version: &str, release: &str) -> ServiceSpec {
    let mut s = service(version, &[]);
    s.release = Some(serde_json::from_str(release).unwrap());
    s
}

/// Three services; `release` is how `api` is released.
fn shop(version: &str, release: &str) -> AppSpec {
    let mut db = service("1", &[]);
    db.volumes.insert("data".parse().unwrap(), "1GiB".parse().unwrap());
    let mut api = service(version, &["db"]);
    api.replicas = 3;
    api.release = Some(serde_json::from_str(release).unwrap());
    let web = service("1", &["api"]);
    let app = AppSpec::new("shop").unwrap();
    app.with_service("db", &db).unwrap().with_service("api", &api).unwrap().with_service("web", &web).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_shows_nothing_of_what_it_took_is_asked_less_and_less() {
    let scheduler = MemoryScheduler::new(Clock::runtime(Timestamp(1_000_000)));
    let forgetful = Altered(scheduler.clone(), |workload| workload.applied = None);
    let world = World::on(&scheduler, Arc::new(forgetful)).await;
    let app = AppSpec::new("shop").unwrap().with_service("web", &service("1", &[])).unwrap();
    world.deploy(&app).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert!(scheduler.calls("apply") < 100, "{} calls", scheduler.calls("apply"));
}

#[tokio::test(start_paused = true)]
async fn services_start_after_what_they_need() {
    let world = World::new().await;
    let operation = world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let released: Vec<String> = operation
        .events
        .iter()
        .filter(|event| event.text == "released")
        .filter_map(|event| event.service.as_ref().map(ToString::to_string))
        .collect();
    assert_eq!(released, ["db", "api", "web"]);
    let status = world.shop().await.status().await.unwrap();
    assert_eq!(status.promoted, Some(RevisionNumber(1)));
    assert_eq!(status.services.iter().map(|s| s.ready).collect::<Vec<_>>(), [3, 1, 1]);
    assert!(status.services.iter().all(|service| service.address.is_some()));
}

#[tokio::test(start_paused = true)]
async fn every_strategy_reaches_the_new_revision_and_keeps_the_old_until_then() {
    for release in [
        r#""rolling""#,
        r#""blue-green""#,
        r#""recreate""#,
        r#"{"canary":["10%","50%"],"every":"30s"}"#,
        r#"{"strategy":"blue-green","every":"10s"}"#,
    ] {
        let world = World::new().await;
        world.deploy(&shop("1", release)).await.unwrap();
        let operation = world.deploy(&shop("2", release)).await.unwrap();
        assert_eq!(operation.state, OperationState::Succeeded, "{release}");
        let status = world.shop().await.status().await.unwrap();
        let api = status.service("api").unwrap();
        assert_eq!((api.revision, api.ready), (Some(RevisionNumber(2)), 3), "{release}");
        let untouched = status.service("db").unwrap();
        assert_eq!(untouched.revision, Some(RevisionNumber(1)), "{release}");
        assert!(world.scheduler.volume_conflicts().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_release_brings_everything_back_and_says_why() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let mut next = shop("2", r#""rolling""#);
    next.services.get_mut("web").unwrap().env.insert("VERSION".into(), "2".into());
    let broken = Behaviour::exits(7).with_last_lines(["cannot open config"]);
    world.scheduler.behave_where(
        |workload| workload.labels.service.as_str() == "web" && workload.revision == RevisionNumber(2),
        broken,
    );
    let error = world.deploy(&next).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert_eq!(error.context("exit code"), Some("7"));
    assert!(error.to_string().contains("cannot open config"), "{error}");
    let status = world.shop().await.status().await.unwrap();
    assert_eq!(status.promoted, Some(RevisionNumber(1)));
    for service in &status.services {
        assert_eq!(service.revision, Some(RevisionNumber(1)), "{}", service.name);
        assert_eq!(service.ready, service.replicas, "{}", service.name);
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_release_that_fails_leaves_nothing_running() {
    let world = World::new().await;
    world.scheduler.behave(&name("api"), Behaviour::never_ready());
    let error = world.deploy(&shop("1", r#""rolling""#)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(world.scheduler.instances().is_empty());
    world.scheduler.heal();
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_fails_too_many_requests_is_aborted() {
    let world = World::new().await;
    let release = r#"{"canary":["10%"],"every":"60s","abort_if":[{"errors":"> 1%"}]}"#;
    world.deploy(&shop("1", release)).await.unwrap();
    let handle = world.platform.deploy(&world.user, &shop("2", release)).await.unwrap();
    let status = world.shop().await.status().await.unwrap();
    let api = world.shop().await.resource();
    let Resource::App(t, e, a) = api else { unreachable!() };
    let api = Resource::Service(t, e, a, status.service("api").unwrap().id.clone());
    // Clients come as long as the canary runs; one in two of its answers is an error.
    for _ in 0..1_000 {
        for _ in 0..20 {
            if let Ok(request) = world.router.begin(&api, &[]) {
                let candidate = request.endpoint().slot == Slot::Green;
                request.finish(!candidate, Duration::from_millis(5));
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let error = handle.finished_within(LONG).await.unwrap_err();
    assert!(error.to_string().contains("requests failed"), "{error}");
    assert_eq!(world.ready().get("2"), None);
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_a_warm_slot_starts_nothing() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""blue-green""#)).await.unwrap();
    world.deploy(&shop("2", r#""blue-green""#)).await.unwrap();
    let started = world.scheduler.started();
    let shop = world.shop().await;
    shop.rollback(RevisionNumber(1)).await.unwrap().finished_within(LONG).await.unwrap();
    assert_eq!(world.scheduler.started(), started);
    let status = shop.status().await.unwrap();
    assert_eq!(status.promoted, Some(RevisionNumber(1)));
    assert_eq!(status.service("api").unwrap().active, Slot::Blue);
}

#[tokio::test(start_paused = true)]
async fn an_approval_lets_a_release_go_on_and_an_abort_ends_it() {
    let world = World::new().await;
    let release = r#"{"strategy":"blue-green","approve":true}"#;
    world.deploy(&shop("1", release)).await.unwrap();
    for signal in [Signal::Approve, Signal::Abort] {
        let version = format!("{signal:?}");
        let handle = world.platform.deploy(&world.user, &shop(&version, release)).await.unwrap();
        let error = handle.finished_within(Duration::from_secs(300)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        handle.signal(signal).await.unwrap();
        let outcome = handle.finished_within(LONG).await;
        assert_eq!(outcome.is_ok(), signal == Signal::Approve);
    }
    assert_eq!(world.shop().await.status().await.unwrap().promoted, Some(RevisionNumber(2)));
}

#[tokio::test(start_paused = true)]
async fn stop_and_start_remember_the_replicas() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let shop = world.shop().await;
    shop.scale(&name("api"), 5).await.unwrap();
    let stopped = shop.stop().await.unwrap().finished_within(LONG).await.unwrap();
    let order: Vec<_> = stopped.events.iter().filter(|event| event.text == "stops").collect();
    let order: Vec<_> =
        order.iter().filter_map(|event| event.service.as_ref()).map(ServiceName::as_str).collect();
    assert_eq!(order, ["web", "api", "db"]);
    assert!(world.scheduler.instances().is_empty());
    let refused = world.deploy(&super::tests::shop("2", r#""rolling""#)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    shop.start().await.unwrap().finished_within(LONG).await.unwrap();
    assert_eq!(shop.status().await.unwrap().service("api").unwrap().ready, 5);
}

#[tokio::test(start_paused = true)]
async fn a_newer_deploy_supersedes() {
    let world = World::new().await;
    let release = r#"{"canary":["10%"],"every":"1h"}"#;
    world.deploy(&shop("1", release)).await.unwrap();
    let first = world.platform.deploy(&world.user, &shop("2", release)).await.unwrap();
    assert_eq!(first.finished_within(Duration::from_secs(60)).await.unwrap_err().kind(), ErrorKind::Timeout);
    let second = world.deploy(&shop("3", r#""rolling""#)).await.unwrap();
    assert_eq!(second.state, OperationState::Succeeded);
    assert_eq!(first.finished_within(LONG).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(first.state().await.unwrap().state, OperationState::Superseded);
    assert_eq!(world.ready().get("2"), None);
    assert_eq!(world.ready().get("3"), Some(&3));
}

#[tokio::test(start_paused = true)]
async fn the_task_before_a_release_must_succeed() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let mut next = shop("2", r#""rolling""#);
    next.services.get_mut("api").unwrap().before_release = Some("./api migrate".parse().unwrap());
    let task = |workload: &crate::model::Workload| workload.template.command.is_some();
    world.scheduler.behave_where(task, Behaviour::exits(3).with_last_lines(["no such table"]));
    let error = world.deploy(&next).await.unwrap_err();
    assert!(error.to_string().contains("no such table"), "{error}");
    world.scheduler.heal();
    world.scheduler.behave_where(task, Behaviour::exits(0));
    world.deploy(&next).await.unwrap();
    assert_eq!(world.shop().await.status().await.unwrap().promoted, Some(RevisionNumber(2)));
}

#[tokio::test(start_paused = true)]
async fn a_crashed_instance_leaves_the_route_and_comes_back() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let shop = world.shop().await;
    let instance = shop.status().await.unwrap().service("api").unwrap().slots[0].instances[0].id.clone();
    world.scheduler.crash(&instance, 1).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(world.router.open(&instance).is_err());
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(world.router.open(&instance).is_ok());
}

#[tokio::test(start_paused = true)]
async fn removing_an_app_keeps_its_data() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let shop = world.shop().await;
    let volume = shop.volumes().await.unwrap()[0].volume.clone();
    let refused = shop.remove_volume(&volume.id, &Confirmation::of(volume.id.as_str())).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    shop.remove().await.unwrap().finished_within(LONG).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(shop.status().await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(world.volumes.volumes(), [volume]);
    world.deploy(&super::tests::shop("1", r#""rolling""#)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_restart_exchanges_instances_without_a_gap() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    let shop = world.shop().await;
    let ids = async || {
        let status = shop.status().await.unwrap();
        let api = status.service("api").unwrap().clone();
        let slots = api.slots.into_iter().flat_map(|slot| slot.instances);
        slots.map(|instance| instance.id).collect::<std::collections::BTreeSet<_>>()
    };
    let before = ids().await;
    shop.restart(&name("api")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    let after = ids().await;
    assert_eq!(after.len(), 3);
    assert!(before.is_disjoint(&after));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_written_when_nothing_changes() {
    let world = World::new().await;
    world.deploy(&shop("1", r#""rolling""#)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (applied, routed) = (world.scheduler.calls("apply"), world.router.calls("apply"));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!((world.scheduler.calls("apply"), world.router.calls("apply")), (applied, routed));
}

#[tokio::test(start_paused = true)]
async fn a_domain_belongs_to_one_app_and_is_free_again_once_no_kept_revision_has_it() {
    let world = World::new().await;
    let site = |version: &str, domain: Option<&str>| {
        let mut web = service(version, &[]);
        web.domain.extend(domain.map(|domain| domain.parse().unwrap()));
        AppSpec::new("site").unwrap().with_service("web", &web).unwrap()
    };
    let first = site("1", Some("shop.test"));
    world.deploy(&first).await.unwrap();
    let mut other = first.clone();
    other.app = "other".parse().unwrap();
    assert_eq!(world.deploy(&other).await.unwrap_err().kind(), ErrorKind::Conflict);
    // As many revisions without the domain as are kept.
    for version in 0..=crate::model::limit::REVISIONS {
        world.deploy(&site(&format!("v{version}"), None)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(3 * 3_600)).await;
    world.deploy(&other).await.unwrap();
}
