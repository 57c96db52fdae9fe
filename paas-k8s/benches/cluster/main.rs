//! `cargo run -p testbed -- bench kubernetes`: what the backends cost on a real cluster.
//!
//! Each line is a name, our figure, the peer's, their ratio, the goal, and whether it was met; the last one counts those that
//! met their goals. With names as arguments (`figure`) only those are measured. Counts and processor time are figures; times
//! depend on what else the machine does, so both sides take turns in one run and their ratio counts. With `--strict`, it
//! ends with 3 where some are short.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::cast_precision_loss)]

mod apply;
mod apps;
mod calls;
mod figure;
mod line;
mod memory;
mod nodes;
mod others;
mod readiness;
mod release;
mod stage;
mod wire;

#[path = "../../tests/platform/client.rs"]
mod client;
#[path = "../../tests/fixture/calls.rs"]
mod seen;

use std::process::ExitCode;

use figure::Figure;
use peak_alloc::PeakAlloc;

/// Counts the bytes that are in use.
#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Outcome<T = ()> = std::result::Result<T, Failure>;

/// What ends it where figures are short of their goals, and that counts.
const SHORT: u8 = 3;

async fn measure(figure: Figure) -> Outcome {
    match figure {
        Figure::Release => release::measure().await,
        Figure::Calls => calls::measure().await,
        Figure::Apply => apply::measure().await,
        Figure::Readiness => readiness::measure().await,
        Figure::Apps => apps::measure().await,
        Figure::Memory => memory::measure().await,
    }
}

fn main() -> ExitCode {
    if !["kubernetes", "kwok"].into_iter().all(paas_testkit::is_live) {
        println!("ignored: needs a cluster: cargo run -p testbed -- bench kubernetes");
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    // Cargo adds options of its own.
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    let figures = match Figure::named(&names) {
        Ok(figures) => figures,
        Err(unknown) => {
            println!("{unknown}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    line::head();
    let failed = figures.into_iter().find_map(|figure| {
        let outcome = runtime.block_on(measure(figure));
        outcome.err().map(|error| println!("{}: could not be measured: {error:?}", figure.name()))
    });
    let short = line::tail();
    match failed {
        Some(()) => ExitCode::FAILURE,
        None if short > 0 && options.contains(&"--strict") => ExitCode::from(SHORT),
        None => ExitCode::SUCCESS,
    }
}
