//! `cargo run -p testbed -- bench kubernetes`: what the backends cost on a real cluster.
//!
//! Each line is a name, our figure, the peer's, their ratio, the goal, and whether it was met. With names as arguments
//! (`calls`, `apply`, `readiness`, `release`, `apps`, `memory`) only those are measured. Counts and processor time are
//! figures; times depend on what else the machine does, so both sides take turns in one run and their ratio counts.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss)]

mod apply;
mod apps;
mod calls;
mod line;
mod memory;
mod nodes;
mod readiness;
mod release;
mod stage;
mod wire;

#[path = "../../tests/platform/client.rs"]
mod client;
#[path = "../../tests/fixture/calls.rs"]
mod seen;

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;

use peak_alloc::PeakAlloc;

/// Counts the bytes that are in use.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T = ()> = std::result::Result<T, Failure>;
type Measure = fn() -> Pin<Box<dyn Future<Output = Outcome>>>;

/// In the order in which they are measured: real pods first, since nodes that are there in name only take them away.
const FIGURES: [(&str, Measure); 6] = [
    ("release", || Box::pin(release::measure())),
    ("calls", || Box::pin(calls::measure())),
    ("apply", || Box::pin(apply::measure())),
    ("readiness", || Box::pin(readiness::measure())),
    ("apps", || Box::pin(apps::measure())),
    ("memory", || Box::pin(memory::measure())),
];

fn main() -> ExitCode {
    if !["kubernetes", "kwok"].into_iter().all(paas_testkit::is_live) {
        println!("ignored: needs a cluster: cargo run -p testbed -- bench kubernetes");
        return ExitCode::SUCCESS;
    }
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let Some(unknown) = asked.iter().find(|name| !FIGURES.iter().any(|(known, _)| known == name)) {
        println!("no figure is called `{unknown}`: {}", FIGURES.map(|(name, _)| name).join(", "));
        return ExitCode::FAILURE;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    line::head();
    for (name, measure) in FIGURES {
        if !asked.is_empty() && !asked.iter().any(|own| own == name) {
            continue;
        }
        if let Err(error) = runtime.block_on(measure()) {
            println!("{name}: could not be measured: {error:?}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
