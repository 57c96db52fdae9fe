//! `cargo bench -p paas-logs --bench intake`: what it takes to take lines in over HTTP, and store them.
#![allow(clippy::print_stdout, clippy::unwrap_used, dead_code)]

use std::time::Instant;

use client::{exchange, request};
use figure::{print, processor};

#[path = "../../tests/intake/bed.rs"]
mod bed;
#[path = "../../tests/intake/client.rs"]
mod client;
#[path = "../store/corpus.rs"]
mod corpus;
#[path = "../store/figure.rs"]
mod figure;

/// About so many bytes are sent in a request.
const BODY: usize = 1_000_000;

/// JSON lines of a corpus, in bodies.
fn bodies(lines: usize) -> Vec<Vec<u8>> {
    let mut bodies = vec![Vec::new()];
    for batch in corpus::batches(lines) {
        for line in batch.lines() {
            let message = String::from_utf8_lossy(line.bytes);
            let record = serde_json::json!({ "message": message, "level": "info", "host": "n-1" });
            let body = bodies.last_mut().unwrap();
            body.extend(record.to_string().bytes().chain([b'\n']));
            if body.len() >= BODY {
                bodies.push(Vec::new());
            }
        }
    }
    bodies
}

#[tokio::main]
async fn main() {
    let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(1_000_000);
    let bodies = bodies(lines);
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!("{lines} lines, {} MB, {} requests", bytes / 1_000_000, bodies.len());
    let bed = bed::bed("{}", |_, config| (config.rate, config.burst) = (1 << 40, 1 << 40)).await;
    let requests =
        bodies.iter().map(|body| request("POST /v1/lines", &[("authorization", "Bearer one")], body));
    let requests: Vec<Vec<u8>> = requests.collect();
    let (started, before) = (Instant::now(), processor());
    for request in &requests {
        assert_eq!(exchange(bed.address, request).await.status, 200);
    }
    let (took, used) = (started.elapsed().as_secs_f64(), (processor() - before).as_secs_f64());
    let rate = bytes as f64 / 1e6 / used;
    println!("{:<44} {:>9} {:<10} {:>9} {:>8}", "figure", "ours", "", "peer", "goal");
    print("intake: to the store, a sync a request", rate, "MB/CPU-s", 130.0, false);
    println!("  {took:.1} s, {:.1} MB/s, whoever sends included", bytes as f64 / 1e6 / took);
}
