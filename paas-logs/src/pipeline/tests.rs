use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use futures_util::StreamExt;
use paas_core::memory::{MemoryLogSource, MemoryLogStore};
use paas_core::model::{
    Alert, AlertKey, AppId, Clock, FieldName, LogBatch, LogBucket, LogCount, LogCredential, LogItem,
    LogOrder, LogOrigin, LogPage, LogPosition, LogQuery, LogRules, LogSelector, Resource, Secret, TenantId,
    Timestamp,
};
use paas_core::port::{LogDirectory, LogService, LogSource, LogStore};
use paas_core::{Error, ErrorKind};
use tokio::sync::broadcast;
use tokio::time::timeout;

use super::*;
use crate::testing::{origin, origin_of, rules};

mod isolation;
mod queue;
mod route;

/// Services that a test describes.
#[derive(Debug)]
struct Services {
    rules: Mutex<LogRules>,
    secrets: Mutex<Vec<&'static str>>,
    changes: broadcast::Sender<AppId>,
    failures: AtomicU32,
    unreadable: Mutex<HashSet<AppId>>,
    asked: AtomicU32,
    is_gone: AtomicBool,
    raised: Mutex<Vec<(AlertKey, Alert)>>,
}

#[async_trait]
impl LogDirectory for Services {
    async fn last_alert(&self, key: &AlertKey) -> Result<Option<Alert>> {
        let raised = self.raised.lock().unwrap();
        Ok(raised.iter().rev().find(|(own, _)| own == key).map(|(_, alert)| alert.clone()))
    }

    async fn raise(&self, key: &AlertKey, alert: Alert) -> Result<()> {
        let mut raised = self.raised.lock().unwrap();
        if raised.iter().all(|(_, known)| known.id != alert.id) {
            raised.push((key.clone(), alert));
        }
        Ok(())
    }

    async fn service(&self, origin: &LogOrigin) -> Result<Option<LogService>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.unreadable.lock().unwrap().contains(&origin.app) {
            return Err(Error::unavailable("no records of this app now"));
        }
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::unavailable("no records now"));
        }
        if self.is_gone.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let mut service = LogService::new("shop".parse()?, "web".parse()?);
        service.rules = vec![self.rules.lock().unwrap().clone()];
        let secrets = self.secrets.lock().unwrap();
        service.secrets = secrets.iter().map(|value| Secret::new(*value)).collect::<Result<_>>()?;
        Ok(Some(service))
    }

    async fn sender(&self, _: &Secret) -> Result<Option<LogCredential>> {
        Ok(None)
    }

    async fn instance(&self, _: &str) -> Result<Option<LogOrigin>> {
        Ok(None)
    }

    async fn changes(&self) -> Result<BoxStream<'static, AppId>> {
        let heard = self.changes.subscribe();
        Ok(futures_util::stream::unfold(heard, async |mut heard| Some((heard.recv().await.ok()?, heard)))
            .boxed())
    }
}

/// A store that fails so many times before it works.
#[derive(Debug)]
struct Failing {
    inner: MemoryLogStore,
    failures: AtomicU32,
    kind: ErrorKind,
    refuses: Mutex<HashSet<TenantId>>,
}

#[async_trait]
impl Backend for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl LogStore for Failing {
    async fn append(&self, scope: &Scope, batches: &[LogBatch]) -> Result<()> {
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(self.kind, "no room now"));
        }
        let is_refused = |batch: &LogBatch| self.refuses.lock().unwrap().contains(&batch.origin.tenant);
        if batches.iter().any(is_refused) {
            return Err(Error::unavailable("no room for this tenant"));
        }
        self.inner.append(scope, batches).await
    }
    async fn ends(&self, scope: &Scope, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        self.inner.ends(scope, resource).await
    }
    async fn search(&self, scope: &Scope, query: &LogQuery) -> Result<LogPage> {
        self.inner.search(scope, query).await
    }
    async fn histogram(&self, _: &Scope, _: &LogQuery, _: Duration) -> Result<Vec<LogBucket>> {
        Err(Error::unsupported("histogram"))
    }
    async fn top(&self, _: &Scope, _: &LogQuery, _: &FieldName, _: usize) -> Result<Vec<LogCount>> {
        Err(Error::unsupported("top"))
    }
    async fn purge(&self, _: &Scope, _: &TenantId, _: Option<Timestamp>) -> Result<()> {
        Err(Error::unsupported("purge"))
    }
}

/// A source that counts who follows it.
#[derive(Debug)]
struct Reading {
    inner: MemoryLogSource,
    following: AtomicU32,
}

#[async_trait]
impl Backend for Reading {
    fn name(&self) -> &'static str {
        "reading"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl LogSource for Reading {
    async fn lines(
        &self,
        scope: &Scope,
        selector: LogSelector,
    ) -> Result<BoxStream<'static, Result<LogItem>>> {
        self.following.fetch_add(u32::from(selector.follow), Ordering::Relaxed);
        self.inner.lines(scope, selector).await
    }
}

/// A pipeline with all that it works with.
struct Bed {
    pipeline: Arc<Pipeline>,
    source: MemoryLogSource,
    reading: Arc<Reading>,
    store: Arc<Failing>,
    services: Arc<Services>,
    ports: LogPorts,
}

fn bed(json: &str) -> Bed {
    let clock = Clock::runtime(Timestamp(1_800_000_000_000));
    let source = MemoryLogSource::with_capacity(clock.clone(), 64 * 1024 * 1024);
    let store = Arc::new(Failing {
        inner: MemoryLogStore::new(),
        failures: AtomicU32::new(0),
        kind: ErrorKind::Unavailable,
        refuses: Mutex::default(),
    });
    let reading = Arc::new(Reading { inner: source.clone(), following: AtomicU32::new(0) });
    let services = Arc::new(Services {
        rules: Mutex::new(rules(json)),
        secrets: Mutex::new(vec!["hunter2!"]),
        changes: broadcast::channel(16).0,
        failures: AtomicU32::new(0),
        unreadable: Mutex::default(),
        asked: AtomicU32::new(0),
        is_gone: AtomicBool::new(false),
        raised: Mutex::default(),
    });
    let scope = Scope::testing(Resource::Platform);
    let ports = LogPorts::new(reading.clone(), Some(store.clone()), services.clone(), scope, clock);
    Bed { pipeline: Arc::new(Pipeline::default()), source, reading, store, services, ports }
}

impl Bed {
    /// Collects until this is dropped.
    fn collect(&self) -> Collecting {
        let (pipeline, ports) = (Arc::clone(&self.pipeline), self.ports.clone());
        Collecting(tokio::spawn(async move { pipeline.run(ports).await }))
    }

    fn push(&self, lines: std::ops::Range<u32>) {
        lines.for_each(|number| self.source.push(&origin(), format!("line {number}")));
    }

    async fn stored(&self) -> Vec<String> {
        let mut query = LogQuery::of(Resource::Tenant(origin().tenant));
        (query.order, query.limit) = (LogOrder::Oldest, 5_000);
        let page = self.store.inner.search(&self.ports.scope, &query).await.unwrap();
        page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect()
    }

    /// Waits until so many lines are stored, and gives them.
    async fn wait_for(&self, count: usize) -> Vec<String> {
        let stored = async {
            loop {
                let stored = self.stored().await;
                if stored.len() >= count {
                    return stored;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(300), stored).await.expect("the lines are stored in time")
    }

    async fn tail(&self, tail: LogTail) -> BoxStream<'static, Result<TailItem>> {
        self.pipeline.tail(&self.ports.scope, self.ports.clone(), tail).await.unwrap()
    }
}

/// Ends with the test, as after a crash.
struct Collecting(tokio::task::JoinHandle<()>);

impl Drop for Collecting {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn service() -> Resource {
    origin().resource()
}

/// The next lines of a tail, so many or more.
async fn lines(tail: &mut BoxStream<'static, Result<TailItem>>, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let item = timeout(Duration::from_secs(300), tail.next()).await.expect("a line comes in time");
        let Some(item) = item else { break };
        if let TailItem::Lines(more) = item.unwrap() {
            lines.extend(more.entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()));
        }
    }
    lines
}

fn numbered(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| format!("line {number}")).collect()
}

#[tokio::test(start_paused = true)]
async fn lines_are_stored_as_the_rules_leave_them() {
    let bed = bed(r#"{"drop":["health"],"join":"stack-traces","redact":["email"]}"#);
    let _collecting = bed.collect();
    for line in ["health", "ERROR of a@b.io", "  at x", "key hunter2! used", "end"] {
        bed.source.push(&origin(), line);
    }
    let expected = ["ERROR of [redacted:email]\n  at x", "key [redacted:secret] used", "end"];
    assert_eq!(bed.wait_for(3).await, expected);
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_collecting_goes_on_without_loss_or_doubling() {
    let bed = bed(r#"{"drop":["dropped"]}"#);
    for round in 0..20 {
        let collecting = bed.collect();
        bed.push(round * 10..round * 10 + 10);
        bed.source.push(&origin(), "dropped");
        for _ in 0..round {
            tokio::task::yield_now().await;
        }
        drop(collecting);
    }
    let _collecting = bed.collect();
    assert_eq!(bed.wait_for(200).await, numbered(0..200));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_takes_nothing_for_a_while_loses_nothing() {
    let bed = bed("{}");
    bed.store.failures.store(6, Ordering::Relaxed);
    let _collecting = bed.collect();
    bed.push(0..100);
    assert_eq!(bed.wait_for(100).await, numbered(0..100));
}

#[tokio::test(start_paused = true)]
async fn lines_wait_until_their_rules_are_known() {
    let bed = bed("{}");
    bed.services.failures.store(3, Ordering::Relaxed);
    let _collecting = bed.collect();
    bed.source.push(&origin(), "key hunter2!");
    assert_eq!(bed.wait_for(1).await, ["key [redacted:secret]"]);
}

#[tokio::test(start_paused = true)]
async fn a_changed_rule_counts_at_once_and_nothing_else_is_asked_twice() {
    let bed = bed("{}");
    let _collecting = bed.collect();
    bed.push(0..2);
    bed.wait_for(2).await;
    bed.push(2..4);
    bed.wait_for(4).await;
    assert_eq!(bed.services.asked.load(Ordering::Relaxed), 1);
    *bed.services.rules.lock().unwrap() = rules(r#"{"drop":["line"]}"#);
    bed.services.changes.send(origin().app).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    bed.push(4..6);
    bed.source.push(&origin(), "other");
    assert_eq!(bed.wait_for(5).await[4..], ["other"]);
}

#[tokio::test(start_paused = true)]
async fn a_tail_shows_what_comes_whatever_the_store_does() {
    let bed = bed("{}");
    bed.push(0..10);
    bed.store.failures.store(u32::MAX, Ordering::Relaxed);
    let _collecting = bed.collect();
    tokio::time::sleep(Duration::from_millis(10)).await;
    let mut tail = bed.tail(LogTail::follow(service()).matching("line -13".parse().unwrap())).await;
    bed.push(10..15);
    bed.source.push(&origin(), "key hunter2!");
    assert_eq!(lines(&mut tail, 4).await, ["line 10", "line 11", "line 12", "line 14"]);
    assert!(bed.stored().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn history_and_what_comes_join_without_a_lost_or_doubled_line() {
    for stored in 0..20 {
        let bed = bed("{}");
        let collecting = bed.collect();
        bed.push(0..50);
        bed.wait_for(50).await;
        bed.push(50..100);
        for _ in 0..stored {
            tokio::task::yield_now().await;
        }
        let mut tail = LogTail::since(service(), Timestamp(0));
        tail.follow = true;
        let mut tail = bed.tail(tail).await;
        bed.push(100..150);
        assert_eq!(lines(&mut tail, 150).await, numbered(0..150));
        drop(collecting);
    }
}

#[tokio::test(start_paused = true)]
async fn a_tail_goes_on_where_another_ended() {
    let bed = bed("{}");
    let _collecting = bed.collect();
    bed.push(0..40);
    bed.wait_for(40).await;
    let mut seen = Vec::new();
    let (mut since, mut after) = (Timestamp(0), BTreeMap::new());
    while seen.len() < 90 {
        let mut tail = LogTail::since(service(), since);
        tail.follow = true;
        tail.after = after
            .iter()
            .map(|((instance, stream), at): (&(_, _), &_)| (Clone::clone(instance), *stream, *at))
            .collect();
        let mut items = bed.tail(tail).await;
        let TailItem::Lines(lines) = items.next().await.unwrap().unwrap() else { continue };
        for (origin, end) in &lines.ends {
            after.insert((origin.instance.clone(), origin.stream), *end);
        }
        for entry in &lines.entries {
            since = entry.time;
            seen.push(String::from_utf8_lossy(&entry.line).into_owned());
        }
        if seen.len() == 40 {
            bed.push(40..90);
        }
    }
    assert_eq!(seen, numbered(0..90));
}

#[tokio::test(start_paused = true)]
async fn a_tail_that_does_not_follow_ends() {
    let bed = bed(r#"{"join":"stack-traces"}"#);
    bed.push(0..3);
    let mut tail = bed.tail(LogTail::since(service(), Timestamp(0))).await;
    assert_eq!(lines(&mut tail, 10).await, numbered(0..3));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_keeps_nobody_waiting() {
    let bed = bed("{}");
    let _collecting = bed.collect();
    let _stalled = bed.tail(LogTail::follow(service())).await;
    for round in 0..100 {
        bed.push(round * 10..round * 10 + 10);
        bed.wait_for((round as usize + 1) * 10).await;
    }
}

#[tokio::test(start_paused = true)]
async fn lines_that_come_together_are_shown_in_the_order_of_time() {
    let bed = bed("{}");
    let others = [origin_of("i-1"), origin_of("i-2"), origin_of("i-3")];
    let mut tail = bed.tail(LogTail::follow(service())).await;
    for number in 0..30 {
        bed.source.push(&others[number % 3], format!("line {number}"));
        // The clock goes on, and the tail is not asked.
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    let given = lines(&mut tail, 30).await;
    assert_eq!(given, numbered(0..30));
}

#[tokio::test(start_paused = true)]
async fn lines_that_the_store_refuses_for_good_hold_up_no_others() {
    let mut bed = bed("{}");
    bed.store = Arc::new(Failing {
        inner: MemoryLogStore::new(),
        failures: AtomicU32::new(2),
        kind: ErrorKind::Invalid,
        refuses: Mutex::default(),
    });
    bed.ports.store = Some(bed.store.clone());
    let _collecting = bed.collect();
    bed.push(0..1);
    tokio::time::sleep(Duration::from_secs(1)).await;
    bed.push(1..3);
    assert_eq!(bed.wait_for(2).await, numbered(1..3));
}

const ALERT: &str =
    r#"{"alerts":[{"match":"ERROR","count":3,"within":"1m","cool_down":"10m","notify":"oncall"}]}"#;

#[tokio::test(start_paused = true)]
async fn enough_lines_raise_an_alert_that_shows_them_as_the_rules_leave_them() {
    let bed = bed(ALERT);
    let _collecting = bed.collect();
    for line in
        ["start", "ERROR 1", "ERROR 2", "key hunter2!", "ERROR 3 hunter2!", "ERROR 4", "ERROR 5", "ERROR 6"]
    {
        bed.source.push(&origin(), line);
    }
    bed.wait_for(8).await;
    let raised = bed.services.raised.lock().unwrap().clone();
    let [(key, alert)] = raised.as_slice() else { panic!("{raised:?}") };
    assert_eq!((key.resource(), &alert.notify[..], alert.count), (service(), "oncall", 3));
    let lines: Vec<&str> = alert.lines.iter().map(|line| line.line.as_str()).collect();
    assert_eq!(lines, ["ERROR 1", "ERROR 2", "ERROR 3 [redacted:secret]"]);
    assert_eq!(alert.lines[2].before, ["ERROR 1", "ERROR 2", "key [redacted:secret]"]);
    // Again once the time is over; what came meanwhile is told.
    tokio::time::sleep(Duration::from_secs(601)).await;
    (0..3).for_each(|number| bed.source.push(&origin(), format!("ERROR late {number}")));
    bed.wait_for(11).await;
    assert_eq!(bed.services.raised.lock().unwrap()[1].1.held_back, 3);
}

#[tokio::test(start_paused = true)]
async fn counting_is_exact_over_crashes() {
    // Wherever a crash falls among the lines, the third one raises the alert, and raises it once.
    for crashes in 0..60 {
        let bed = bed(ALERT);
        for line in ["a", "ERROR 1", "b", "ERROR 2", "c", "ERROR 3", "d", "ERROR 4"] {
            let collecting = bed.collect();
            bed.source.push(&origin(), line);
            for _ in 0..crashes {
                tokio::task::yield_now().await;
            }
            drop(collecting);
        }
        let _collecting = bed.collect();
        bed.wait_for(8).await;
        let raised = bed.services.raised.lock().unwrap().clone();
        let lines: Vec<_> =
            raised.iter().map(|(_, alert)| alert.lines.last().unwrap().line.clone()).collect();
        assert_eq!(lines, ["ERROR 3"], "{crashes}");
    }
}

#[tokio::test(start_paused = true)]
async fn lines_of_each_instance_may_be_counted_for_themselves() {
    let bed = bed(r#"{"alerts":[{"match":"ERROR","count":2,"per":"instance","notify":"oncall"}]}"#);
    let _collecting = bed.collect();
    for instance in ["i-1", "i-2", "i-3", "i-2"] {
        bed.source.push(&origin_of(instance), "ERROR");
    }
    bed.wait_for(4).await;
    let raised = bed.services.raised.lock().unwrap().clone();
    let instances: Vec<_> = raised.iter().map(|(key, _)| key.instance.as_ref().unwrap().as_str()).collect();
    assert_eq!(instances, ["i-2"]);
}

#[tokio::test(start_paused = true)]
async fn the_last_lines_of_a_service_that_is_gone_are_treated_as_those_before() {
    let bed = bed("{}");
    let _collecting = bed.collect();
    bed.push(0..1);
    bed.wait_for(1).await;
    bed.services.is_gone.store(true, Ordering::Relaxed);
    bed.services.changes.send(origin().app).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    bed.source.push(&origin(), "key hunter2!");
    assert_eq!(bed.wait_for(2).await[1..], ["key [redacted:secret]"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_was_replaced_is_known_for_lines_that_come_late() {
    let bed = bed("{}");
    let _collecting = bed.collect();
    for (number, secret) in ["swordfish", "open sesame", "hunter2!"].into_iter().enumerate() {
        *bed.services.secrets.lock().unwrap() = vec![secret];
        if number > 0 {
            bed.services.changes.send(origin().app).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        bed.source.push(&origin(), "line");
        bed.wait_for(number + 1).await;
    }
    bed.source.push(&origin(), "keys hunter2! swordfish");
    assert_eq!(bed.wait_for(4).await[3..], ["keys [redacted:secret] [redacted:secret]"]);
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_private_key_is_taken_out_however_late_it_comes() {
    let bed = bed("{}");
    let _collecting = bed.collect();
    for line in ["-----BEGIN PRIVATE KEY-----", "MIIabc", "MIIdef", "-----END PRIVATE KEY-----"] {
        bed.source.push(&origin(), line);
        tokio::time::sleep(Duration::from_secs(40)).await;
    }
    bed.source.push(&origin(), "after");
    let stored = bed.wait_for(5).await;
    assert!(stored[..4].iter().all(|line| line == "[redacted:private-key]"), "{stored:?}");
    assert_eq!(stored[4], "after");
}

#[tokio::test(start_paused = true)]
async fn of_a_service_that_nobody_knows_nothing_goes_on() {
    let bed = bed("{}");
    bed.services.is_gone.store(true, Ordering::Relaxed);
    let _collecting = bed.collect();
    bed.source.push(&origin(), "key hunter2!");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(bed.stored().await.is_empty());
    let ends = bed.store.inner.ends(&bed.ports.scope, &service()).await.unwrap();
    assert_eq!(ends[0].1.sequence, 13);
}
