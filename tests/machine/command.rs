//! The example program at the command line.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use crate::cases;

cases![
    an_unknown_option_is_named_with_the_usage_and_exit_code_two,
    a_wrong_value_is_named,
    help_is_printed_to_standard_output,
];

/// The example, which `cargo test` builds beside the tests.
fn example() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    own.parent().unwrap().parent().unwrap().join("examples/platform")
}

/// What keeps these cases from running.
pub(crate) fn missing() -> Option<&'static str> {
    (!example().exists()).then_some("needs the examples: cargo test builds them unless told what to test")
}

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(example());
    command.args(arguments).stdin(Stdio::null()).current_dir(std::env::temp_dir()).output().unwrap()
}

async fn an_unknown_option_is_named_with_the_usage_and_exit_code_two() {
    for word in ["--nonsense", "nonsense", "--tuor"] {
        let output = run(&[word]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.starts_with("error: ") && text.contains(word), "{text}");
        assert!(text.contains("usage:") && output.stdout.is_empty(), "{text}");
    }
}

async fn a_wrong_value_is_named() {
    let wrong: [(&[&str], &str); 5] = [
        (&["--listen", "here"], "here"),
        (&["--listen"], "--listen needs an address"),
        (&["--data", ""], "--data needs a directory"),
        (&["--keep=yes"], "--keep takes no value"),
        (&["--tour", "--keep"], "--tour brings its own"),
    ];
    for (arguments, part) in wrong {
        let output = run(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        assert!(text.contains(part), "{arguments:?}: {text}");
    }
}

async fn help_is_printed_to_standard_output() {
    let output = run(&["--help"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("usage:") && output.stderr.is_empty());
}
