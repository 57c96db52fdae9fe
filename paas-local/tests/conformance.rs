//! Everything of this crate that needs real processes: the conformance suites and the keeper's own cases.
//!
//! The binary is run again as the keeper, so `main` asks for the role first.
#![allow(clippy::unwrap_used)] // Helpers and cases of a test binary are not inside `#[test]`.

mod keeper;

use std::process::ExitCode;

use libtest_mimic::Arguments;

fn main() -> ExitCode {
    if let Some(code) = paas_local::keeper::run_if_asked() {
        return code;
    }
    if let Some(code) = keeper::platform::run_if_asked() {
        return code;
    }
    libtest_mimic::run(&Arguments::from_args(), keeper::trials()).exit_code()
}
