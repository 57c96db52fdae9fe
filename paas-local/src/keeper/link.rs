//! The connection to the keeper: made, kept, and made again.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use paas_core::{Error, ErrorKind, Result};
use tokio::io::{AsyncBufReadExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::client::KeeperOptions;
use super::frame::{Frame, FrameReader, FrameWriter};
use super::model::{KEEPER_MARK, KeeperEvent, PROCESS_MARK, RUN_MARK};
use super::role::{self, DIRECTORY_ENV, OPTIONS_ENV, ROLE_ENV, Report};
use super::wire::{Answer, Ask, Note, PROTOCOL, Request};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
const EVENTS: usize = 8192;

/// An answer with what came along.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) body: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
    /// For a follower: the segments to come, until the connection is lost.
    pub(crate) segments: Option<mpsc::UnboundedReceiver<(u64, OwnedFd)>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The connection broke before the answer came.
    Lost,
    Refused(Error),
}

type Answered = oneshot::Sender<std::result::Result<Reply, Failure>>;

#[derive(Debug)]
struct Call {
    ask: Ask,
    descriptor: Option<Arc<OwnedFd>>,
    answered: Answered,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    options: KeeperOptions,
    events: broadcast::Sender<KeeperEvent>,
    pid: AtomicU32,
    closing: AtomicBool,
    closed: AtomicBool,
    trouble: Mutex<Option<String>>,
}

/// What all handles share.
#[derive(Debug)]
pub(crate) struct Link {
    calls: mpsc::Sender<Call>,
    shared: Arc<Shared>,
}

impl Link {
    pub(crate) async fn open(dir: &Path, options: KeeperOptions) -> Result<Arc<Self>> {
        role::directory(dir).map_err(|error| trouble("cannot use the data directory", dir, error))?;
        let directory =
            dir.canonicalize().map_err(|error| trouble("cannot use the data directory", dir, error))?;
        let shared = Arc::new(Shared {
            directory,
            options,
            events: broadcast::channel(EVENTS).0,
            pid: AtomicU32::new(0),
            closing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            trouble: Mutex::new(None),
        });
        let connection = shared.connect().await?;
        let (calls, received) = mpsc::channel(1024);
        tokio::spawn(keep_connected(shared.clone(), connection, received));
        Ok(Arc::new(Self { calls, shared }))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.shared.pid.load(Ordering::Relaxed)
    }

    pub(crate) fn deadline(&self) -> Duration {
        self.shared.options.deadline
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<KeeperEvent> {
        self.shared.events.subscribe()
    }

    /// Whether the loss of the connection is what is wanted.
    pub(crate) fn close_after_next_loss(&self, wanted: bool) {
        self.shared.closing.store(wanted, Ordering::Relaxed);
    }

    /// One attempt at one call.
    pub(crate) async fn call(
        &self,
        ask: Ask,
        descriptor: Option<Arc<OwnedFd>>,
        deadline: Instant,
    ) -> std::result::Result<Reply, Failure> {
        let (answered, answer) = oneshot::channel();
        let exchange = async {
            // The task behind this channel ends only when the keeper was shut down.
            let call = Call { ask, descriptor, answered };
            self.calls.send(call).await.map_err(|_| Failure::Refused(closed()))?;
            match answer.await {
                Ok(Err(Failure::Lost)) | Err(_) if self.shared.closed.load(Ordering::Relaxed) => {
                    Err(Failure::Refused(closed()))
                }
                Ok(answer) => answer,
                Err(_) => Err(Failure::Lost),
            }
        };
        timeout_at(deadline, exchange).await.unwrap_or_else(|_| {
            let error = Error::new(ErrorKind::Timeout, "the keeper does not answer");
            let error = error.with("directory", self.shared.directory.display());
            let trouble = self.shared.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
            Err(Failure::Refused(match trouble {
                Some(trouble) => error.with("cause", trouble),
                None => error,
            }))
        })
    }
}

fn closed() -> Error {
    Error::unavailable("the keeper was shut down").with("keeper", "closed").permanent()
}

fn trouble(message: &str, dir: &Path, error: impl Into<paas_core::BoxError>) -> Error {
    let error = error.into();
    Error::new(ErrorKind::Unavailable, message)
        .with("directory", dir.display())
        .with("cause", &error)
        .with_source(error)
}

struct Connection {
    stream: UnixStream,
    reader: FrameReader,
    writer: FrameWriter,
}

impl Shared {
    /// Connects and greets, and starts a keeper where there is none.
    async fn connect(&self) -> Result<Connection> {
        let deadline = Instant::now() + self.options.deadline;
        let keeper = self.directory.join("keeper");
        loop {
            match role::connect(&keeper) {
                Ok(socket) => {
                    let greeted = timeout_at(deadline, self.greet(socket)).await.map_err(|_| {
                        let holder = role::holder(&keeper).map_or(0, |holder| holder.pid);
                        Error::new(ErrorKind::Timeout, "the keeper does not answer")
                            .with("directory", self.directory.display())
                            .with("holder", holder)
                    })?;
                    match greeted {
                        Ok(connection) => return Ok(connection),
                        Err(Failure::Refused(error)) => return Err(error),
                        Err(Failure::Lost) => {}
                    }
                }
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
                {
                    timeout_at(deadline, self.start()).await.map_err(|_| {
                        Error::new(ErrorKind::Timeout, "the keeper does not start")
                            .with("directory", self.directory.display())
                    })??;
                    continue;
                }
                // Its queue is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(trouble("cannot connect to the keeper", &self.directory, error)),
            }
            if Instant::now() > deadline {
                let error = Error::new(ErrorKind::Timeout, "the keeper does not answer");
                return Err(error.with("directory", self.directory.display()));
            }
            tokio::time::sleep(FIRST_PAUSE).await;
        }
    }

    /// Runs this very program as the keeper and waits until it serves.
    async fn start(&self) -> Result<()> {
        let failed = |error| trouble("cannot start the keeper", &self.directory, error);
        let options = serde_json::to_string(&self.options).map_err(|error| failed(error.into()))?;
        // This file is the running program, even if another one was installed under its name meanwhile.
        let mut child = Command::new("/proc/self/exe")
            .arg0("paas-keeper")
            .arg(&self.directory)
            .env(ROLE_ENV, "keeper")
            .env(DIRECTORY_ENV, &self.directory)
            .env(OPTIONS_ENV, options)
            .env_remove(PROCESS_MARK)
            .env_remove(KEEPER_MARK)
            .env_remove(RUN_MARK)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).await.map_err(failed)?;
        }
        match serde_json::from_str(&line) {
            Ok(Report::Ready) => Ok(()),
            Ok(Report::Refused(refusal)) => Err(refusal.into()),
            Err(_) => Err(failed(io::Error::other(
                "it ended without a word; does `main` begin with `run_if_asked`?",
            ))),
        }
    }

    async fn greet(&self, socket: OwnedFd) -> std::result::Result<Connection, Failure> {
        let stream = UnixStream::from_std(socket.into()).map_err(|_| Failure::Lost)?;
        let mut connection =
            Connection { stream, reader: FrameReader::default(), writer: FrameWriter::default() };
        let hello = Request { id: 0, ask: Ask::Hello { protocol: PROTOCOL } };
        let exchange = async {
            connection.writer.push(&serde_json::to_vec(&hello)?, &[], Vec::new())?;
            send(&connection.stream, &mut connection.writer).await?;
            loop {
                receive(&connection.stream, &mut connection.reader).await?;
                while let Some(frame) = connection.reader.next()? {
                    match serde_json::from_slice(&frame.json)? {
                        Note::Answer { answer: Answer::Hello { pid, .. }, .. } => return Ok(Ok(pid)),
                        Note::Refused { refusal, .. } => return Ok(Err(refusal)),
                        // Events come later, and then they are a reason to list.
                        _ => {}
                    }
                }
            }
        };
        let greeted: io::Result<_> = exchange.await;
        match greeted {
            Ok(Ok(pid)) => {
                self.pid.store(pid, Ordering::Relaxed);
                Ok(connection)
            }
            Ok(Err(refusal)) => {
                Err(Failure::Refused(Error::from(refusal).with("directory", self.directory.display())))
            }
            Err(_) => Err(Failure::Lost),
        }
    }
}

async fn send(stream: &UnixStream, writer: &mut FrameWriter) -> io::Result<()> {
    stream.async_io(Interest::WRITABLE, || writer.send(stream.as_fd())).await
}

async fn receive(stream: &UnixStream, reader: &mut FrameReader) -> io::Result<()> {
    match stream.async_io(Interest::READABLE, || reader.receive(stream.as_fd())).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

async fn keep_connected(shared: Arc<Shared>, mut connection: Connection, mut calls: mpsc::Receiver<Call>) {
    loop {
        if !serve(&shared, connection, &mut calls).await {
            return;
        }
        if shared.closing.load(Ordering::Relaxed) {
            shared.closed.store(true, Ordering::Relaxed);
            return;
        }
        let mut pause = FIRST_PAUSE;
        connection = loop {
            match shared.connect().await {
                Ok(connection) => break connection,
                Err(error) => {
                    tracing::warn!(%error, "the keeper cannot be reached");
                    *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
                }
            }
            // Nobody left to serve: stop trying.
            if calls.is_closed() {
                return;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        };
        *shared.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let _nobody = shared.events.send(KeeperEvent::Reset);
    }
}

/// Serves one connection; false when nobody calls any more.
async fn serve(shared: &Shared, mut connection: Connection, calls: &mut mpsc::Receiver<Call>) -> bool {
    let mut desk = Desk { next: 1, waiting: HashMap::new(), followers: Vec::new() };
    let goes_on = loop {
        let Connection { stream, reader, writer } = &mut connection;
        let ready = loop {
            match reader.next() {
                Ok(Some(frame)) => {
                    if desk.deliver(shared, frame).is_err() {
                        break false;
                    }
                }
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        if !ready {
            break true;
        }
        let full = writer.waiting() > 0;
        tokio::select! {
            received = receive(stream, reader) => if received.is_err() { break true },
            sent = send(stream, writer), if full => if sent.is_err() { break true },
            call = calls.recv(), if !full => match call {
                Some(call) => desk.dispatch(call, writer),
                None => break false,
            },
        }
    };
    for (_, (answered, _)) in desk.waiting {
        let _gone = answered.send(Err(Failure::Lost));
    }
    goes_on
}

/// Matches answers with calls.
struct Desk {
    next: u64,
    waiting: HashMap<u64, (Answered, bool)>,
    followers: Vec<mpsc::UnboundedSender<(u64, OwnedFd)>>,
}

impl Desk {
    fn dispatch(&mut self, call: Call, writer: &mut FrameWriter) {
        let id = self.next;
        self.next += 1;
        let follows = matches!(call.ask, Ask::Follow);
        let queued =
            serde_json::to_vec(&Request { id, ask: call.ask }).map_err(io::Error::from).and_then(|json| {
                let descriptors = call
                    .descriptor
                    .iter()
                    .map(|descriptor| descriptor.try_clone())
                    .collect::<io::Result<_>>()?;
                writer.push(&json, &[], descriptors)
            });
        match queued {
            Ok(()) => {
                self.waiting.insert(id, (call.answered, follows));
            }
            Err(error) => {
                let error = Error::invalid("the call cannot be sent").with_source(error);
                let _gone = call.answered.send(Err(Failure::Refused(error)));
            }
        }
        // Callers that gave up would pile up.
        if self.waiting.len() > 1024 {
            self.waiting.retain(|_, (answered, _)| !answered.is_closed());
        }
    }

    fn deliver(&mut self, shared: &Shared, mut frame: Frame) -> io::Result<()> {
        match serde_json::from_slice(&frame.json)? {
            Note::Answer { id, answer } => {
                let Some((answered, follows)) = self.waiting.remove(&id) else { return Ok(()) };
                let segments = follows.then(|| {
                    let (sender, receiver) = mpsc::unbounded_channel();
                    self.followers.push(sender);
                    receiver
                });
                let reply = Reply { answer, body: frame.body, descriptors: frame.descriptors, segments };
                let _gone = answered.send(Ok(reply));
            }
            Note::Refused { id, refusal } => {
                if let Some((answered, _)) = self.waiting.remove(&id) {
                    let _gone = answered.send(Err(Failure::Refused(refusal.into())));
                }
            }
            Note::Event { event } => {
                let _nobody = shared.events.send(event);
            }
            Note::Leaving => shared.closing.store(true, Ordering::Relaxed),
            Note::Segment { index } => {
                let Some(segment) = frame.descriptors.pop() else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                self.followers.retain(|follower| {
                    segment.try_clone().is_ok_and(|segment| follower.send((index, segment)).is_ok())
                });
            }
        }
        Ok(())
    }
}
