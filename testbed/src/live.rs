//! Runs the live suites of all crates on the peers that this machine can provide.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::step::step;
use crate::{Result, kubernetes, machine};

/// The test programs that have live suites: package and name.
const PROGRAMS: [(&str, &str); 1] = [("paas-k8s", "conformance")];

/// What a person would run on a cluster of their own: an app of the testbed's image is deployed, and removed; then the tour.
const EXAMPLES: [(&str, &str, &[&[&str]]); 2] = [
    ("kubernetes", "the example kubernetes", &[&["testbed.local/instance:1", "8080"], &["--remove"]]),
    ("platform", "the tour of the example platform", &[&["--kubernetes", "--tour"]]),
];

/// The name by which suites ask for the cluster.
const KUBERNETES: &str = "kubernetes";

/// How many cases run at once: they wait for the cluster most of the time.
const AT_ONCE: &str = "--test-threads=6";

/// Provides what this machine can provide, runs the suites on it, and stops what it started.
pub(crate) fn test(arguments: &[&str], consent: bool) -> Result<ExitCode> {
    if let Some(lack) = machine::lacks_for_kubernetes() {
        println!("live suites on kubernetes: ignored: {lack}");
        return Ok(ExitCode::SUCCESS);
    }
    let runs = step("build the live suites", || all(arguments))?;
    let began = Instant::now();
    let started = kubernetes::up(false, consent)?;
    let outcome = run(&runs);
    if started {
        kubernetes::down()?;
    }
    let code = outcome?;
    let verdict = if code == ExitCode::SUCCESS { "passed" } else { "failed" };
    let names = runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let seconds = began.elapsed().as_secs_f64();
    println!("live suites on kubernetes ({names}): {verdict} in {seconds:.0} s");
    Ok(code)
}

/// A program and all that it is asked, one after the other.
struct Run {
    name: String,
    program: PathBuf,
    asked: Vec<Vec<String>>,
}

/// The suites and, where nothing was left out of those, the examples; built.
fn all(arguments: &[&str]) -> Result<Vec<Run>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut runs = Vec::new();
    for (package, name) in PROGRAMS {
        let program = built(&["test", "--no-run", "-p", package, "--test", name], "test", name)?;
        let asked = vec![words(&[&[AT_ONCE], arguments].concat())];
        runs.push(Run { name: format!("{package} {name}"), program, asked });
    }
    for (example, name, asked) in EXAMPLES.iter().filter(|_| arguments.is_empty()) {
        let program = built(&["build", "--example", example, "--features", KUBERNETES], "example", example)?;
        runs.push(Run {
            name: (*name).to_owned(),
            program,
            asked: asked.iter().map(|run| words(run)).collect(),
        });
    }
    Ok(runs)
}

/// Ends with the first that fails.
fn run(runs: &[Run]) -> Result<ExitCode> {
    let live = [("PAAS_LIVE", Path::new(KUBERNETES))];
    for run in runs {
        for asked in &run.asked {
            let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
            let code = kubernetes::exec(&run.program.to_string_lossy(), &asked, &live)?;
            if code != ExitCode::SUCCESS {
                println!("failed: {}", run.name);
                return Ok(code);
            }
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
