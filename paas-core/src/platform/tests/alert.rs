//! Alerts on their way to people.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::*;
use crate::memory::MemoryNotifier;
use crate::model::{
    Alert, AlertKey, LogRuleCount, LogRules, LogTail, LogTrial, Notification, ServiceId, TailItem,
};
use crate::port::{Backend, LogPorts, Notifier};

/// Somebody who takes nothing the first few times.
#[derive(Debug, Default)]
struct Busy {
    inner: MemoryNotifier,
    refusals: AtomicU32,
}

/// A pipeline whose lines a test makes up.
#[derive(Debug)]
struct Silent;

#[async_trait]
impl Backend for Busy {
    fn name(&self) -> &'static str {
        "busy"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Notifier for Busy {
    async fn notify(&self, scope: &Scope, notification: &Notification) -> Result<()> {
        if self.refusals.load(Ordering::SeqCst) > 0 {
            self.refusals.fetch_sub(1, Ordering::SeqCst);
            return Err(Error::new(ErrorKind::Internal, "not now"));
        }
        self.inner.notify(scope, notification).await
    }
}

#[async_trait]
impl Backend for Silent {
    fn name(&self) -> &'static str {
        "silent"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl LogPipeline for Silent {
    async fn run(&self, _: LogPorts) {
        std::future::pending().await
    }
    async fn tail(&self, _: &Scope, _: LogPorts, _: LogTail) -> Result<BoxStream<'static, Result<TailItem>>> {
        Err(Error::unsupported("tail"))
    }
    async fn counts(&self, _: &Scope, _: &Resource) -> Result<Vec<(ServiceId, Vec<LogRuleCount>)>> {
        Ok(Vec::new())
    }
    fn dry_run(&self, _: &[LogRules], _: &[u8]) -> Result<Vec<LogTrial>> {
        Ok(Vec::new())
    }
}

async fn world(busy: &Arc<Busy>) -> World {
    let scheduler = MemoryScheduler::new(Clock::runtime(Timestamp(1_000_000)));
    let more =
        |builder: PlatformBuilder| builder.log_pipeline(Arc::new(Silent)).notifier("oncall", busy.clone());
    World::of(&scheduler, Arc::new(scheduler.clone()), more).await
}

/// The shop, and a rule about the lines of its only service.
async fn key(world: &World) -> AlertKey {
    world.deploy(&one(&with("1", "\"rolling\""))).await.unwrap();
    let shop = world.shop().await;
    let service = shop.status().await.unwrap().services.remove(0).id;
    let Resource::App(tenant, environment, app) = shop.resource() else { panic!("an app is an app") };
    let mut key = AlertKey::new(tenant, environment, app, "rule".into());
    key.service = Some(service);
    key
}

fn alert(world: &World, id: &str) -> Alert {
    Alert::new(id.to_owned(), world.platform.0.clock.now(), "oncall".to_owned(), "ERROR".to_owned())
}

fn told(busy: &Busy) -> Vec<String> {
    busy.inner.told().into_iter().map(|told| told.alert.id).collect()
}

#[tokio::test(start_paused = true)]
async fn an_alert_is_told_until_somebody_takes_it() {
    let busy = Arc::new(Busy { refusals: AtomicU32::new(5), ..Busy::default() });
    let world = world(&busy).await;
    let key = key(&world).await;
    let alerts = &world.platform.0.alerts;
    alerts.raise(&key, alert(&world, "1")).await.unwrap();
    alerts.raise(&key, alert(&world, "1")).await.unwrap();
    alerts.raise(&key, alert(&world, "2")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut ids = told(&busy);
    ids.sort();
    assert_eq!(ids, ["1", "2"]);
    let first = busy.inner.told().remove(0);
    assert_eq!((first.app.to_string(), first.service), ("shop".to_owned(), Some(name("web"))));
    assert_eq!(alerts.last(&key).await.unwrap().unwrap().id, "2");
    // Nothing of it is told again, nor raised again.
    alerts.raise(&key, alert(&world, "2")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(told(&busy).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_alert_outlives_the_replica_that_raised_it() {
    let busy = Arc::new(Busy { refusals: AtomicU32::new(u32::MAX), ..Busy::default() });
    let world = world(&busy).await;
    let key = key(&world).await;
    world.platform.0.alerts.raise(&key, alert(&world, "1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.platform.shutdown().await;
    busy.refusals.store(0, Ordering::SeqCst);
    assert!(told(&busy).is_empty());
    let clock = world.platform.0.clock.clone();
    let next = compose(&clock)
        .scheduler(Arc::new(world.scheduler.clone()))
        .router(Arc::new(world.router.clone()))
        .volumes(Arc::new(world.volumes.clone()))
        .state(Arc::clone(&world.platform.0.store.state))
        .log_pipeline(Arc::new(Silent))
        .notifier("oncall", busy.clone())
        .build()
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(told(&busy), ["1"]);
    next.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_for_a_day_is_told_no_more() {
    let busy = Arc::new(Busy { refusals: AtomicU32::new(u32::MAX), ..Busy::default() });
    let world = world(&busy).await;
    let key = key(&world).await;
    world.platform.0.alerts.raise(&key, alert(&world, "1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(25 * 60 * 60)).await;
    busy.refusals.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(60 * 60)).await;
    assert!(told(&busy).is_empty());
}

#[tokio::test(start_paused = true)]
async fn more_alerts_than_can_wait_are_told_as_a_count() {
    let busy = Arc::new(Busy { refusals: AtomicU32::new(1_000), ..Busy::default() });
    let world = world(&busy).await;
    let key = key(&world).await;
    for number in 0..30 {
        world.platform.0.alerts.raise(&key, alert(&world, &number.to_string())).await.unwrap();
    }
    busy.refusals.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_secs(600)).await;
    let told = busy.inner.told();
    assert_eq!((told.len(), told.iter().map(|told| told.alert.held_back).sum::<u64>()), (20, 10));
}

#[tokio::test(start_paused = true)]
async fn an_app_that_tells_somebody_unknown_is_refused() {
    let world = world(&Arc::default()).await;
    let mut app = one(&with("1", "\"rolling\""));
    app.logs = serde_json::from_str(r#"{"alerts":[{"match":"ERROR","notify":"nobody"}]}"#).unwrap();
    let refused = world.platform.deploy(&world.user, &app).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("notify: nobody") && text.contains("known: oncall"), "{text}");
}
