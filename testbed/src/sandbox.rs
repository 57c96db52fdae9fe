//! Namespaces of its own for a group of processes: stopping is one kill, and the machine's network and mounts stay as
//! they are.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{Result, cache, command};

/// A group of processes in PID, mount and network namespaces of their own.
pub(crate) struct Sandbox {
    name: &'static str,
    folder: PathBuf,
}

/// Its first process, as the machine sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Init {
    pid: i32,
    /// When it was started, in ticks since boot: a pid alone may have been given to somebody else since.
    started: u64,
}

fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name may have blanks and brackets in it; what follows the last bracket has not.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

impl Sandbox {
    pub(crate) fn new(name: &'static str) -> Result<Self> {
        Ok(Self { name, folder: cache::folder(&format!("state/{name}"))? })
    }

    /// What it keeps: the state of its processes, and their logs.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    fn record(&self) -> PathBuf {
        self.folder.join("init.json")
    }

    /// Its first process, if it lives.
    pub(crate) fn init(&self) -> Option<Init> {
        let record: serde_json::Value = serde_json::from_slice(&fs::read(self.record()).ok()?).ok()?;
        let pid = i32::try_from(record["pid"].as_i64()?).ok()?;
        let init = Init { pid, started: record["started"].as_u64()? };
        (started(pid) == Some(init.started)).then_some(init)
    }

    /// Starts this program again as the first process of new namespaces.
    pub(crate) fn start(&self) -> Result<Init> {
        let log = File::create(self.folder.join("init.log"))?;
        let mut unshare = Command::new("unshare");
        unshare.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc", "--net"]);
        unshare.arg(std::env::current_exe()?).args(["in-sandbox", self.name]);
        unshare.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let outer = unshare.spawn().map_err(|error| format!("cannot run unshare: {error}"))?;
        let children = format!("/proc/{0}/task/{0}/children", outer.id());
        let pid = until(Duration::from_secs(10), "the first process of the sandbox", || {
            Ok(fs::read_to_string(&children)?.trim().parse::<i32>().ok())
        })?;
        let init = Init { pid, started: started(pid).ok_or("the first process has ended at once")? };
        fs::write(self.record(), json!({ "pid": init.pid, "started": init.started }).to_string())?;
        Ok(init)
    }

    /// Ends all of its processes.
    pub(crate) fn stop(&self) -> Result<bool> {
        let Some(init) = self.init() else { return Ok(false) };
        let pid = Pid::from_raw(init.pid).ok_or("a pid is not 0")?;
        kill_process(pid, Signal::KILL)?;
        until(Duration::from_secs(30), "the end of the sandbox", || Ok(self.init().is_none().then_some(())))?;
        fs::remove_file(self.record())?;
        Ok(true)
    }

    /// Runs a program in its network, with the machine's files.
    pub(crate) fn exec(
        &self,
        program: &str,
        arguments: &[&str],
        environment: &[(&str, &Path)],
    ) -> Result<ExitCode> {
        let init = self.init().ok_or("nothing runs; say `up` first")?;
        let mut enter = Command::new("nsenter");
        enter.arg(format!("--net=/proc/{}/ns/net", init.pid)).arg(program).args(arguments);
        let status = command::status(enter.envs(environment.iter().copied()))?;
        Ok(ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)))
    }
}

/// Looks again and again until something is there, or the time is over.
pub(crate) fn until<T>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if Instant::now() >= deadline {
            return Err(format!("{what}: not there after {} s", limit.as_secs()).into());
        }
        #[expect(clippy::disallowed_methods, reason = "nothing asynchronous runs here")]
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_pid_and_its_start() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(started(own).is_some_and(|ticks| ticks > 0));
        assert_eq!(started(-1), None);
    }

    #[test]
    fn a_wait_has_an_end() {
        let error = until(Duration::ZERO, "the moon", || Ok(None::<()>)).unwrap_err();
        assert_eq!(error.to_string(), "the moon: not there after 0 s");
    }
}
