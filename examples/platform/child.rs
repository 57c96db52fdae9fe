//! The tour's platform: a child process in a directory of its own, of which nothing is left at the end.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::control::{Ask, Client};

/// How long the platform may take to answer for the first time.
const START: Duration = Duration::from_secs(15);
/// How long it may take to end.
const END: Duration = Duration::from_secs(60);

/// The platform as a child process.
#[derive(Debug)]
pub(crate) struct Platform {
    data: TempDir,
    child: Option<Child>,
}

impl Platform {
    pub(crate) fn new() -> Result<Self, String> {
        let data = tempfile::Builder::new().prefix("paas-tour-").tempdir();
        Ok(Self { data: data.map_err(|error| format!("cannot make a directory: {error}"))?, child: None })
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    fn output(&self) -> PathBuf {
        self.data.path().join("output")
    }

    /// Starts it, and waits until it answers; gives how long that took.
    pub(crate) async fn start(&mut self) -> Result<(Client, Duration), String> {
        let told = |error: std::io::Error| format!("cannot start the platform: {error}");
        let output = File::options().create(true).append(true).open(self.output()).map_err(told)?;
        let errors = output.try_clone().map_err(told)?;
        let began = Instant::now();
        let child = Command::new(std::env::current_exe().map_err(told)?)
            .arg("--data")
            .arg(self.data())
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(told)?;
        let child = self.child.insert(child);
        loop {
            if let Ok(mut client) = Client::connect(&self.data.path().join("data")).await
                && client.ask(&Ask::Pids).await.is_ok()
            {
                return Ok((client, began.elapsed()));
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("the platform ended at once: {status}"));
            }
            if began.elapsed() > START {
                return Err(format!("the platform does not answer after {START:?}"));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Kills it as `kill -9` does.
    pub(crate) async fn kill(&mut self) -> Result<(), String> {
        let mut child = self.child.take().ok_or("the platform does not run")?;
        child.kill().await.map_err(|error| error.to_string())
    }

    /// Ends it as Ctrl-C does, and waits until it has stopped everything.
    pub(crate) async fn interrupt(&mut self) -> Result<(), String> {
        let mut child = self.child.take().ok_or("the platform does not run")?;
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        pid.map_or(Ok(()), |pid| kill_process(pid, Signal::INT)).map_err(|error| error.to_string())?;
        match tokio::time::timeout(END, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(format!("the platform ended with {status}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => {
                let _ = child.kill().await;
                Err(format!("the platform did not end within {END:?}"))
            }
        }
    }

    /// The last lines that it wrote, for whoever wants to know why.
    pub(crate) fn last_lines(&self, count: usize) -> Vec<String> {
        use std::io::{Read, Seek, SeekFrom};
        let mut tail = Vec::new();
        if let Ok(mut output) = File::open(self.output()) {
            let length = output.metadata().map_or(0, |meta| meta.len());
            let _ = output.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)));
            let _ = output.read_to_end(&mut tail);
        }
        let text = String::from_utf8_lossy(&tail);
        let lines: Vec<&str> =
            text.lines().filter(|line| line.contains("platform") || !line.contains(" 20")).collect();
        lines.iter().skip(lines.len().saturating_sub(count)).map(|line| (*line).to_owned()).collect()
    }

    /// Processes of the shop, by role: their command lines name our directory.
    pub(crate) fn shop(&self, role: &str) -> BTreeSet<i32> {
        let program = self.data().join("bundle/shop/shop");
        let start = [program.to_string_lossy().as_bytes(), b"\0", role.as_bytes(), b"\0"].concat();
        processes("cmdline", |line| line == start)
    }

    /// Whatever is left of it: all that has our directory in its command line or environment.
    pub(crate) fn leftovers(&self) -> BTreeSet<i32> {
        let own = self.data.path().to_string_lossy().into_owned();
        let names = |bytes: &[u8]| bytes.windows(own.len()).any(|part| part == own.as_bytes());
        let mut found = processes("cmdline", names);
        found.extend(processes("environ", names));
        found
    }
}

impl Drop for Platform {
    /// The platform first and the keeper next, so that nobody starts anything again; until nothing is left.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
        }
        let until = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            let left = self.leftovers();
            if left.is_empty() || std::time::Instant::now() > until {
                return;
            }
            let keepers = processes("environ", |environ| {
                environ.split(|byte| *byte == 0).any(|variable| variable == b"PAAS_LOCAL_ROLE=keeper")
            });
            let order = keepers.intersection(&left).chain(left.difference(&keepers));
            order.for_each(|pid| kill(*pid));
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

/// Kills a process.
pub(crate) fn kill(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // One that is gone needs no killing.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Other processes whose file in `/proc` is like this. Dead ones have empty files.
fn processes(file: &str, like: impl Fn(&[u8]) -> bool) -> BTreeSet<i32> {
    let own = std::process::id().cast_signed();
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        *pid != own && std::fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| like(&bytes))
    })
    .collect()
}

/// Resident memory of a process in MiB.
pub(crate) fn resident(pid: u64) -> Option<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1_024.0)
}
