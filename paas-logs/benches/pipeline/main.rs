//! `cargo bench -p paas-logs --bench pipeline`: what it takes to bring lines from where they are born to the store and to who
//! watches them.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

#[path = "../store/corpus.rs"]
#[allow(dead_code)] // The other bench has the rest.
mod corpus;
#[path = "../store/figure.rs"]
mod figure;
mod played;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use paas_core::model::{Clock, LogBatch, LogTail, Resource, Scope, TailItem, Timestamp};
use paas_core::port::{LogPipeline, LogPorts};
use paas_logs::{Pipeline, PipelineConfig};
use peak_alloc::PeakAlloc;

use figure::{print, processor};
use played::{Counting, Played, rules};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Lines a second, and for how long.
const RATE: usize = 50_000;
const SECONDS: usize = 10;
const TAILS: usize = 1_000;
/// Sixteen words that are counted, of which one is in a hundredth of the lines.
const RULES: &str = r#"{"parse":["json"],"redact":["email","phone","national-id"],"alerts":[
    {"match":"timeout OR panic OR fatal OR segfault","count":10000,"notify":"x"},
    {"match":"deadlock OR oom OR corrupt OR refused","count":10000,"notify":"x"},
    {"match":"unreachable OR overflow OR denied OR expired","count":10000,"notify":"x"},
    {"match":"rollback OR starvation OR throttled OR poisoned","count":10000,"notify":"x"}]}"#;

/// A pipeline, and what stands around it.
struct Bed {
    pipeline: Arc<Pipeline>,
    source: Arc<Played>,
    store: Arc<Counting>,
    ports: LogPorts,
}

fn bed(json: &str) -> Bed {
    let (source, store) = (Arc::new(Played::new()), Arc::<Counting>::default());
    let scope = Scope::testing(Resource::Platform);
    let ports =
        LogPorts::new(source.clone(), Some(store.clone()), rules(json), scope, Clock::fixed(Timestamp(0)));
    Bed { pipeline: Arc::new(Pipeline::new(PipelineConfig::default())), source, store, ports }
}

impl Bed {
    /// Runs it until this is dropped.
    async fn run(&self) -> Running {
        let (pipeline, ports) = (Arc::clone(&self.pipeline), self.ports.clone());
        let running = Running(tokio::spawn(async move { pipeline.run(ports).await }));
        while self.source.followers.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running
    }

    async fn stored(&self, lines: usize) {
        while (self.store.lines.load(Ordering::Relaxed) as usize) < lines {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// A task that ends with whoever has it.
struct Running(tokio::task::JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Processor time for all lines, as fast as they go.
async fn throughput(batches: &[LogBatch], watched: bool) -> f64 {
    let bed = bed(RULES);
    let _running = bed.run().await;
    let tail = LogTail::follow(Resource::Tenant(corpus::tenant(0)));
    let stalled = bed.pipeline.tail(&bed.ports.scope, bed.ports.clone(), tail).await.unwrap();
    let stalled = watched.then_some(stalled);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (before, mut lines) = (processor(), 0);
    // No more at once than may wait for one app: this source cannot be read again.
    for some in batches.chunks(40) {
        lines += some.iter().map(|batch| batch.starts.len()).sum::<usize>();
        some.iter().for_each(|batch| bed.source.play(batch.clone()));
        bed.stored(lines).await;
    }
    let used = processor() - before;
    drop(stalled);
    used.as_secs_f64()
}

/// Lines at a steady rate, a batch of fifty each millisecond.
async fn steady(bed: &Bed, batches: &[LogBatch], began: Instant) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let mut lines = 0;
    for batch in batches.iter().take(RATE * SECONDS / 50) {
        tick.tick().await;
        let mut batch = batch.clone();
        // When it was born, in microseconds since this began.
        batch.times.fill(Timestamp(began.elapsed().as_micros() as u64));
        lines += batch.starts.len();
        bed.source.play(batch);
    }
    bed.stored(lines).await;
}

/// Batches of fifty lines, each later than the one before it.
fn small(batches: &[LogBatch]) -> Vec<LogBatch> {
    let mut all = Vec::new();
    for batch in batches {
        let mut rest = Some(batch.clone());
        while let Some(own) = rest.take().filter(|own| !own.starts.is_empty()) {
            let next = own.without_first(50);
            let length = next.as_ref().map_or(own.buffer.len(), |next| own.buffer.len() - next.buffer.len());
            let position = own.position;
            all.push(LogBatch::new(own.origin, own.buffer.slice(..length), own.times[0], position));
            rest = next;
        }
    }
    all
}

async fn tails(batches: &[LogBatch]) {
    let bed = bed(RULES);
    let _running = bed.run().await;
    let began = Instant::now();
    let (mut watching, seen) = (Vec::new(), Arc::new(AtomicU64::new(0)));
    for number in 0..TAILS {
        let words = ["timeout", "status:500", "level:>=warn", "u-7*"];
        let tenant = Resource::Tenant(corpus::tenant(number % corpus::TENANTS));
        let tail = LogTail::follow(tenant).matching(words[number % words.len()].parse().unwrap());
        let mut items = bed.pipeline.tail(&bed.ports.scope, bed.ports.clone(), tail).await.unwrap();
        let seen = Arc::clone(&seen);
        watching.push(tokio::spawn(async move {
            let mut late = Vec::new();
            while let Ok(Some(item)) = tokio::time::timeout(Duration::from_secs(3), items.next()).await {
                if let TailItem::Lines(lines) = item.unwrap() {
                    let now = began.elapsed().as_micros() as u64;
                    late.extend(lines.entries.iter().map(|entry| (now - entry.time.0) as f64 / 1_000.0));
                    seen.fetch_add(lines.entries.len() as u64, Ordering::Relaxed);
                }
            }
            late
        }));
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (before, started) = (processor(), Instant::now());
    steady(&bed, batches, began).await;
    let (used, took) = ((processor() - before).as_secs_f64(), started.elapsed().as_secs_f64());
    let mut late = Vec::new();
    for watching in watching {
        late.extend(watching.await.unwrap());
    }
    late.sort_by(f64::total_cmp);
    let at = |share: f64| late[((late.len() - 1) as f64 * share) as usize];
    println!(
        "  {} lines shown, {:.1} of {took:.1} s of a processor; p50 {:.2} ms",
        late.len(),
        used,
        at(0.5)
    );
    print(&format!("tail: event to {TAILS} watchers, p99"), at(0.99), "ms", 5.0, true);
}

#[tokio::main]
async fn main() {
    let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(500_000);
    let batches = corpus::batches(lines);
    let bytes: usize = batches.iter().map(|batch| batch.buffer.len()).sum();
    println!("{lines} lines, {} MB", bytes / 1_000_000);
    println!("{:<44} {:>9} {:<10} {:>9} {:>8}", "figure", "ours", "", "peer", "goal");
    let (mut alone, mut watched) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        alone.push(throughput(&batches, false).await);
        watched.push(throughput(&batches, true).await);
    }
    alone.sort_by(f64::total_cmp);
    watched.sort_by(f64::total_cmp);
    print("pipeline: parse, redact, count, out", bytes as f64 / 1e6 / alone[2], "MB/CPU-s", 100.0, false);
    println!("  spread {:.1} to {:.1}", bytes as f64 / 1e6 / alone[4], bytes as f64 / 1e6 / alone[0]);
    let costs = (watched[2] / alone[2] - 1.0) * 100.0;
    print("tail: what a stalled one costs", costs, "%", 2.0, true);
    let small = small(&batches);
    drop(batches);
    {
        let bed = bed(RULES);
        let _running = bed.run().await;
        let held = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        steady(&bed, &small, Instant::now()).await;
        let most = (MEMORY.peak_usage() - held) as f64 / 1_048_576.0;
        print(&format!("memory at {RATE} lines a second"), most, "MiB", 64.0, true);
    }
    tails(&small).await;
}
