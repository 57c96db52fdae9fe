//! Everything of this crate that needs real processes: the conformance suites, the keeper's own cases, and trouble.
//!
//! The binary is run again as the keeper, the edge and the test programs, so `main` asks for the role first.
#![allow(clippy::unwrap_used)] // Helpers and cases of a test binary are not inside `#[test]`.

mod fixture;
mod keeper;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some(code) = fixture::run_if_asked().or_else(keeper::platform::run_if_asked) {
        return code;
    }
    let suites = fixture::suites().into_iter().chain(fixture::guarded());
    paas_testkit::Conformance::new(suites)
        .with_cases(keeper::trials())
        .with_table(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .run()
}
