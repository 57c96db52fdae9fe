//! `cargo bench -p paas-logs --bench store`: what the embedded store takes to keep lines, and to find them.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod corpus;
mod figure;

use std::path::Path;
use std::time::{Duration, Instant};

use paas_core::model::{LogFilter, LogQuery, Resource, Scope, Timestamp};
use paas_core::port::LogStore;
use paas_logs::{EmbeddedLogStore, LogStoreConfig};

use figure::{print, processor};

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let own = |entry: std::fs::DirEntry| {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() { size(&entry.path()) } else { meta.len() }
    };
    entries.map(own).sum()
}

/// The middle of some times, in milliseconds.
async fn middle(mut work: impl AsyncFnMut()) -> f64 {
    let mut times = Vec::new();
    for _ in 0..15 {
        let started = Instant::now();
        work().await;
        times.push(started.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[tokio::main]
async fn main() {
    let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(1_000_000);
    let folder = tempfile::tempdir_in(".").unwrap();
    let batches = corpus::batches(lines);
    let bytes: usize = batches.iter().map(|batch| batch.buffer.len()).sum();
    println!("{lines} lines, {} MB", bytes / 1_000_000);
    println!("{:<44} {:>9} {:<10} {:>9} {:>8}", "figure", "ours", "", "peer", "goal");
    let store = EmbeddedLogStore::open(LogStoreConfig::new(folder.path().join("logs"))).await.unwrap();
    let scope = Scope::testing(Resource::Platform);
    let (started, before) = (Instant::now(), processor());
    for batch in &batches {
        store.append(&scope, std::slice::from_ref(batch)).await.unwrap();
    }
    let (took, used) = (started.elapsed().as_secs_f64(), (processor() - before).as_secs_f64());
    print("store: ingest, a sync for each batch", bytes as f64 / 1e6 / used, "MB/CPU-s", 130.0, false);
    println!("  {:.1} s, {:.1} MB/s", took, bytes as f64 / 1e6 / took);
    drop(store);
    let started = Instant::now();
    let store = EmbeddedLogStore::open(LogStoreConfig::new(folder.path().join("logs"))).await.unwrap();
    println!("  opened in {:.1} ms", started.elapsed().as_secs_f64() * 1_000.0);
    // What opening leaves in memory is written then.
    tokio::time::sleep(Duration::from_secs(1)).await;
    queries(&store, &scope, &batches).await;
    // Nothing is that old, but all is brought to segments first.
    for tenant in (0..corpus::TENANTS).map(corpus::tenant) {
        store.purge(&scope, &tenant, Some(Timestamp(0))).await.unwrap();
    }
    let tenants = folder.path().join("logs/tenants");
    print("store: disk for each byte", size(&tenants) as f64 / bytes as f64, "", 0.25, true);
    println!("  {:.1} MB of journal beside it", (size(folder.path()) - size(&tenants)) as f64 / 1e6);
}

async fn queries(store: &EmbeddedLogStore, scope: &Scope, batches: &[paas_core::model::LogBatch]) {
    let all = LogQuery::of(Resource::Tenant(corpus::tenant(0)));
    let own = batches.iter().filter(|batch| batch.origin.tenant == corpus::tenant(0));
    let count: usize = own.clone().map(|batch| batch.starts.len()).sum();
    let newest = middle(async || {
        assert_eq!(store.search(scope, &all).await.unwrap().entries.len(), 100);
    })
    .await;
    print("store: newest 100 of the largest tenant", newest, "ms", 0.2, true);
    let some = own.clone().nth(own.count() / 3).unwrap();
    let line = String::from_utf8_lossy(&some.buffer[..some.starts[1] as usize]).into_owned();
    let rare = line.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() >= 16).unwrap();
    let rare = all.clone().matching(rare.parse::<LogFilter>().unwrap());
    let found = middle(async || {
        assert_eq!(store.search(scope, &rare).await.unwrap().entries.len(), 1);
    })
    .await;
    print("store: a rare word", found, "ms", 0.3, true);
    let frequent = all.clone().matching(corpus::FREQUENT.parse::<LogFilter>().unwrap());
    let counted = middle(async || {
        let buckets = store.histogram(scope, &frequent, Duration::from_secs(60)).await.unwrap();
        let hits: u64 = buckets.iter().map(|bucket| bucket.count).sum();
        assert!(hits as usize > count / 150 && (hits as usize) < count / 60, "{hits} of {count}");
    })
    .await;
    print(&format!("store: count of a 1 % word in {count} lines"), counted, "ms", 25.0, true);
}
