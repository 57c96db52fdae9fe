//! `cargo bench -p paas-local --bench state`: what a durable write and a list cost.
//!
//! The peer of a write appends the same bytes to a plain file and syncs it, one sync each, in the same run on the same
//! disk; with 64 writers they share that file behind a lock. The peer of a list reads one file per record. The two take
//! turns, and the middle of seven rounds counts.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use paas_core::model::{Key, RecordKind, Resource, Scope, TenantId};
use paas_core::port::{Expected, StateStore};
use paas_local::{DataDir, RedbStateStore};

const KIND: RecordKind = RecordKind::new("bench");
const ROUNDS: usize = 7;
const VALUE: usize = 1_024;
const LISTED: usize = 1_000;

fn key(id: &str) -> Key {
    Key::new(KIND, Some(TenantId::new("a").unwrap()), id).unwrap()
}

/// Writes a second: each writer swaps a record of its own, over and over.
async fn puts(store: &Arc<RedbStateStore>, round: usize, writers: usize, each: usize) -> f64 {
    let started = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                let (scope, key) =
                    (Scope::testing(Resource::Platform), key(&format!("{round}-{writers}-{writer}")));
                let value = Bytes::from(vec![b'v'; VALUE]);
                let mut expected = Expected::Absent;
                for _ in 0..each {
                    let version = store.put(&scope, &key, value.clone(), expected).await.unwrap();
                    expected = Expected::Version(version);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (writers * each) as f64 / started.elapsed().as_secs_f64()
}

/// Appends a second, one sync each.
fn appends(path: &Path, writers: usize, each: usize) -> f64 {
    let file = Mutex::new(OpenOptions::new().create(true).append(true).open(path).unwrap());
    let value = vec![b'v'; VALUE];
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..writers {
            scope.spawn(|| {
                for _ in 0..each {
                    let mut file = file.lock().unwrap();
                    file.write_all(&value).unwrap();
                    file.sync_data().unwrap();
                }
            });
        }
    });
    (writers * each) as f64 / started.elapsed().as_secs_f64()
}

async fn list(store: &RedbStateStore) -> f64 {
    let scope = Scope::testing(Resource::Platform);
    let started = Instant::now();
    let found = store.list(&scope, RecordKind::new("listed"), None).await.unwrap();
    assert_eq!(found.len(), LISTED);
    started.elapsed().as_secs_f64()
}

fn read_files(path: &Path) -> f64 {
    let started = Instant::now();
    let mut found: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let values: Vec<_> = found.iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(values.len(), LISTED);
    started.elapsed().as_secs_f64()
}

fn middle(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn line(name: &str, ours: &str, peer: &str, ratio: f64, goal: f64) {
    let met = if ratio >= goal { "met" } else { "short" };
    println!("{name:<34} {ours:>12} {peer:>12} {ratio:>7.2}x {:>8} {met}", format!(">={goal}x"));
}

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    kilobytes.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

fn main() {
    let root = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    println!("{:<34} {:>12} {:>12} {:>8} {:>8}", "name", "ours", "peer", "ratio", "goal");
    runtime.block_on(async {
        let data = DataDir::open(root.path().join("data")).await.unwrap();
        let store = Arc::new(RedbStateStore::open(&data).await.unwrap());
        for (name, writers, each, goal) in [("1 writer", 1, 300, 0.5), ("64 writers", 64, 30, 8.0)] {
            let (mut ours, mut peer) = (Vec::new(), Vec::new());
            for round in 0..ROUNDS {
                ours.push(puts(&store, round, writers, each).await);
                peer.push(appends(&root.path().join("peer"), writers, each));
            }
            let (ours, peer) = (middle(ours), middle(peer));
            let name = format!("durable puts of 1 KiB, {name}");
            line(&name, &format!("{ours:.0}/s"), &format!("{peer:.0}/s"), ours / peer, goal);
        }
        let files = root.path().join("files");
        fs::create_dir(&files).unwrap();
        for n in 0..LISTED {
            let key = Key::new(RecordKind::new("listed"), None, n.to_string()).unwrap();
            let scope = Scope::testing(Resource::Platform);
            let value = Bytes::from(vec![b'v'; VALUE]);
            store.put(&scope, &key, value.clone(), Expected::Absent).await.unwrap();
            fs::write(files.join(n.to_string()), value).unwrap();
        }
        let (mut ours, mut peer) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(list(&store).await);
            peer.push(read_files(&files));
        }
        let (ours, peer) = (middle(ours), middle(peer));
        let milliseconds = |seconds: f64| format!("{:.2} ms", seconds * 1e3);
        line("list of 1,000 records of 1 KiB", &milliseconds(ours), &milliseconds(peer), peer / ours, 2.0);
        println!("resident at the end: {} MiB", resident());
    });
}
