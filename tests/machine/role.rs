//! Roles of this binary beside those of the machine: a platform to be killed, and a case in a namespace of its own.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use paas::model::AppSpec;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{ChildStdout, Command};

use crate::program::program;
use crate::world::{DEADLINE, Home, World};

/// The role.
pub(crate) const ROLE: &str = "MACHINE_TEST_ROLE";
/// Its directory.
pub(crate) const DIRECTORY: &str = "MACHINE_TEST_DIRECTORY";
/// What the platform deploys, as JSON.
const APP: &str = "MACHINE_TEST_APP";

pub(crate) fn run_if_asked() -> Option<ExitCode> {
    let role = std::env::var(ROLE).ok()?;
    let directory = PathBuf::from(std::env::var_os(DIRECTORY)?);
    let outcome = match role.as_str() {
        "platform" => crate::within(std::time::Duration::from_secs(300), platform(directory)),
        "full-disk" => crate::within(crate::LONGEST, crate::disk::on_a_small_disk(directory)),
        _ => return None,
    };
    Some(if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Opens a platform, deploys if asked to, and goes on until it is killed.
async fn platform(directory: PathBuf) {
    let home = Home::at(directory);
    let world = World::open(&home).await.unwrap();
    // Whatever runs belongs to whoever started this process.
    std::mem::forget(home);
    if let Ok(app) = std::env::var(APP) {
        let app: AppSpec = serde_json::from_str(&app).unwrap();
        world.environment.deploy(&app).await.unwrap();
        say("deploying");
    }
    say("serving");
    std::future::pending::<()>().await;
}

fn say(word: &str) {
    std::io::stdout().write_all(format!("{word}\n").as_bytes()).unwrap();
}

/// A role as a process. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    child: tokio::process::Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// A platform.
    pub(crate) fn platform(directory: &Path, app: Option<&AppSpec>) -> Self {
        let mut command = Command::new(program());
        command.env(ROLE, "platform").env(DIRECTORY, directory);
        if let Some(app) = app {
            command.env(APP, serde_json::to_string(app).unwrap());
        }
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Waits until it says this.
    pub(crate) async fn says(&mut self, word: &str) {
        let said = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if line == word {
                    return;
                }
            }
            panic!("it ended before it said {word}");
        };
        tokio::time::timeout(DEADLINE, said).await.unwrap_or_else(|_| panic!("it never said {word}"));
    }

    /// Kills it as `kill -9` does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}
