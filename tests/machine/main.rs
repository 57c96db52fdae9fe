//! A whole platform on real processes, sockets and files, and everything that can go wrong with it. Whatever does ends
//! in a clear error or within a stated bound, while real requests go on being answered by the revision before.
//!
//! The binary is run again as the keeper, the edge, the platform to be killed and the test programs, so `main` asks for
//! the role first. No case sleeps to wait: each asks again and again until something is so, with a deadline.
#![allow(clippy::unwrap_used)] // Cases of a test binary are not inside `#[test]`.

mod command;
mod deploy;
mod disk;
mod load;
mod open;
mod output;
mod process;
mod program;
mod restart;
mod role;
mod world;

use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

/// Longest time a case may take.
const LONGEST: Duration = Duration::from_secs(90);

type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

/// Names the cases of a module once.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const CASES: &[crate::Case] = &[$((stringify!($name), || Box::pin($name()))),*];
    };
}
pub(crate) use cases;

fn main() -> ExitCode {
    if let Some(code) = paas::local::run_if_asked().or_else(program::run_if_asked).or_else(role::run_if_asked)
    {
        return code;
    }
    let modules = [
        ("command", command::CASES, command::missing()),
        ("deploy", deploy::CASES, None),
        ("disk", disk::CASES, disk::missing()),
        ("open", open::CASES, None),
        ("output", output::CASES, None),
        ("process", process::CASES, None),
        ("restart", restart::CASES, None),
    ];
    let trials = modules.into_iter().flat_map(|(module, cases, missing)| {
        cases.iter().map(move |(name, case)| trial(format!("{module}::{name}"), *case, missing))
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

/// A case as a test; one for which this machine lacks something is ignored, and says what is missing.
fn trial(name: String, case: fn() -> Pin<Box<dyn Future<Output = ()>>>, missing: Option<&str>) -> Trial {
    let trial = Trial::test(name, move || within(LONGEST, case()));
    match missing {
        Some(what) => trial.with_kind(what).with_ignored_flag(true),
        None => trial,
    }
}

/// Runs a case on a runtime of its own. A failed assertion is a panic, which the test program reports.
fn within(longest: Duration, case: impl Future<Output = ()>) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let outcome = runtime.block_on(async { tokio::time::timeout(longest, case).await });
    // A stuck blocking call must not keep the other cases waiting.
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome.map_err(|_| Failed::from(format!("the case does not end within {longest:?}")))
}
