//! Alerts on their way to people.

use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::*;
use crate::memory::{MemoryLogStore, MemoryNotifier};
use crate::model::{
    Alert, AlertKey, LogQuarantine, LogRuleCount, LogRules, LogTail, LogTrial, Notification, ServiceId,
    TailItem,
};
use crate::port::{Backend, LogPorts, LogSink, Notifier};

/// Somebody who takes nothing the first few times.
#[derive(Debug, Default)]
struct Busy {
    inner: MemoryNotifier,
    refusals: AtomicU32,
}

/// Somebody who never answers.
#[derive(Debug)]
struct Stuck;

/// Somebody who takes nothing until a moment, asks to be left alone until then, and counts who asks all the same.
#[derive(Debug)]
struct Tired {
    inner: MemoryNotifier,
    until: tokio::time::Instant,
    calls: AtomicU32,
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
impl Backend for Stuck {
    fn name(&self) -> &'static str {
        "stuck"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Notifier for Stuck {
    async fn notify(&self, _: &Scope, _: &Notification) -> Result<()> {
        std::future::pending().await
    }
}

#[async_trait]
impl Backend for Tired {
    fn name(&self) -> &'static str {
        "tired"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Notifier for Tired {
    async fn notify(&self, scope: &Scope, notification: &Notification) -> Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let left = self.until.saturating_duration_since(tokio::time::Instant::now());
        if left.is_zero() {
            return self.inner.notify(scope, notification).await;
        }
        Err(Error::new(ErrorKind::Throttled, "not so fast").with_retry_after(left))
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
    async fn serve(&self, _: LogPorts) {
        std::future::pending().await
    }
    async fn quarantine(&self, _: &Scope) -> Result<Vec<LogQuarantine>> {
        Ok(Vec::new())
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
    world_of(busy.clone(), |builder| builder).await
}

async fn world_of(oncall: Arc<dyn Notifier>, more: impl FnOnce(PlatformBuilder) -> PlatformBuilder) -> World {
    let scheduler = MemoryScheduler::new(Clock::runtime(Timestamp(1_000_000)));
    let all =
        |builder: PlatformBuilder| more(builder.log_pipeline(Arc::new(Silent)).notifier("oncall", oncall));
    World::of(&scheduler, Arc::new(scheduler.clone()), all).await
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
async fn alerts_of_a_rule_are_told_in_the_order_in_which_they_were_raised() {
    let busy = Arc::new(Busy { refusals: AtomicU32::new(7), ..Busy::default() });
    let world = world(&busy).await;
    let key = key(&world).await;
    for id in ["1", "2", "3"] {
        world.platform.0.alerts.raise(&key, alert(&world, id)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(told(&busy), ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_somebody_else_who_does_not_answer() {
    let busy = Arc::<Busy>::default();
    let world = world_of(busy.clone(), |builder| builder.notifier("stuck", Arc::new(Stuck))).await;
    let key = key(&world).await;
    let mut others = key.clone();
    for number in 0..20 {
        others.rule = format!("other {number}");
        let mut alert = alert(&world, &format!("other {number}"));
        alert.notify = "stuck".into();
        world.platform.0.alerts.raise(&others, alert).await.unwrap();
    }
    for id in ["1", "2", "3"] {
        world.platform.0.alerts.raise(&key, alert(&world, id)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(told(&busy).last().map(String::as_str), Some(id));
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_to_be_left_alone_is() {
    let until = tokio::time::Instant::now() + Duration::from_secs(900);
    let tired = Arc::new(Tired { inner: MemoryNotifier::new(), until, calls: AtomicU32::new(0) });
    let world = world_of(tired.clone(), |builder| builder).await;
    let mut key = key(&world).await;
    for number in 0..30 {
        key.rule = format!("rule {number}");
        world.platform.0.alerts.raise(&key, alert(&world, &number.to_string())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep_until(until - Duration::from_millis(10)).await;
    assert_eq!(tired.calls.load(Ordering::SeqCst), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(tired.inner.told().len(), 30);
}

/// Whether something is stored of a rule.
async fn is_known(world: &World, key: &AlertKey) -> bool {
    world.platform.0.alerts.last(key).await.unwrap().is_some()
}

#[tokio::test(start_paused = true)]
async fn a_record_goes_when_the_longest_cool_down_is_over() {
    let busy = Arc::<Busy>::default();
    let world = world(&busy).await;
    let key = key(&world).await;
    let day = Duration::from_secs(24 * 60 * 60);
    let mut old = key.clone();
    old.rule = "old".into();
    world.platform.0.alerts.raise(&old, alert(&world, "1")).await.unwrap();
    tokio::time::sleep(day * 7).await;
    world.platform.0.alerts.raise(&key, alert(&world, "2")).await.unwrap();
    assert!(is_known(&world, &old).await);
    tokio::time::sleep(day + Duration::from_secs(2 * 60 * 60)).await;
    assert!(!is_known(&world, &old).await);
    assert!(is_known(&world, &key).await);
    assert_eq!(told(&busy), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_goes_with_its_app() {
    let busy = Arc::<Busy>::default();
    let world = world(&busy).await;
    let key = key(&world).await;
    let alerts = &world.platform.0.alerts;
    alerts.raise(&key, alert(&world, "1")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    world.shop().await.remove().await.unwrap().finished_within(LONG).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2 * 60 * 60)).await;
    assert!(!is_known(&world, &key).await);
    // What comes late is told to nobody, and leaves nothing.
    alerts.raise(&key, alert(&world, "2")).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!is_known(&world, &key).await);
    assert_eq!(told(&busy), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_written_again_meanwhile_stays() {
    let world = world(&Arc::default()).await;
    let key = key(&world).await;
    let alerts = &world.platform.0.alerts;
    let mut first = alert(&world, "1");
    first.at = Timestamp(0);
    alerts.raise(&key, first).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let seen = alerts.settled().await.unwrap().remove(0);
    alerts.raise(&key, alert(&world, "2")).await.unwrap();
    alerts.forget(&seen).await.unwrap();
    assert_eq!(alerts.last(&key).await.unwrap().unwrap().id, "2");
}

#[tokio::test(start_paused = true)]
async fn records_are_looked_through_piece_by_piece() {
    let world = world(&Arc::default()).await;
    let mut key = key(&world).await;
    let alerts = &world.platform.0.alerts;
    for number in 0..250 {
        key.rule = format!("rule {number}");
        alerts.raise(&key, alert(&world, &number.to_string())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.shop().await.remove().await.unwrap().finished_within(LONG).await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let first = alerts.sweep_some(None).await.unwrap();
    assert_eq!((alerts.settled().await.unwrap().len(), first.is_some()), (150, true));
    let second = alerts.sweep_some(first).await.unwrap();
    assert_eq!(alerts.sweep_some(second).await.unwrap(), None);
    assert!(alerts.settled().await.unwrap().is_empty());
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

#[tokio::test(start_paused = true)]
async fn an_app_that_sends_lines_to_a_place_unknown_is_refused() {
    let archive = LogSink::Store(Arc::new(MemoryLogStore::new()));
    let world = world_of(Arc::new(Busy::default()), |builder| builder.log_sink("archive", archive)).await;
    let mut app = one(&with("1", "\"rolling\""));
    app.logs = serde_json::from_str(r#"{"route":[{"match":"audit","to":"attic"}]}"#).unwrap();
    let text = world.platform.deploy(&world.user, &app).await.unwrap_err().to_string();
    assert!(text.contains("to: attic") && text.contains("known: archive"), "{text}");
    app.logs = serde_json::from_str(r#"{"route":[{"match":"audit","to":"archive"}]}"#).unwrap();
    world.deploy(&app).await.unwrap();
}
