//! Runs the live suites of all crates on the peers that this machine can provide.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::step::step;
use crate::{Result, kubernetes, machine};

/// The test programs that have live suites: package and name.
const PROGRAMS: [(&str, &str); 1] = [("paas-k8s", "conformance")];

/// What a person would run on a cluster of their own: an app of the testbed's image is deployed, and removed.
const EXAMPLE: &str = "kubernetes";
const EXAMPLE_RUNS: [&[&str]; 2] = [&["testbed.local/instance:1", "8080"], &["--remove"]];

/// The name by which suites ask for the cluster.
const KUBERNETES: &str = "kubernetes";

/// The variable by which suites are told which peers there are.
pub(crate) const LIVE: &str = "PAAS_LIVE";

/// How many cases run at once: they wait for the cluster most of the time.
const AT_ONCE: &str = "--test-threads=6";

/// What a run that takes its time adds: cases that take nodes away, one after the other. They need no other peer, so that
/// nothing else runs beside them.
const FAKE_NODES: &str = "kwok";
const ONE_BY_ONE: &[&str] = &["--test-threads=1", "nodes::"];

/// Provides what this machine can provide, runs the suites on it, and stops what it started.
pub(crate) fn test(arguments: &[&str], is_full: bool, consent: bool) -> Result<ExitCode> {
    if let Some(lack) = machine::lacks_for_kubernetes() {
        println!("live suites on kubernetes: ignored: {lack}");
        return Ok(ExitCode::SUCCESS);
    }
    let (programs, example) = step("build the live suites", || {
        let suite = |(package, name): &(&str, &str)| {
            built(&["test", "--no-run", "-p", package, "--test", name], "test", name)
        };
        let programs = PROGRAMS.iter().map(suite).collect::<Result<Vec<_>>>()?;
        let example = ["build", "--example", EXAMPLE, "--features", KUBERNETES];
        Ok((programs, built(&example, "example", EXAMPLE)?))
    })?;
    let began = Instant::now();
    let shape = kubernetes::Shape { has_fake_nodes: is_full, ..kubernetes::Shape::default() };
    let started = kubernetes::up(shape, consent)?;
    let outcome = run(&programs, &example, arguments, is_full);
    if started {
        kubernetes::down()?;
    }
    let code = outcome?;
    let verdict = if code == ExitCode::SUCCESS { "passed" } else { "failed" };
    let suites = PROGRAMS.map(|(package, name)| format!("{package} {name}")).join(", ");
    let seconds = began.elapsed().as_secs_f64();
    println!("live suites on kubernetes ({suites}, the example {EXAMPLE}): {verdict} in {seconds:.0} s");
    Ok(code)
}

/// The suites and then, where all of them were asked for, the example; ends with the first that fails.
fn run(programs: &[PathBuf], example: &Path, arguments: &[&str], is_full: bool) -> Result<ExitCode> {
    let asked = [&[AT_ONCE], arguments].concat();
    let suites = programs.iter().map(|program| (program.as_path(), asked.as_slice(), KUBERNETES));
    let full = programs.iter().filter(|_| is_full).map(|own| (own.as_path(), ONE_BY_ONE, FAKE_NODES));
    let examples = EXAMPLE_RUNS.iter().filter(|_| arguments.is_empty());
    let examples = examples.map(|run| (example, *run, KUBERNETES));
    for (program, arguments, peer) in suites.chain(full).chain(examples) {
        let live = [(LIVE, peer.as_ref())];
        let code = kubernetes::exec(&program.to_string_lossy(), arguments, &live)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds a program, and says where it is.
pub(crate) fn built(arguments: &[&str], kind: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).arg("--message-format=json").stdin(Stdio::null());
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let output = cargo.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("cannot build the {kind} {name}").into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let found = messages.lines().find_map(|line| executable(line, kind, name));
    found.ok_or_else(|| format!("cargo does not say where the {kind} {name} is").into())
}

/// The program of a target, if this message of cargo's tells of it.
fn executable(message: &str, kind: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let kinds = message["target"]["kind"].as_array()?;
    (kinds.iter().any(|own| own == kind) && message["target"]["name"] == name).then_some(())?;
    message["executable"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_test_is_found_among_other_messages() {
        let test = r#"{"target":{"kind":["test"],"name":"conformance"},"executable":"/target/it"}"#;
        assert_eq!(executable(test, "test", "conformance"), Some("/target/it".into()));
        assert_eq!(executable(test, "test", "another"), None);
        let library = r#"{"target":{"kind":["lib"],"name":"conformance"},"executable":null}"#;
        assert_eq!(executable(library, "test", "conformance"), None);
        assert_eq!(executable("no message", "test", "conformance"), None);
    }
}
