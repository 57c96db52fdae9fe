//! One run of a process: starting it, its pipes, finding it again.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Instant, SystemTime};

use paas_core::ErrorKind;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, WaitId, WaitIdOptions};

use super::kin::{self, Marked, RunMark};
use super::model::{Ended, Exit, KEEPER_MARK, PROCESS_MARK, ProcessSpec, RUN_MARK};
use super::wire::Refusal;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The keeper's end of a pipe, and how many bytes came through it in this life of the keeper.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) end: OwnedFd,
    pub(crate) bytes: u64,
}

/// A process that was started or found.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) pid: Pid,
    pub(crate) start: u64,
    /// False if another keeper started it: then its exit code cannot be had.
    pub(crate) child: bool,
    pub(crate) watch: OwnedFd,
    pub(crate) out: Option<Pipe>,
    pub(crate) err: Option<Pipe>,
    pub(crate) began: Instant,
    pub(crate) ended: Option<Ended>,
}

/// What every process of a keeper is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks<'a> {
    pub(crate) identity: &'a str,
    pub(crate) incarnation: u64,
    /// The limit on descriptors that the keeper itself was started with.
    pub(crate) descriptors: Rlimit,
}

impl Run {
    /// Starts the process, in its own process group, by the fast path of `std`.
    pub(crate) fn start(spec: &ProcessSpec, marks: Marks<'_>) -> Result<Self, Refusal> {
        let program = executable(spec)?;
        let failed = |error: &io::Error| {
            Refusal::io("cannot start the process", error)
                .with("path", program.display())
                .with("process", &spec.id)
        };
        let (out, child_out) = pipe().map_err(|error| failed(&error))?;
        let (err, child_err) = pipe().map_err(|error| failed(&error))?;
        let inode = |pipe: &OwnedFd| rustix::fs::fstat(pipe).map(|stat| stat.st_ino);
        let mark = RunMark {
            generation: spec.generation,
            incarnation: marks.incarnation,
            out: inode(&out).map_err(|error| failed(&error.into()))?,
            err: inode(&err).map_err(|error| failed(&error.into()))?,
        };
        let child = Command::new(&program)
            .arg0(&spec.argv[0])
            .args(&spec.argv[1..])
            .env_clear()
            .envs(spec.variables())
            .env(PROCESS_MARK, &spec.id)
            .env(KEEPER_MARK, marks.identity)
            .env(RUN_MARK, mark.to_string())
            .current_dir(&spec.dir)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(child_out)
            .stderr(child_err)
            .spawn()
            .map_err(|error| failed(&error))?;
        let pid = Pid::from_child(&child);
        // The keeper needs many descriptors; its children get the limit they would have had without it.
        let _best_effort = rustix::process::prlimit(Some(pid), Resource::Nofile, marks.descriptors);
        let start = kin::stat(pid.as_raw_pid()).map_or(0, |stat| stat.start);
        let watch = rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(|error| {
            kin::signal_group(pid, rustix::process::Signal::KILL);
            failed(&error.into())
        })?;
        Ok(Self {
            pid,
            start,
            child: true,
            watch,
            out: Some(Pipe { end: out, bytes: 0 }),
            err: Some(Pipe { end: err, bytes: 0 }),
            began: Instant::now(),
            ended: None,
        })
    }

    /// Takes over a process that another keeper started, with the pipes that it or one of its `kin` still holds.
    pub(crate) fn adopt(main: &Marked, kin: &[&Marked]) -> Option<Self> {
        let pid = Pid::from_raw(main.pid)?;
        let watch = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
        if kin::stat(main.pid).is_none_or(|stat| stat.start != main.stat.start || stat.zombie) {
            return None;
        }
        let find = |inode| {
            std::iter::once(main).chain(kin.iter().copied()).find_map(|marked| find_pipe(marked.pid, inode))
        };
        Some(Self {
            pid,
            start: main.stat.start,
            child: false,
            watch,
            out: find(main.run.out),
            err: find(main.run.err),
            began: Instant::now(),
            ended: None,
        })
    }

    /// The pipes that it and what it forked write to, as the kernel numbers them.
    pub(crate) fn pipes(&self) -> Vec<u64> {
        let held = [&self.out, &self.err].into_iter().flatten();
        held.filter_map(|pipe| Some(rustix::fs::fstat(&pipe.end).ok()?.st_ino)).collect()
    }

    /// How it ended, if it has. The process stays unreaped, so its pid and group stay its own.
    pub(crate) fn look(&self) -> Option<Ended> {
        let exit = if self.child {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            let status = match rustix::process::waitid(WaitId::Pid(self.pid), options) {
                Ok(status) => status?,
                Err(_) => return Some(Ended { exit: Exit::Unknown, at: SystemTime::now() }),
            };
            match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => Exit::Code(code),
                (None, Some(signal)) => Exit::Signal(signal),
                (None, None) => Exit::Unknown,
            }
        } else {
            let mut polled = [rustix::event::PollFd::new(&self.watch, rustix::event::PollFlags::IN)];
            let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            if rustix::event::poll(&mut polled, Some(&zero)).unwrap_or(0) == 0 {
                return None;
            }
            Exit::Unknown
        };
        Some(Ended { exit, at: SystemTime::now() })
    }

    /// Reaps it; only after its end is written down.
    pub(crate) fn reap(&self) {
        if self.child {
            reap(self.pid);
        }
    }
}

/// Reaps a child if it has ended.
pub(crate) fn reap(pid: Pid) {
    let _not_ours = rustix::process::waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}

/// A pipe whose writing end is open for reading too: the child itself keeps it alive when the keeper dies.
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let both = reopen_descriptor(write.as_fd(), OFlags::RDWR)?;
    rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK)?;
    Ok((read, both))
}

fn reopen_descriptor(descriptor: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens the pipe of that inode once more, wherever the process holds it: a shell moves its descriptors about.
fn find_pipe(pid: i32, inode: u64) -> Option<Pipe> {
    // A descriptor can move while we look.
    (0..3).find_map(|_| {
        fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten().find_map(|entry| {
            let path = entry.path();
            let fits = |meta: fs::Metadata| meta.ino() == inode && meta.file_type().is_fifo();
            fs::metadata(&path).ok().filter(|meta| fits(meta.clone()))?;
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let end = fs::File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
            end.metadata().is_ok_and(fits).then(|| Pipe { end: end.into(), bytes: 0 })
        })
    })
}

/// Finds the program before anything starts, so that the error can say what is wrong.
fn executable(spec: &ProcessSpec) -> Result<PathBuf, Refusal> {
    let refuse = |kind, message: &str, path: &Path| {
        Refusal::new(kind, message).with("path", path.display()).with("process", &spec.id)
    };
    match fs::metadata(&spec.dir) {
        Ok(meta) if meta.is_dir() => {}
        Ok(_) => {
            return Err(refuse(ErrorKind::Invalid, "the working directory is not a directory", &spec.dir));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refuse(ErrorKind::NotFound, "the working directory does not exist", &spec.dir));
        }
        Err(error) => {
            return Err(
                Refusal::io("cannot use the working directory", &error).with("path", spec.dir.display())
            );
        }
    }
    let name = &spec.argv[0];
    let runs = |path: &Path| {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        let path = spec.dir.join(name);
        return match fs::metadata(&path) {
            Err(_) => Err(refuse(ErrorKind::NotFound, "the executable does not exist", &path)),
            Ok(_) if runs(&path) => Ok(path),
            Ok(_) => Err(refuse(ErrorKind::Denied, "the file is not executable", &path)),
        };
    }
    let path = spec.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    std::env::split_paths(path)
        .map(|directory| spec.dir.join(directory).join(name))
        .find(|candidate| runs(candidate))
        .ok_or_else(|| refuse(ErrorKind::NotFound, "the executable is not in PATH", Path::new(name)))
}
