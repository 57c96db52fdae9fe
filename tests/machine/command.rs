//! The example program at the command line.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::cases;
use crate::load::ask;
use crate::world::{DEADLINE, Home, eventually};

cases![
    an_unknown_option_is_named_with_the_usage_and_exit_code_two,
    a_wrong_value_is_named,
    help_is_printed_to_standard_output,
    an_interrupt_stops_everything_in_good_order,
    what_is_kept_serves_on_and_the_next_start_adopts_it,
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
        (&["--tour", "--keep"], "--tour brings a platform and a place of its own"),
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

/// The example as a process that serves in a directory of its own.
struct Serving {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    said: Vec<String>,
}

impl Serving {
    fn start(home: &Home, more: &[&str]) -> Self {
        let mut command = tokio::process::Command::new(example());
        command.arg("--data").arg(home.path()).args(["--listen", "127.0.0.1:0"]).args(more);
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines, said: Vec::new() }
    }

    /// Waits for a line with this in it.
    async fn says(&mut self, part: &str) -> String {
        let said = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                self.said.push(line);
                if let Some(line) = self.said.last().filter(|line| line.contains(part)) {
                    return line.clone();
                }
            }
            panic!("it never said {part:?}, but {:#?}", self.said);
        };
        tokio::time::timeout(DEADLINE, said).await.unwrap_or_else(|_| panic!("it does not say {part:?}"))
    }

    /// Presses Ctrl-C once, and waits for its end in good order.
    async fn interrupt(mut self, last_words: &str) {
        let pid = Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.says(last_words).await;
        let status = tokio::time::timeout(DEADLINE, self.child.wait()).await.unwrap().unwrap();
        assert!(status.success(), "{status}: {:#?}", self.said);
    }
}

async fn an_interrupt_stops_everything_in_good_order() {
    let home = Home::new();
    let mut serving = Serving::start(&home, &[]);
    serving.says("Ctrl-C stops it").await;
    assert!(!home.marked().is_empty());
    serving.interrupt("everything has stopped").await;
    assert_eq!(home.marked(), Vec::<u32>::new());
    eventually("keeper and edge have ended", async || home.roles().is_empty().then_some(())).await;
}

async fn what_is_kept_serves_on_and_the_next_start_adopts_it() {
    let home = Home::new();
    let mut serving = Serving::start(&home, &["--keep"]);
    let line = serving.says("is served at").await;
    let port = line.rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    serving.says("Ctrl-C stops it").await;
    let before = home.marked();
    serving.interrupt("leaves the apps running").await;
    assert!(ask(at, "shop.localhost", "/").await.unwrap().contains("<html"));
    let mut serving = Serving::start(&home, &["--keep"]);
    serving.says("goes on with shop revision 1").await;
    serving.says("Ctrl-C stops it").await;
    assert_eq!(home.marked(), before);
    assert!(ask(at, "shop.localhost", "/").await.unwrap().contains("<html"));
    serving.interrupt("leaves the apps running").await;
}
