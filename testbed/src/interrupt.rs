//! A run that is to end early, by Ctrl-C or SIGTERM: what it waits for is ended, and then it can stop what it started.
//!
//! What is waited for meanwhile leads a process group of its own. So the terminal tells only the testbed, and whoever sends
//! a signal to the testbed alone gets the same.

use std::fmt;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::Result;

/// How long what is told to end may take.
const GRACE: Duration = Duration::from_secs(10);

static ASKED: OnceLock<Asked> = OnceLock::new();

/// From now on Ctrl-C and SIGTERM end what is waited for, and not the testbed itself.
pub(crate) fn listen() -> Result<()> {
    if ASKED.get().is_none() {
        drop(ASKED.set(Asked::listen()?));
    }
    Ok(())
}

/// # Errors
/// That the run is to end.
pub(crate) fn check() -> Result<()> {
    ASKED.get().map_or(Ok(()), Asked::check)
}

/// How the testbed ends after that.
pub(crate) fn code() -> Option<ExitCode> {
    let Interrupted(signal) = *check().err()?.downcast_ref()?;
    Some(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)))
}

/// Starts what is then waited for.
pub(crate) fn spawn(command: &mut Command) -> Result<Child> {
    if let Some(asked) = ASKED.get() {
        asked.check()?;
        command.process_group(0);
    }
    let name = command.get_program().to_string_lossy().into_owned();
    command.spawn().map_err(|error| format!("cannot run {name}: {error}").into())
}

/// Waits for the end of what [`spawn`] has started.
///
/// # Errors
/// That the run is to end; nothing of what was waited for is left then.
pub(crate) fn wait(child: &mut Child) -> Result<ExitStatus> {
    match ASKED.get() {
        Some(asked) => asked.wait(child),
        None => Ok(child.wait()?),
    }
}

/// The run is to end, because of this signal.
#[derive(Debug)]
struct Interrupted(usize);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether the run is to end.
#[derive(Debug)]
struct Asked {
    /// The last signal that says so; 0 before the first.
    signal: Arc<AtomicUsize>,
    /// Brings a byte for each.
    each: UnixStream,
}

impl Asked {
    fn listen() -> io::Result<Self> {
        let (each, tell) = UnixStream::pair()?;
        each.set_nonblocking(true)?;
        let signal = Arc::new(AtomicUsize::new(0));
        for (number, value) in [(SIGINT, 2), (SIGTERM, 15)] {
            signal_hook::flag::register_usize(number, Arc::clone(&signal), value)?;
            signal_hook::low_level::pipe::register(number, tell.try_clone()?)?;
        }
        Ok(Self { signal, each })
    }

    fn check(&self) -> Result<()> {
        match self.signal.load(Ordering::SeqCst) {
            0 => Ok(()),
            signal => Err(Interrupted(signal).into()),
        }
    }

    /// At the first signal the child's group is told to end; where it takes too long, or another signal comes, it is killed.
    fn wait(&self, child: &mut Child) -> Result<ExitStatus> {
        let group = Pid::from_child(child);
        let end = pidfd_open(group, PidfdFlags::empty())?;
        let mut until: Option<Instant> = None;
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let (has_ended, signals) = self.next(&end, left)?;
            if has_ended {
                break;
            }
            let is_late = until.is_some_and(|until| Instant::now() >= until);
            if is_late || signals > usize::from(until.is_none()) {
                kill_process_group(group, Signal::KILL)?;
                until = None;
            } else if signals > 0 {
                kill_process_group(group, Signal::TERM)?;
                until = Some(Instant::now() + GRACE);
            }
        }
        let asked = self.check();
        if asked.is_err() {
            // What it has started itself. Its own number is not given to anybody else before it was waited for.
            kill_process_group(group, Signal::KILL).ok();
        }
        let status = child.wait()?;
        asked.map(|()| status)
    }

    /// Waits until the child has ended, signals have come or the time is over: whether it has, and how many came.
    fn next(&self, end: &impl std::os::fd::AsFd, time: Option<Duration>) -> Result<(bool, usize)> {
        let time = time.map(Timespec::try_from).transpose()?;
        let mut both = [PollFd::new(end, PollFlags::IN), PollFd::new(&self.each, PollFlags::IN)];
        match poll(&mut both, time.as_ref()) {
            // By the very signal that the next look finds.
            Err(rustix::io::Errno::INTR) => return Ok((false, 0)),
            outcome => outcome?,
        };
        let has_ended = !both[0].revents().is_empty();
        let mut bytes = [0; 16];
        Ok((has_ended, (&self.each).read(&mut bytes).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use rustix::process::{getpid, kill_process};

    use super::*;

    /// A shell that has done this, and then goes on for ever.
    fn shell(first: &str) -> Child {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{first}; echo ready; exec sleep 1000")]);
        let mut child = shell.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        child
    }

    fn is_left(group: Pid) -> bool {
        rustix::process::test_kill_process_group(group).is_ok()
    }

    // One case: a signal is for the whole process.
    #[test]
    fn a_signal_ends_what_is_waited_for() {
        let asked = Asked::listen().unwrap();
        let mut brief = Command::new("true").process_group(0).spawn().unwrap();
        assert!(asked.wait(&mut brief).unwrap().success());

        let mut child = shell(":");
        let group = Pid::from_child(&child);
        kill_process(getpid(), Signal::INT).unwrap();
        let error = asked.wait(&mut child).unwrap_err();
        assert_eq!(error.downcast_ref::<Interrupted>().map(|own| own.0), Some(2));
        assert!(!is_left(group));

        // Told twice, one that does not care is not waited for.
        let mut child = shell("trap '' TERM INT");
        let (group, began) = (Pid::from_child(&child), Instant::now());
        // Two of one kind may come as one.
        kill_process(getpid(), Signal::INT).unwrap();
        kill_process(getpid(), Signal::TERM).unwrap();
        assert!(asked.wait(&mut child).is_err());
        assert!(began.elapsed() < GRACE && !is_left(group));
    }
}
