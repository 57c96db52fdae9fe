//! Measures backends on real peers.

use std::process::ExitCode;

use crate::kubernetes::{self, Shape};
use crate::step::step;
use crate::{Result, live, machine};

/// The program that measures the backends of a cluster, in the package `paas-k8s`.
const PROGRAM: &str = "cluster";

/// Builds the measuring program, runs it on a cluster of its own, and stops what it started. The program prints a line for
/// each figure.
pub(crate) fn kubernetes(names: &[&str], consent: bool) -> Result<ExitCode> {
    if let Some(lack) = machine::lacks_for_kubernetes() {
        println!("figures on kubernetes: ignored: {lack}");
        return Ok(ExitCode::SUCCESS);
    }
    let program = step("build the measuring program", || {
        live::built(&["bench", "--no-run", "-p", "paas-k8s", "--bench", PROGRAM], "bench", PROGRAM)
    })?;
    let started = kubernetes::up(Shape { has_fake_nodes: true, ..Shape::default() }, consent)?;
    let live = [(live::LIVE, "kubernetes,kwok".as_ref())];
    let outcome = kubernetes::exec(&program.to_string_lossy(), names, &live);
    if started {
        kubernetes::down()?;
    }
    outcome
}
