//! What the tests of several stores share.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use paas_core::model::{Resource, Scope, TenantId};

use crate::DataDir;

/// A scope that allows everything.
pub(crate) fn scope() -> Scope {
    Scope::testing(Resource::Platform)
}

pub(crate) fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}

/// A data directory that is removed at the end of the test.
pub(crate) async fn data() -> (tempfile::TempDir, Arc<DataDir>) {
    let root = tempfile::tempdir().unwrap();
    let data = DataDir::open(root.path().join("data")).await.unwrap();
    (root, data)
}

const DIRECTORY: &str = "PAAS_LOCAL_TEST_DIRECTORY";

/// The directory a role works in; `None` in an ordinary run of the tests, where roles have nothing to do.
pub(crate) fn role() -> Option<std::path::PathBuf> {
    std::env::var_os(DIRECTORY).map(Into::into)
}

/// Runs one test of this binary as a child process: a role.
pub(crate) fn play(test: &str, directory: &Path) -> Role {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    Role { child, lines }
}

pub(crate) struct Role {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Role {
    /// What the role says next after the word `says`; `None` at its end, and for a line that was cut off.
    pub(crate) fn next(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if let (Some((_, said)), true) = (line.split_once("says "), line.ends_with('\n')) {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    /// Ends it as the kernel would, and gives all that it said before.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().unwrap();
        let mut said = Vec::new();
        while let Some(line) = self.next() {
            said.push(line);
        }
        self.child.wait().unwrap();
        said
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> (bool, Vec<String>) {
        let mut said = Vec::new();
        while let Some(line) = self.next() {
            said.push(line);
        }
        (self.child.wait().unwrap().success(), said)
    }
}
