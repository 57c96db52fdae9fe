//! Provisions real peers and runs things against them.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr)] // A command talks.

mod bench;
mod cache;
mod command;
mod golang;
mod image;
mod interrupt;
mod kubernetes;
mod live;
mod machine;
mod package;
mod python;
mod sandbox;
mod step;

use std::io::Write;
use std::process::ExitCode;

use kubernetes::shape::{FLAGS, Shape};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The flag by which a test runs what takes longer, too.
const FULL: &str = "--full";
/// The flag by which figures that are short of their goals fail the run.
const STRICT: &str = "--strict";

const USAGE: &str = "\
usage: cargo run -p testbed -- COMMAND

  up kubernetes             provisions a cluster of one node and starts it; does nothing where it runs, and fails where what
                            runs lacks what is asked for. --two-nodes adds a second one, --fake-nodes a program that answers
                            for nodes which are there in name only, --platform the image of a platform
  status                    what this machine can provide, and what runs
  down                      stops everything that it started, and leaves nothing mounted
  exec COMMAND              runs a command in the cluster's network, with KUBECONFIG set
  test [FILTER]             provides what this machine can provide, runs the live suites on it, and stops what it started;
                            --full adds what takes long
  bench kubernetes [NAME..] measures the backends on a cluster of its own: all figures, or those of these names;
                            ends with 3 under --strict where one is short of its goal
  bench logs [NAME..]       measures how log lines are kept and searched, beside Hyperscan, tantivy and chDB, where they
                            are installed; likewise

Ctrl-C and SIGTERM end `up`, `test` and `bench`, too: they stop what they started, and end with 130 or 143.

It installs Debian packages, and builds Go programs and puts Python packages into a cache outside the checkout. Outside
continuous integration it asks for --change-this-machine before it installs anything.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // Ctrl-C may have ended whoever reads this.
            drop(writeln!(std::io::stderr(), "testbed: {error}"));
            interrupt::code().unwrap_or(ExitCode::FAILURE)
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let (flags, words): (Vec<&str>, Vec<&str>) = match arguments.first().map(String::as_str) {
        Some("exec") => (Vec::new(), arguments.iter().map(String::as_str).collect()),
        _ => arguments.iter().map(String::as_str).partition(|word| word.starts_with("--")),
    };
    let known = [&[machine::CONSENT, FULL, STRICT], &FLAGS[..]].concat();
    if let Some(unknown) = flags.iter().find(|flag| !known.contains(flag)) {
        return Err(format!("unknown option `{unknown}`\n\n{USAGE}").into());
    }
    let consent = flags.contains(&machine::CONSENT) || std::env::var_os("CI").is_some();
    match words.as_slice() {
        ["up", "kubernetes"] => {
            interrupt::listen()?;
            kubernetes::up(&Shape::of(&flags), consent).map(|_| ExitCode::SUCCESS)
        }
        ["test", arguments @ ..] => live::test(arguments, flags.contains(&FULL), consent),
        ["bench", "kubernetes", names @ ..] => bench::kubernetes(names, flags.contains(&STRICT), consent),
        ["bench", "logs", names @ ..] => bench::logs(names, flags.contains(&STRICT), consent),
        ["status"] => status(),
        ["down"] => kubernetes::down().map(|()| ExitCode::SUCCESS),
        ["exec", program, arguments @ ..] => kubernetes::exec(program, arguments, &[]),
        // What the testbed runs itself as.
        ["in-sandbox", "kubernetes"] => kubernetes::inside().map(|()| ExitCode::SUCCESS),
        ["in-sandbox", "second-node"] => kubernetes::second().map(|()| ExitCode::SUCCESS),
        [] => Err(format!("no command\n\n{USAGE}").into()),
        words => Err(format!("unknown command `{}`\n\n{USAGE}", words.join(" ")).into()),
    }
}

fn status() -> Result<ExitCode> {
    match machine::lacks_for_kubernetes() {
        None => println!("kubernetes: can be provided"),
        Some(lack) => println!("kubernetes: ignored: {lack}"),
    }
    println!("kubernetes: {}", kubernetes::state()?);
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_refused_with_the_usage() {
        for words in [&[][..], &["fly"], &["up"], &["up", "moon"], &["bench"], &["status", "--now"]] {
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            let error = run(&words).unwrap_err().to_string();
            assert!(error.contains("usage: cargo run -p testbed"), "{error}");
        }
    }

    #[test]
    fn a_figure_that_nobody_knows_is_refused_before_anything_is_built() {
        for (bench, one) in [("kubernetes", "readiness"), ("logs", "keywords")] {
            let error = run(&["bench", bench, "speed"].map(str::to_owned)).unwrap_err().to_string();
            assert!(error.contains("`speed`") && error.contains(one), "{error}");
        }
    }
}
