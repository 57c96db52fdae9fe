//! The conformance suites and what only Kubernetes has, on a real cluster: ignored unless one was provided (`cargo run -p testbed -- test`).
#![allow(clippy::unwrap_used)] // Helpers and cases of a test binary are not inside `#[test]`.

mod cluster;
mod fault;
mod fixture;
mod platform;
mod proxy;

use std::process::ExitCode;

fn main() -> ExitCode {
    paas_testkit::Conformance::new(fixture::suites())
        .with_cases_on(fixture::PEER, platform::trials())
        .with_cases_on(fixture::TWO_NODES, platform::on_two_nodes())
        .with_cases_on(fixture::ENFORCING_NETWORK, platform::on_enforcing_network())
        .with_cases_on(fixture::PLATFORM_IMAGE, platform::on_image())
        .with_cases_on(fixture::PEER, cluster::trials())
        .with_cases_on(fixture::PEER, fault::trials())
        .with_cases_on(fixture::FAKE_NODES, fault::trials_with_fake_nodes())
        .with_cases_on(fixture::FAKE_NODES, platform::trials_with_fake_nodes())
        .with_table(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md"))
        .run()
}
