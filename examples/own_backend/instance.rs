//! One instance: what a function gets to work with, and what becomes of it from its first start until it is gone.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use paas::model::{Endpoint, Exit, InstanceId, InstanceState, Role, Timestamp, WorkloadKey};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

use super::scheduler::{Inner, Running};

/// A service's program: a function that ends with an exit code. What it spawns must end with it, as in a `JoinSet`.
pub(crate) type Function = Arc<dyn Fn(Instance) -> BoxFuture<'static, i32> + Send + Sync>;

/// Makes a [`Function`] of an `async fn`.
pub(crate) fn function<F, Fut>(function: F) -> Function
where
    F: Fn(Instance) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = i32> + Send + 'static,
{
    Arc::new(move |instance| Box::pin(function(instance)))
}

/// What a function gets to work with.
pub(crate) struct Instance {
    /// Which instance it is.
    pub(crate) id: InstanceId,
    /// The words after the function's name.
    pub(crate) arguments: Vec<String>,
    socket: Option<TcpListener>,
    ready: Box<dyn Fn() + Send + Sync>,
    stop: watch::Receiver<()>,
    lines: Lines,
}

impl Instance {
    /// Listens on the instance's port, and is ready with that.
    pub(crate) fn listen(&mut self) -> io::Result<tokio::net::TcpListener> {
        let socket = self.socket.take().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let listener = tokio::net::TcpListener::from_std(socket)?;
        (self.ready)();
        Ok(listener)
    }

    /// Writes a line; the last ones tell why it ended.
    pub(crate) fn say(&self, line: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.remove(0);
        }
        lines.push(line.to_owned());
    }

    /// Comes back once the instance is asked to end.
    pub(crate) async fn stopped(&mut self) {
        // Nothing is ever sent: the scheduler lets go of the other end.
        let _ended = self.stop.changed().await;
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

/// How many of the last lines are kept.
const LINES: usize = 20;
/// The pauses before an instance that ended is started again: doubled from the shortest to the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(30));

/// Runs a function again and again in one place.
pub(super) struct Life {
    pub(super) inner: Weak<Inner>,
    pub(super) key: WorkloadKey,
    pub(super) id: InstanceId,
    pub(super) function: Function,
    pub(super) arguments: Vec<String>,
    pub(super) has_port: bool,
    pub(super) is_task: bool,
    pub(super) grace: Duration,
    pub(super) stop: watch::Receiver<()>,
    /// Held over all runs, so that the address stays and connections wait while a crashed instance starts again.
    pub(super) socket: Option<TcpListener>,
}

impl Life {
    pub(super) async fn live(mut self) {
        let (mut pause, longest) = PAUSES;
        while let Some(exit) = self.run().await {
            let state = if self.is_task { InstanceState::Exited } else { InstanceState::BackingOff };
            self.update(|running| {
                running.status.state = state;
                running.status.message = Some(exit.to_string());
                running.status.last_exit = Some(exit);
            });
            tokio::select! {
                _ = self.stop.changed() => break,
                () = tokio::time::sleep(pause), if !self.is_task => {}
            }
            pause = longest.min(pause * 2);
            self.update(|running| {
                running.status.restarts += 1;
                running.status.state = InstanceState::Starting;
            });
        }
        if let Some(inner) = self.inner.upgrade() {
            inner.gone(&self.key, &self.id);
        }
    }

    /// Runs the function once. `None` where it was asked to end.
    async fn run(&mut self) -> Option<Exit> {
        let lines = Lines::default();
        let mut run = match self.start(&lines) {
            Ok(run) => run?,
            Err(error) => return Some(exit(|exit| exit.reason = Some(format!("no socket: {error}")))),
        };
        tokio::select! {
            ended = &mut run => Some(exit(|exit| tell(exit, &ended, &lines))),
            _ = self.stop.changed() => {
                if tokio::time::timeout(self.grace, &mut run).await.is_err() {
                    run.abort();
                    let _aborted = run.await;
                }
                None
            }
        }
    }

    fn start(&mut self, lines: &Lines) -> io::Result<Option<JoinHandle<i32>>> {
        let (inner, key, id) = (self.inner.clone(), self.key.clone(), self.id.clone());
        let instance = Instance {
            id: self.id.clone(),
            arguments: self.arguments.clone(),
            socket: self.socket()?,
            ready: Box::new(move || ready(&inner, &key, &id)),
            stop: self.stop.clone(),
            lines: Arc::clone(lines),
        };
        let function = Arc::clone(&self.function);
        let steady = !self.has_port && !self.is_task;
        // Spawned within the update: it cannot be ready before it can be killed.
        Ok(self.update(|running| {
            let run = tokio::spawn(async move { function(instance).await });
            running.run = Some(run.abort_handle());
            if steady {
                running.status.state = InstanceState::Ready;
            }
            run
        }))
    }

    /// The instance's socket, bound when it is first needed.
    fn socket(&mut self) -> io::Result<Option<TcpListener>> {
        if self.has_port && self.socket.is_none() {
            let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            let address = socket.local_addr()?;
            self.socket = Some(socket);
            if let Role::Slot(slot) = self.key.role {
                let endpoint = Endpoint { instance: self.id.clone(), slot, address };
                self.update(|running| running.status.endpoint = Some(endpoint));
            }
        }
        self.socket.as_ref().map(TcpListener::try_clone).transpose()
    }

    fn update<T>(&self, change: impl FnOnce(&mut Running) -> T) -> Option<T> {
        self.inner.upgrade()?.update(&self.key, &self.id, change)
    }
}

fn ready(inner: &Weak<Inner>, key: &WorkloadKey, id: &InstanceId) {
    if let Some(inner) = inner.upgrade() {
        inner.update(key, id, |running| {
            running.status.state = InstanceState::Ready;
            running.status.message = None;
        });
    }
}

fn exit(fill: impl FnOnce(&mut Exit)) -> Exit {
    let mut exit = Exit::default();
    exit.at = Timestamp::from(std::time::SystemTime::now());
    fill(&mut exit);
    exit
}

fn tell(exit: &mut Exit, ended: &Result<i32, JoinError>, lines: &Lines) {
    exit.last_lines = std::mem::take(&mut lines.lock().unwrap_or_else(PoisonError::into_inner));
    match ended {
        Ok(code) => exit.code = Some(*code),
        Err(error) if error.is_panic() => exit.reason = Some("it panicked".to_owned()),
        Err(_) => exit.reason = Some("it was killed".to_owned()),
    }
}
