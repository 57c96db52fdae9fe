//! Every query finds what the memory backend finds, which looks at every line.

use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use paas_core::memory::MemoryLogStore;
use paas_core::model::{
    FieldName, Level, LogBatch, LogOrder, LogPosition, LogQuery, Resource, Scope, Timestamp,
};
use paas_core::port::LogStore;

use super::super::ask::Ask;
use super::super::inner::Inner;
use super::{new_disk, open, origin, tenant};
use crate::disk::forgetful::Dice;

const TENANTS: u64 = 50;

fn one<'a>(dice: &mut Dice, all: &[&'a str]) -> &'a str {
    all[dice.roll(all.len() as u64) as usize]
}

const WORDS: &[&str] =
    &["error", "Timeout", "refused", "connection", "healthy", "caf\u{e9}", "x_1", "UP", "down", "42"];

fn line(dice: &mut Dice) -> String {
    let (a, b, c) = (one(dice, WORDS), one(dice, WORDS), one(dice, WORDS));
    let number = dice.roll(600);
    match dice.roll(6) {
        0 => format!(r#"{{"msg":"{a} {b}","status":{number},"user":{{"name":"{c}"}}}}"#),
        1 => format!(r#"{{"msg":"{a}\n{b}\t\u0041{c}","status":"{number}"}}"#),
        2 => format!("msg=\"{a} \\\"{b}\\\"\" status={number} {c}"),
        3 => format!("{a}.{b}-{c} took {number}ms"),
        4 => format!("C:\\{a}\\new {b}"),
        _ => format!("{a} {b} {c} {number}"),
    }
}

fn query(dice: &mut Dice) -> String {
    let (a, b) = (one(dice, WORDS), one(dice, WORDS));
    let number = dice.roll(600);
    let part = |dice: &mut Dice| match dice.roll(15) {
        0 => a.to_owned(),
        1 => format!("-{a}"),
        2 => format!("\"{a} {b}\""),
        3 => format!("{}*", &a[..2]),
        4 => format!("*{}", &a[1..]),
        5 => format!("/{b}.*{number}/i"),
        6 => format!("status:>={number}"),
        7 => format!("msg:{a}"),
        8 => format!("user.name:={b}"),
        9 => "msg:*".to_owned(),
        10 => format!("level:>={}", one(dice, &["debug", "warn", "error"])),
        11 => format!("instance:i-{}", dice.roll(3)),
        12 => format!("({a} OR {b})"),
        13 => format!("-({a} {b})"),
        _ => "new".to_owned(),
    };
    (0..=dice.roll(2)).map(|_| part(dice)).collect::<Vec<_>>().join(if dice.roll(3) == 0 {
        " OR "
    } else {
        " "
    })
}

fn batches(dice: &mut Dice) -> Vec<LogBatch> {
    let mut ends = std::collections::BTreeMap::new();
    let mut batches = Vec::new();
    for number in 0..600 {
        // The first tenants have most of it.
        let of = dice.roll(TENANTS).min(dice.roll(TENANTS));
        let from = dice.roll(3);
        let text: String = (0..=dice.roll(5)).map(|_| line(dice) + "\n").collect();
        let at: &mut u64 = ends.entry((of, from)).or_default();
        let position = LogPosition::offset(0, *at);
        *at += text.len() as u64;
        let time = Timestamp(1_000 + number * 10 + dice.roll(50));
        let mut batch = LogBatch::new(origin(of, from), Bytes::from(text), time, position);
        if dice.roll(2) == 0 {
            let level = |_| [None, Some(Level::Info), Some(Level::Error)][dice.roll(3) as usize];
            batch.levels = (0..batch.starts.len()).map(level).collect();
        }
        if dice.roll(4) == 0 {
            let pairs = |_| ["", "status=501", "path=\"a b\" word=err"][dice.roll(3) as usize];
            (0..batch.starts.len()).map(pairs).for_each(|pairs| batch.fields.push(pairs.as_bytes()));
        }
        batches.push(batch);
    }
    batches
}

fn ask(dice: &mut Dice) -> LogQuery {
    let text = query(dice);
    let filter = text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"));
    let of = dice.roll(TENANTS).min(dice.roll(TENANTS));
    let mut query = LogQuery::of(Resource::Tenant(tenant(of))).matching(filter);
    query.order = if dice.roll(2) == 0 { LogOrder::Newest } else { LogOrder::Oldest };
    query.limit = 1 + dice.roll(8) as usize;
    if dice.roll(3) == 0 {
        query.from = Timestamp(1_000 + dice.roll(3_000));
        query.to = query.from + Duration::from_millis(dice.roll(4_000));
    }
    query
}

async fn compare(store: &Inner, memory: &MemoryLogStore, mut query: LogQuery) {
    let (scope, go_on) = (Scope::testing(Resource::Platform), AtomicBool::new(false));
    let what = format!("{} of {:?}", query.filter, query.resource);
    let step = Duration::from_millis(700);
    let spans = memory.histogram(&scope, &query, step).await.unwrap();
    assert_eq!(store.histogram(&query, step, &go_on).unwrap(), spans, "{what}");
    let field = FieldName::new("status").unwrap();
    let values = memory.top(&scope, &query, &field, 5).await.unwrap();
    assert_eq!(store.top(&query, &field, 5, &go_on).unwrap(), values, "{what}");
    for _ in 0..5 {
        let page = memory.search(&scope, &query).await.unwrap();
        assert_eq!(store.search(&query, &go_on).unwrap(), page, "{what}");
        assert!(page.entries.iter().all(|entry| query.covers(&entry.origin)));
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
}

#[tokio::test]
async fn every_query_finds_what_looking_at_every_line_finds() {
    for seed in 0..5 {
        let mut dice = Dice(seed);
        let (disk, memory) = (new_disk(), MemoryLogStore::new());
        let (mut store, scope) = (open(&disk).unwrap(), Scope::testing(Resource::Platform));
        for (number, batch) in batches(&mut dice).iter().enumerate() {
            store.append(std::slice::from_ref(batch)).unwrap();
            memory.append(&scope, std::slice::from_ref(batch)).await.unwrap();
            if number % 100 == 99 {
                for _ in 0..150 {
                    compare(&store, &memory, ask(&mut dice)).await;
                }
                drop(store);
                store = open(&disk).unwrap();
            }
        }
    }
}
