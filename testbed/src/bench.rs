//! Measures what we have beside real peers.

mod logs;

use std::process::ExitCode;

use crate::kubernetes::shape::{FAKE_NODES, Shape};
use crate::step::{say, step};
use crate::{Result, STRICT, interrupt, kubernetes, live, machine};

/// The program's own list.
#[path = "../../paas-k8s/benches/cluster/figure.rs"]
mod figure;

use figure::Figure;
pub(crate) use logs::logs;

/// The program that measures the backends of a cluster, in the package `paas-k8s`.
const PROGRAM: &str = "cluster";

/// Builds the measuring program, runs it on a cluster of its own, and stops what it started. The program prints a line for
/// each figure.
pub(crate) fn kubernetes(names: &[&str], is_strict: bool, consent: bool) -> Result<ExitCode> {
    Figure::named(names)?;
    if let Some(lack) = machine::lacks_for_kubernetes() {
        say!("figures on kubernetes: ignored: {lack}");
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::listen()?;
    // Before the build, which takes minutes.
    let shape = Shape::of(&[FAKE_NODES]);
    kubernetes::serves(&shape)?;
    let program = step("build the measuring program", || {
        live::built(&["bench", "--no-run", "-p", "paas-k8s", "--bench", PROGRAM], "bench", PROGRAM)
    })?;
    let started = kubernetes::up(&shape, consent)?;
    let live = [(live::LIVE, "kubernetes,kwok".as_ref())];
    let asked = [names, is_strict.then_some(STRICT).as_slice()].concat();
    let outcome = kubernetes::exec(&program.to_string_lossy(), &asked, &live);
    if started {
        kubernetes::down()?;
    }
    outcome
}
