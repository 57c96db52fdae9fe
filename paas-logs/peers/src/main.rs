//! `cargo run -p testbed -- bench logs`: what `paas-logs` costs, beside others that do the same.
//!
//! Each line is a name, our figure, the peer's, their ratio, the goal, and whether it was met; the last one counts. Both sides
//! work on the same lines and take turns in one run, so that their ratio counts. With names as arguments (`figure`) only those
//! are measured. A peer that is not installed is ignored, and never a goal that is met. `LINES` is how many lines there are.
//! With `--strict`, it ends with 3 where some are short.
#![allow(clippy::unwrap_used)]

mod clock;
#[allow(dead_code)] // The benches of `paas-logs` have the rest.
#[path = "../../benches/store/corpus.rs"]
mod corpus;
mod figure;
mod keywords;
mod line;
mod ours;
mod peer;
mod store;

use std::process::ExitCode;

use figure::Figure;

/// So many that the first tenant has 209,000.
const LINES: usize = 1_045_000;

/// What ends it where figures are short of their goals, and that counts.
const SHORT: u8 = 3;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let (options, names): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with("--"));
    let figures = match Figure::named(&names) {
        Ok(figures) => figures,
        Err(unknown) => {
            println!("{unknown}");
            return ExitCode::FAILURE;
        }
    };
    let lines = std::env::var("LINES").ok().and_then(|lines| lines.parse().ok()).unwrap_or(LINES);
    let batches = corpus::batches(lines);
    let bytes: usize = batches.iter().map(|batch| batch.buffer.len()).sum();
    println!("{lines} lines, {} MB", bytes / 1_000_000);
    line::head();
    for figure in figures {
        match figure {
            Figure::Keywords => keywords::measure(&batches),
            Figure::Ingest => store::ingest(&batches),
            Figure::Queries => store::queries(&batches),
        }
    }
    let short = line::tail();
    if short > 0 && options.contains(&"--strict") { ExitCode::from(SHORT) } else { ExitCode::SUCCESS }
}
