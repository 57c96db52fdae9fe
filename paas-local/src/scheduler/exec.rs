//! Commands that people run beside an instance.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use paas_core::model::{
    Clock, ExecInput, ExecOutput, ExecRequest, Exit, InstanceId, InstanceState, Scope, WorkloadKey,
};
use paas_core::port::{EXEC_PIECE, Exec, ExecCapabilities, ExecReader, ExecSession, Hints};
use paas_core::{Error, ErrorKind, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::instance::Instance;
use super::{Inner, LocalScheduler};
use crate::keeper::signal_group;

/// How long what comes from a command is waited for after it has ended: something that left its group may hold its pipes.
const STRAY: Duration = Duration::from_secs(1);

#[async_trait]
impl Exec for LocalScheduler {
    fn capabilities(&self) -> ExecCapabilities {
        let mut capabilities = ExecCapabilities::none();
        capabilities.ends = true;
        capabilities
    }

    async fn exec(
        &self,
        scope: &Scope,
        workload: &WorkloadKey,
        instance: &InstanceId,
        request: &ExecRequest,
    ) -> Result<ExecSession> {
        self.inner.fence.see(scope);
        request.check()?;
        if request.terminal.is_some() {
            return Err(Error::new(ErrorKind::Unsupported, "commands have no terminal on this machine"));
        }
        // Watched before the first look: an end in between is not missed.
        let changes = self.inner.feed.watch_all();
        let (command, run) = self.inner.command(workload, instance, request)?;
        let group = Group::start(command, request)?;
        let ended = ended(Arc::downgrade(&self.inner), instance.clone(), run, changes);
        let clock = self.inner.clock.clone();
        Ok(ExecSession::start(request, |input, reader| async move {
            tokio::select! {
                end = group.run(input, reader, clock) => end,
                () = ended => Err(Error::unavailable("the instance has ended").permanent()),
            }
        }))
    }
}

impl Inner {
    /// The command as it runs beside an instance, and the run of the instance that it is beside of.
    fn command(
        &self,
        workload: &WorkloadKey,
        id: &InstanceId,
        request: &ExecRequest,
    ) -> Result<(Command, u64)> {
        let (note, launch, run) = {
            let mut pool = self.pool();
            let missing = || Error::not_found("the workload has no such instance").with("instance", id);
            pool.key(id).filter(|key| *key == workload).ok_or_else(missing)?;
            let launch = pool.launch(id).cloned();
            let found = pool.instance(id).ok_or_else(missing)?;
            let idle = || Error::conflict("the instance does not run").with("instance", id);
            (found.note.clone(), launch, run_of(found).ok_or_else(idle)?)
        };
        let unknown = || {
            Error::unavailable(
                "the instance runs another template than its service has now, or was found after a restart a moment \
                 ago: its secrets are not known",
            )
            .with("instance", id)
        };
        Ok((launch.ok_or_else(unknown)?.exec(self, &note, id, &request.command)?, run))
    }
}

/// The run that an instance is in, if any.
fn run_of(instance: &Instance) -> Option<u64> {
    let runs = !matches!(instance.state, InstanceState::BackingOff | InstanceState::Exited);
    Some(instance.run).filter(|run| runs && *run != 0)
}

/// Comes to its end once an instance is in this run no more.
async fn ended(inner: Weak<Inner>, id: InstanceId, run: u64, mut changes: Hints) {
    let runs = || {
        inner
            .upgrade()
            .is_some_and(|inner| inner.pool().instance(&id).and_then(|own| run_of(own)) == Some(run))
    };
    while runs() && changes.next().await.is_some() {}
}

/// A process and all that it forked; dropped, they are killed.
struct Group {
    child: Child,
    pid: Pid,
}

impl Drop for Group {
    fn drop(&mut self) {
        // Until it is reaped, the group's number is nobody else's.
        if self.child.id().is_some() {
            signal_group(self.pid, Signal::KILL);
        }
    }
}

impl Group {
    fn start(mut command: Command, request: &ExecRequest) -> Result<Self> {
        let stdin = if request.input { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = command.process_group(0).kill_on_drop(true).spawn();
        let child = started.map_err(|cause| refused(&request.command.arguments()[0], cause))?;
        let raw = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = raw.and_then(Pid::from_raw).ok_or_else(|| Error::internal("a process has no number"))?;
        Ok(Self { child, pid })
    }

    /// Passes everything on until it has ended.
    async fn run(
        mut self,
        input: mpsc::Receiver<ExecInput>,
        reader: ExecReader,
        clock: Clock,
    ) -> Result<Exit> {
        let stdin = self.child.stdin.take();
        let (stdout, stderr) = (self.child.stdout.take(), self.child.stderr.take());
        let (ended, has_ended) = watch::channel(());
        let all = async {
            let (status, out, err) = tokio::join!(
                self.end(ended),
                copy(stdout, &reader, ExecOutput::Stdout, has_ended.clone()),
                copy(stderr, &reader, ExecOutput::Stderr, has_ended.clone()),
            );
            let status = status.map_err(broken)?;
            out.and(err).map(|()| exit(status, &clock))
        };
        let feeding = async {
            feed(stdin, input).await;
            // It may run on without input.
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = all => outcome,
            () = feeding => Err(Error::internal("what waits for ever has ended")),
        }
    }

    /// Waits until it has ended, ends what it left in its group, and only then gives its number back. That it has ended is
    /// told by dropping `ended`.
    async fn end(&mut self, ended: watch::Sender<()>) -> io::Result<ExitStatus> {
        // Listened to before the first look: what ends in between is not missed.
        let mut children = signal(SignalKind::child())?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while rustix::process::waitid(WaitId::Pid(self.pid), options)?.is_none() {
            if children.recv().await.is_none() {
                break;
            }
        }
        signal_group(self.pid, Signal::KILL);
        let status = self.child.wait().await;
        drop(ended);
        status
    }
}

fn refused(program: &str, cause: io::Error) -> Error {
    let kind = match cause.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, "the program cannot be started: it, or the instance's directory, is not as it should be")
        .with("program", program)
        .with("cause", &cause)
        .with_source(cause)
}

fn broken(cause: io::Error) -> Error {
    Error::internal("the command is lost").with("cause", &cause).with_source(cause)
}

fn exit(status: ExitStatus, clock: &Clock) -> Exit {
    let mut exit = Exit::default();
    (exit.code, exit.signal, exit.at) = (status.code(), status.signal(), clock.now());
    exit
}

async fn feed(stdin: Option<ChildStdin>, mut input: mpsc::Receiver<ExecInput>) {
    let Some(mut stdin) = stdin else { return };
    while let Some(item) = input.recv().await {
        if let ExecInput::Stdin(bytes) = item
            && stdin.write_all(&bytes).await.is_err()
        {
            // It reads no more, which is its own business.
            return;
        }
    }
}

async fn copy(
    stream: Option<impl AsyncRead + Unpin>,
    reader: &ExecReader,
    kind: fn(Bytes) -> ExecOutput,
    mut ended: watch::Receiver<()>,
) -> Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    let mut piece = vec![0; EXEC_PIECE];
    loop {
        let has_ended = ended.has_changed().is_err();
        let read = if has_ended {
            match tokio::time::timeout(STRAY, stream.read(&mut piece)).await {
                Ok(read) => read,
                Err(_) => return Ok(()),
            }
        } else {
            tokio::select! {
                read = stream.read(&mut piece) => read,
                _ = ended.changed() => continue,
            }
        };
        match read.map_err(broken)? {
            0 => return Ok(()),
            length => reader.put(kind(Bytes::copy_from_slice(&piece[..length]))).await?,
        }
    }
}
