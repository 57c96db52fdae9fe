//! Becoming the keeper: the role, its directory, its lock, its socket.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use paas_core::ErrorKind;
use rustix::event::epoll;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};

use super::client::KeeperOptions;
use super::entry::Core;
use super::intent::Intents;
use super::journal::Journal;
use super::kin;
use super::server::Server;
use super::socket::Sockets;
use super::spool::Spool;
use super::table::Table;
use super::wire::Refusal;

/// Which role a re-executed binary has: `keeper` or `edge`.
pub const ROLE_ENV: &str = "PAAS_LOCAL_ROLE";
/// The data directory, for the role `keeper`.
pub(crate) const DIRECTORY_ENV: &str = "PAAS_LOCAL_DIR";
/// [`KeeperOptions`] as JSON, for the role `keeper`.
pub(crate) const OPTIONS_ENV: &str = "PAAS_LOCAL_OPTIONS";
const SOCKET: &str = "socket";

/// Who holds a directory, as written in its lock file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) role: String,
    pub(crate) pid: u32,
}

/// What a keeper that was started says on its standard output, once.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// It serves, or another one does already.
    Ready,
    Refused(Refusal),
}

/// Runs the keeper if this process was started as one: call it first in `main`, before there are threads.
#[must_use]
pub fn run_if_asked() -> Option<ExitCode> {
    if std::env::var_os(ROLE_ENV)? != "keeper" {
        return None;
    }
    let report = |report: &Report| {
        let mut line = serde_json::to_vec(report).unwrap_or_default();
        line.push(b'\n');
        let _nobody_listens = io::stdout().write_all(&line).and_then(|()| io::stdout().flush());
    };
    Some(match run(report) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            report(&Report::Refused(refusal));
            ExitCode::FAILURE
        }
    })
}

fn run(report: impl Fn(&Report)) -> Result<(), Refusal> {
    let dir = std::env::var_os(DIRECTORY_ENV)
        .map(PathBuf::from)
        .ok_or_else(|| Refusal::invalid("PAAS_LOCAL_DIR is not set"))?;
    let options: KeeperOptions = match std::env::var(OPTIONS_ENV) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| Refusal::invalid("PAAS_LOCAL_OPTIONS is wrong").with("cause", error))?,
        Err(_) => KeeperOptions::default(),
    };
    let wrong = |error: io::Error| {
        Refusal::io("cannot use the data directory", &error).with("directory", dir.display())
    };
    let keeper = directory(&dir).map_err(wrong)?;
    let Some(_lock) = lock(&dir, &keeper)? else {
        report(&Report::Ready);
        return Ok(());
    };
    let mut journal = Journal::open(&keeper);
    let trouble = keeper.clone();
    std::panic::set_hook(Box::new(move |info| Journal::open(&trouble).note("panic", info)));
    detach();
    // Signals first: a child that ends before is not announced.
    let signals = signals().map_err(wrong)?;
    let server = open(&keeper, &options, &mut journal, signals).map_err(|error| {
        journal.note("cannot start", &error);
        wrong(error)
    })?;
    report(&Report::Ready);
    server.run().map_err(|error| {
        journal.note("the loop failed", error);
        wrong(error.into())
    })
}

fn open(
    keeper: &Path,
    options: &KeeperOptions,
    journal: &mut Journal,
    signals: [OwnedFd; 2],
) -> io::Result<Server> {
    let intents = Intents::open(keeper);
    let (stored, troubles) = intents.load()?;
    for trouble in troubles {
        journal.note("cannot read an intent", trouble);
    }
    let identity = intents.identity()?;
    let life = intents.next_life()?;
    let socket = bind(keeper)?;
    let sockets = Sockets::open(&intents, journal);
    let core = Core {
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        spool: Spool::new(life, options.segment_bytes, options.spool_bytes, options.tail_bytes),
        intents,
        journal: Journal::open(keeper),
        identity,
        boot: kin::boot_id(),
        descriptors: raise_descriptors(),
        effects: Vec::new(),
        last_incarnation: 0,
    };
    let mut table = Table::new(core);
    table.adopt(stored);
    Ok(Server::new(table, sockets, socket, signals))
}

/// `<dir>/keeper`, for our eyes only.
pub(crate) fn directory(dir: &Path) -> io::Result<PathBuf> {
    let keeper = dir.join("keeper");
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&keeper)?;
    Ok(keeper)
}

/// Takes the directory. `None` if another keeper serves it already.
fn lock(dir: &Path, keeper: &Path) -> Result<Option<File>, Refusal> {
    let wrong = |error: io::Error| {
        Refusal::io("cannot lock the data directory", &error).with("directory", dir.display())
    };
    let path = keeper.join("lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(wrong)?;
    let mut tries = 0;
    while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(wrong(error.into()));
        }
        if connect(keeper).is_ok() {
            return Ok(None);
        }
        // A keeper that was killed may still be dying, one that starts may not listen yet.
        tries += 1;
        if tries > 100 {
            let holder = holder(keeper);
            let refusal = Refusal::new(ErrorKind::Conflict, "the data directory is held by another process");
            let holder =
                holder.map_or("unknown".to_owned(), |holder| format!("{}, pid {}", holder.role, holder.pid));
            return Err(refusal.with("directory", dir.display()).with("holder", holder));
        }
        let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        let _interrupted = rustix::event::poll(&mut [], Some(&pause));
    }
    let holder = Holder { role: "keeper".into(), pid: std::process::id() };
    file.set_len(0).and_then(|()| file.write_all(&serde_json::to_vec(&holder)?)).map_err(wrong)?;
    Ok(Some(file))
}

/// Who holds the directory, as far as the lock file says.
pub(crate) fn holder(keeper: &Path) -> Option<Holder> {
    serde_json::from_slice(&fs::read(keeper.join("lock")).ok()?).ok()
}

/// Leaves the platform's session, and becomes the parent of what our processes leave behind.
fn detach() {
    let _leader_already = rustix::process::setsid();
    let _best_effort = std::env::set_current_dir("/");
    let _best_effort = fs::write("/proc/self/comm", "paas-keeper");
    let _best_effort = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Two pipes: one readable after SIGCHLD, one after SIGTERM or SIGINT.
fn signals() -> io::Result<[OwnedFd; 2]> {
    use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};
    let pipe =
        || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK);
    let (child_ended, child) = pipe()?;
    let (asked, ask) = pipe()?;
    signal_hook::low_level::pipe::register(SIGCHLD, child)?;
    signal_hook::low_level::pipe::register(SIGINT, ask.try_clone()?)?;
    signal_hook::low_level::pipe::register(SIGTERM, ask)?;
    // A terminal that closes is none of the keeper's business.
    signal_hook::flag::register(SIGHUP, std::sync::Arc::default())?;
    Ok([child_ended, asked])
}

/// Two pipes and a pidfd a process: raises the limit as far as it goes, and returns what it was.
fn raise_descriptors() -> Rlimit {
    let before = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: before.maximum, ..before };
    let _best_effort = rustix::process::setrlimit(Resource::Nofile, raised);
    before
}

/// The socket's address by way of a descriptor: it fits however long the directory's path is.
fn address(keeper: &Path) -> io::Result<(OwnedFd, SocketAddrUnix)> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(keeper, flags, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))?;
    Ok((directory, address))
}

fn bind(keeper: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(keeper.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let (_directory, address) = address(keeper)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, 128)?;
    Ok(socket)
}

/// Connects to the keeper of a directory, if one runs.
pub(crate) fn connect(keeper: &Path) -> io::Result<OwnedFd> {
    let (_directory, address) = address(keeper)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &address)?;
    Ok(socket)
}
