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

/// The name by which cases ask for a cluster of two nodes that nobody else uses.
const TWO_NODES: &str = "two-nodes";

/// How many cases run at once: they wait for the cluster most of the time.
const AT_ONCE: &str = "--test-threads=6";

/// Provides what this machine can provide, runs the suites on it, and stops what it started.
pub(crate) fn test(arguments: &[&str], consent: bool) -> Result<ExitCode> {
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
    let started = kubernetes::up(false, consent)?;
    let outcome = run(&programs, &example, arguments);
    if started {
        kubernetes::down()?;
    }
    let mut code = outcome?;
    if code == ExitCode::SUCCESS && started && arguments.is_empty() {
        code = on_two_nodes(&programs, consent)?;
    }
    let verdict = if code == ExitCode::SUCCESS { "passed" } else { "failed" };
    let suites = PROGRAMS.map(|(package, name)| format!("{package} {name}")).join(", ");
    let seconds = began.elapsed().as_secs_f64();
    println!("live suites on kubernetes ({suites}, the example {EXAMPLE}): {verdict} in {seconds:.0} s");
    Ok(code)
}

/// The cases that drain nodes need a cluster of two to themselves.
fn on_two_nodes(programs: &[PathBuf], consent: bool) -> Result<ExitCode> {
    kubernetes::up(true, consent)?;
    let live = [("PAAS_LIVE", TWO_NODES.as_ref())];
    let each = |program: &PathBuf| kubernetes::exec(&program.to_string_lossy(), &[], &live);
    let outcomes: Result<Vec<ExitCode>> = programs.iter().map(each).collect();
    kubernetes::down()?;
    let failed = outcomes?.into_iter().find(|code| *code != ExitCode::SUCCESS);
    Ok(failed.unwrap_or(ExitCode::SUCCESS))
}

/// The suites and then, where all of them were asked for, the example; ends with the first that fails.
fn run(programs: &[PathBuf], example: &Path, arguments: &[&str]) -> Result<ExitCode> {
    let asked = [&[AT_ONCE], arguments].concat();
    let suites = programs.iter().map(|program| (program.as_path(), asked.as_slice()));
    let examples = EXAMPLE_RUNS.iter().filter(|_| arguments.is_empty()).map(|run| (example, *run));
    for (program, arguments) in suites.chain(examples) {
        let live = [("PAAS_LIVE", KUBERNETES.as_ref())];
        let code = kubernetes::exec(&program.to_string_lossy(), arguments, &live)?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds a program, and says where it is.
fn built(arguments: &[&str], kind: &str, name: &str) -> Result<PathBuf> {
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
