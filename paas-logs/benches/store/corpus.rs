//! Lines as services write them: six shapes, random ids, twenty tenants of which the first has a fifth of all.

use std::fmt::Write;

use bytes::Bytes;
use paas_core::model::{
    InstanceId, LogBatch, LogOrigin, LogPosition, LogStream, Resource, RevisionNumber, TenantId, Timestamp,
};

/// How many tenants there are.
pub(crate) const TENANTS: usize = 20;
/// When the first line was written.
pub(crate) const START: u64 = 1_800_000_000_000;
/// So many lines are in a batch, or fewer.
const BATCH: usize = 1_000;
/// A word that one line of a hundred has.
pub(crate) const FREQUENT: &str = "timeout";

/// Numbers that are the same each time: SplitMix64.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }
}

pub(crate) fn tenant(number: usize) -> TenantId {
    TenantId::new(format!("t-{number}")).unwrap()
}

fn origin(number: usize) -> LogOrigin {
    let [environment, app, service] = ["e-1", "a-1", "s-1"];
    let service = Resource::Service(
        tenant(number),
        environment.parse().unwrap(),
        app.parse().unwrap(),
        service.parse().unwrap(),
    );
    let instance = InstanceId::new(format!("i-{number}")).unwrap();
    LogOrigin::new(&service, RevisionNumber(1), instance, LogStream::Stdout).unwrap()
}

/// So many lines in batches, in the order of time: a hundred lines each tenth of a second.
pub(crate) fn batches(lines: usize) -> Vec<LogBatch> {
    let mut dice = Dice(1);
    let mut texts: [(String, Vec<u32>, Vec<Timestamp>); TENANTS] = Default::default();
    let mut positions = [0_u64; TENANTS];
    let mut batches = Vec::new();
    let mut flush = |tenant: usize, text: &mut (String, Vec<u32>, Vec<Timestamp>)| {
        let (text, starts, times) = std::mem::take(text);
        let position = LogPosition::offset(0, positions[tenant]);
        positions[tenant] += text.len() as u64;
        let mut batch = LogBatch::new(origin(tenant), Bytes::from(text), Timestamp(0), position);
        assert_eq!(batch.starts, starts);
        batch.times = times;
        batches.push(batch);
    };
    for number in 0..lines {
        let tenant = if dice.below(5) == 0 { 0 } else { 1 + dice.below(TENANTS as u64 - 1) as usize };
        let time = Timestamp(START + number as u64);
        let (text, starts, times) = &mut texts[tenant];
        starts.push(text.len() as u32);
        times.push(time);
        line(text, time, &mut dice);
        text.push('\n');
        if starts.len() == BATCH {
            flush(tenant, &mut texts[tenant]);
        }
    }
    for (tenant, text) in texts.iter_mut().enumerate().filter(|(_, text)| !text.1.is_empty()) {
        flush(tenant, text);
    }
    batches
}

/// Adds a line.
fn line(text: &mut String, time: Timestamp, dice: &mut Dice) {
    let (trace, user, ms) = (dice.next(), dice.below(100_000), dice.below(200_000));
    let status = [200, 200, 200, 200, 200, 201, 204, 304, 404, 500][dice.below(10) as usize];
    let path = dice.of(&[
        "/api/orders",
        "/api/cart/items",
        "/api/users",
        "/health",
        "/api/search",
        "/static/app.js",
    ]);
    let outcome = if dice.below(100) == 0 { FREQUENT } else { "done" };
    let whole = ms / 1_000;
    let written = match dice.below(6) {
        0 => write!(
            text,
            r#"{{"time":"{time}","level":"info","logger":"http.server","msg":"request {outcome}","method":"GET","path":"{path}/{user}","status":{status},"ms":{whole}.{:03},"trace":"{trace:016x}{:016x}","user":"u-{user}"}}"#,
            ms % 1_000,
            dice.next()
        ),
        1 => write!(
            text,
            "time={time} level=info msg=\"payment {outcome}\" order=o-{user} amount={ms} currency=EUR trace={trace:016x} provider=acquirer-{} attempt=1 region=eu-central-1",
            trace % 7
        ),
        2 => write!(
            text,
            r#"10.{}.{}.{} - u-{user} [{time}] "GET {path}/{user}?page={}&trace={trace:016x} HTTP/1.1" {status} {ms} "https://shop.example.com{path}" "Mozilla/5.0 (X11; Linux x86_64) {outcome}""#,
            trace % 256,
            trace % 253,
            trace % 251,
            trace % 40
        ),
        3 => write!(
            text,
            "{time}  INFO 1 --- [nio-8080-exec-{}] c.example.shop.order.OrderController     : order {user} {outcome} in {whole} ms, correlation id {trace:016x}, warehouse {} answered with status {status}",
            trace % 10,
            trace % 5
        ),
        4 => write!(
            text,
            "{time} INFO shop::inventory: reservation {outcome} sku=SKU-{user} quantity={} request.id={trace:016x} elapsed_us={ms} cache.hit={} shard={}",
            trace % 9,
            trace % 2 == 0,
            trace % 16
        ),
        _ => write!(
            text,
            "{time},{:03} DEBUG [worker-{}] shop.tasks.mail: task {trace:016x} {outcome} for customer {user}: template=order_confirmation retries={} queue=mail runtime={whole}.{:03}s",
            ms % 1_000,
            trace % 4,
            trace % 3,
            ms % 1_000
        ),
    };
    written.unwrap();
}
