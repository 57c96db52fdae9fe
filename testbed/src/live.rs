//! Runs the live suites of all crates on the peers that this machine can provide.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::kubernetes::shape::{self, Shape};
use crate::step::{say, step};
use crate::{Result, command, interrupt, kubernetes, machine};

/// The test programs that have live suites: package and name.
const PROGRAMS: [(&str, &str); 1] = [("paas-k8s", "conformance")];

/// What a person would run on a cluster of their own, each with all that is asked of it: an app of the testbed's image is
/// deployed, and removed; the sample app goes through all that may become of it.
const EXAMPLES: [(&str, &[&[&str]]); 2] = [
    ("kubernetes", &[&["testbed.local/instance:1", "8080"], &["--remove"]]),
    ("platform", &[&["--kubernetes", "--tour"]]),
];

/// The feature of examples that run on a cluster.
const KUBERNETES: &str = "kubernetes";

/// The name by which cases ask for a cluster of two nodes that nobody else uses.
const TWO_NODES: &str = "two-nodes";

/// The names by which suites ask for the cluster, and for the image of a platform on it.
const SHARED: &str = "kubernetes,platform";

/// The variable by which suites are told which peers there are.
pub(crate) const LIVE: &str = "PAAS_LIVE";

/// The variable by which suites are told to try everything that takes long.
const FULL: &str = "PAAS_FULL";

/// How many cases run at once: they wait for the cluster most of the time.
const AT_ONCE: &str = "--test-threads=6";

/// What a run that takes its time adds: cases that take nodes away, one after the other. They need no other peer, so that
/// nothing else runs beside them.
const FAKE_NODES: &str = "kwok";
const ONE_BY_ONE: &[&str] = &["--test-threads=1", "nodes::"];

/// Provides what this machine can provide, runs the suites on it, and stops what it started.
pub(crate) fn test(arguments: &[&str], is_full: bool, consent: bool) -> Result<ExitCode> {
    if let Some(lack) = machine::lacks_for_kubernetes() {
        say!("live suites on kubernetes: ignored: {lack}");
        return Ok(ExitCode::SUCCESS);
    }
    interrupt::listen()?;
    let fake_nodes = is_full.then_some(shape::FAKE_NODES);
    let shape = Shape::of(&[&[shape::PLATFORM], fake_nodes.as_slice()].concat());
    // There, what could have run and did not is a failure.
    if kubernetes::serves(&shape)? && std::env::var_os("CI").is_some() {
        return Err("a cluster is up already: run `down` first".into());
    }
    let runs = step("build the live suites", || all(arguments, is_full))?;
    let began = Instant::now();
    let (alone, shared): (Vec<Run>, Vec<Run>) = runs.into_iter().partition(|run| run.peer == TWO_NODES);
    let started = kubernetes::up(&shape, consent)?;
    let outcome = run(&shared, is_full);
    if started {
        kubernetes::down()?;
    }
    let mut code = outcome?;
    if !started && !alone.is_empty() {
        say!("live suites on two nodes: ignored: a cluster was up already, and they need their own");
    } else if code == ExitCode::SUCCESS && !alone.is_empty() {
        kubernetes::up(&Shape::of(&[shape::TWO_NODES]), consent)?;
        let outcome = run(&alone, is_full);
        kubernetes::down()?;
        code = outcome?;
    }
    let verdict = if code == ExitCode::SUCCESS { "passed" } else { "failed" };
    let names = shared.iter().chain(&alone).map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ");
    let seconds = began.elapsed().as_secs_f64();
    say!("live suites on kubernetes ({names}): {verdict} in {seconds:.0} s");
    Ok(code)
}

/// A program, all that it is asked, one after the other, and the peer that it is told of.
struct Run {
    name: String,
    program: PathBuf,
    asked: Vec<Vec<String>>,
    peer: &'static str,
}

/// The suites and, where nothing was left out of those, the examples; built.
fn all(arguments: &[&str], is_full: bool) -> Result<Vec<Run>> {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let mut runs = Vec::new();
    for (package, name) in PROGRAMS {
        let program = built(&["test", "--no-run", "-p", package, "--test", name], "test", name)?;
        let asked = vec![words(&[&[AT_ONCE], arguments].concat())];
        let title = format!("{package} {name}");
        runs.push(Run { name: title, program: program.clone(), asked, peer: SHARED });
        if arguments.is_empty() {
            let (name, asked) = (format!("{package} {name} on two nodes"), vec![Vec::new()]);
            runs.push(Run { name, program: program.clone(), asked, peer: TWO_NODES });
        }
        if is_full {
            let (name, asked) = (format!("{package} {name} on nodes in name only"), vec![words(ONE_BY_ONE)]);
            runs.push(Run { name, program, asked, peer: FAKE_NODES });
        }
    }
    for (name, asked) in EXAMPLES.into_iter().filter(|_| arguments.is_empty()) {
        let program = built(&["build", "--example", name, "--features", KUBERNETES], "example", name)?;
        let asked = asked.iter().map(|run| words(run)).collect();
        runs.push(Run { name: format!("the example {name}"), program, asked, peer: SHARED });
    }
    Ok(runs)
}

/// Ends with the first that fails.
fn run(runs: &[Run], is_full: bool) -> Result<ExitCode> {
    for run in runs {
        let mut told = vec![(LIVE, Path::new(run.peer))];
        told.extend(is_full.then_some((FULL, Path::new("1"))));
        for asked in &run.asked {
            let asked: Vec<&str> = asked.iter().map(String::as_str).collect();
            let code = kubernetes::exec(&run.program.to_string_lossy(), &asked, &told)?;
            if code != ExitCode::SUCCESS {
                say!("failed: {}", run.name);
                return Ok(code);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds a program, and says where it is.
pub(crate) fn built(arguments: &[&str], kind: &str, name: &str) -> Result<PathBuf> {
    let mut cargo = Command::new("cargo");
    cargo.args(arguments).arg("--message-format=json").stdin(Stdio::null());
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    let output = command::output(&mut cargo)?;
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
