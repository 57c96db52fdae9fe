//! Runs the live suites of all crates on the peers that this machine can provide.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::step::step;
use crate::{Result, kubernetes, machine};

/// The test programs that have live suites: package and name.
const PROGRAMS: [(&str, &str); 1] = [("paas-k8s", "conformance")];

/// The name by which suites ask for the cluster.
const KUBERNETES: &str = "kubernetes";

/// How many cases run at once: they wait for the cluster most of the time.
const AT_ONCE: &str = "--test-threads=8";

/// Provides what this machine can provide, runs the suites on it, and stops what it started.
pub(crate) fn test(arguments: &[&str], consent: bool) -> Result<ExitCode> {
    if let Some(lack) = machine::lacks_for_kubernetes() {
        println!("live suites on kubernetes: ignored: {lack}");
        return Ok(ExitCode::SUCCESS);
    }
    let programs = step("build the live suites", || {
        PROGRAMS.iter().map(|(package, name)| program(package, name)).collect::<Result<Vec<_>>>()
    })?;
    let began = Instant::now();
    let started = kubernetes::up(false, consent)?;
    let outcome = run(&programs, arguments);
    if started {
        kubernetes::down()?;
    }
    let code = outcome?;
    let verdict = if code == ExitCode::SUCCESS { "passed" } else { "failed" };
    let suites = PROGRAMS.map(|(package, name)| format!("{package} {name}")).join(", ");
    println!("live suites on kubernetes ({suites}): {verdict} in {:.0} s", began.elapsed().as_secs_f64());
    Ok(code)
}

fn run(programs: &[PathBuf], arguments: &[&str]) -> Result<ExitCode> {
    let arguments = [&[AT_ONCE], arguments].concat();
    for program in programs {
        let code =
            kubernetes::exec(&program.to_string_lossy(), &arguments, &[("PAAS_LIVE", KUBERNETES.as_ref())])?;
        if code != ExitCode::SUCCESS {
            return Ok(code);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds a test program, and says where it is.
fn program(package: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--no-run", "--message-format=json", "-p", package, "--test", name]);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).stdin(Stdio::null());
    let output = cargo.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("cannot build the suite {name} of {package}").into());
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let found = messages.lines().find_map(|line| executable(line, name));
    found.ok_or_else(|| format!("cargo does not say where the suite {name} of {package} is").into())
}

/// The program of a test target, if this message of cargo's tells of it.
fn executable(message: &str, name: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_test =
        message["target"]["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
    (is_test && message["target"]["name"] == name).then_some(())?;
    message["executable"].as_str().map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_of_a_test_is_found_among_other_messages() {
        let test = r#"{"target":{"kind":["test"],"name":"conformance"},"executable":"/target/it"}"#;
        assert_eq!(executable(test, "conformance"), Some("/target/it".into()));
        assert_eq!(executable(test, "another"), None);
        let library = r#"{"target":{"kind":["lib"],"name":"conformance"},"executable":null}"#;
        assert_eq!(executable(library, "conformance"), None);
        assert_eq!(executable("no message", "conformance"), None);
    }
}
