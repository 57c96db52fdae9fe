//! The tour's platform: a child process in a directory of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::control::{Ask, Client};

/// How long the platform may take to answer for the first time.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end.
const END: Duration = Duration::from_secs(60);

/// The platform as a child process.
#[derive(Debug)]
pub(crate) struct Platform {
    folder: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Platform {
    /// One that has a directory for itself, and is started with these arguments beside it.
    pub(crate) fn new(folder: &Path, arguments: Vec<String>) -> Self {
        Self { folder: folder.to_owned(), arguments, child: None }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn output(&self) -> PathBuf {
        self.folder.join("output")
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
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(told)?;
        let data = self.data();
        let child = self.child.insert(child);
        loop {
            if let Ok(mut client) = Client::connect(&data).await
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
}

impl Drop for Platform {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
        }
    }
}

/// Resident memory of a process in MiB.
pub(crate) fn resident(pid: u64) -> Option<f64> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches(" kB").trim().parse::<f64>().ok()? / 1_024.0)
}
