//! One instance: what its function gets to work with, and what becomes of it until it is gone.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::BoxFuture;
use paas::model::{Clock, Endpoint, Exit, InstanceId, InstanceState, Role, Workload, WorkloadKey};
use tokio::sync::watch;
use tokio::task::JoinHandle;

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
    pub(crate) place: Place,
    /// The words after the function's name.
    pub(crate) arguments: Vec<String>,
    socket: Option<TcpListener>,
    stop: watch::Receiver<()>,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Instance {
    /// Listens on the instance's port, and is ready with that.
    pub(crate) fn listen(&mut self) -> io::Result<tokio::net::TcpListener> {
        let socket = self.socket.take().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let listener = tokio::net::TcpListener::from_std(socket)?;
        self.place.update(|running| running.status.state = InstanceState::Ready);
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

/// Where an instance stands in its scheduler.
#[derive(Clone)]
pub(crate) struct Place {
    pub(super) inner: Weak<Inner>,
    pub(super) key: WorkloadKey,
    pub(crate) id: InstanceId,
}

impl Place {
    /// Changes what the scheduler says of the instance, unless it was asked to end.
    fn update<T>(&self, change: impl FnOnce(&mut Running) -> T) -> Option<T> {
        self.inner.upgrade()?.update(&self.key, &self.id, change)
    }
}

/// How many of the last lines are kept.
const LINES: usize = 20;
/// The pause before an instance that ended is started again, doubled up to the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs a function again and again in one place.
pub(super) struct Life {
    pub(super) place: Place,
    /// What it was started from, which is what it is started from again.
    pub(super) origin: Workload,
    pub(super) function: Function,
    pub(super) arguments: Vec<String>,
    pub(super) stop: watch::Receiver<()>,
    /// Held over all runs, so that the address stays and connections wait while a crashed instance starts again.
    pub(super) socket: Option<TcpListener>,
}

impl Life {
    pub(super) async fn live(mut self) {
        let mut pause = PAUSE;
        while let Some(exit) = self.run().await {
            let is_task = self.origin.is_task();
            self.place.update(|running| {
                running.status.state =
                    if is_task { InstanceState::Exited } else { InstanceState::BackingOff };
                running.status.last_exit = Some(exit);
            });
            tokio::select! {
                _ = self.stop.changed() => break,
                () = tokio::time::sleep(pause), if !is_task => {}
            }
            pause = LONGEST_PAUSE.min(pause * 2);
            self.place.update(|running| {
                running.status.restarts += 1;
                running.status.state = InstanceState::Starting;
            });
        }
        if let Some(inner) = self.place.inner.upgrade() {
            inner.gone(&self.place.key, &self.place.id);
        }
    }

    /// Runs the function once. `None` where it was asked to end.
    async fn run(&mut self) -> Option<Exit> {
        let lines = Arc::default();
        let now = || Clock::system().now();
        let mut run = match self.start(&lines) {
            Ok(run) => run?,
            Err(error) => return Some(Exit::with_reason(format!("no socket: {error}"), now())),
        };
        let ended = tokio::select! {
            ended = &mut run => ended,
            _ = self.stop.changed() => {
                if tokio::time::timeout(self.origin.template.grace, &mut run).await.is_err() {
                    run.abort();
                    let _aborted = run.await;
                }
                return None;
            }
        };
        let mut exit = match ended {
            Ok(code) => Exit::with_code(code, now()),
            Err(error) if error.is_panic() => Exit::with_reason("it panicked", now()),
            Err(_) => Exit::with_reason("it was killed", now()),
        };
        exit.last_lines = std::mem::take(&mut lines.lock().unwrap_or_else(PoisonError::into_inner));
        Some(exit)
    }

    fn start(&mut self, lines: &Arc<Mutex<Vec<String>>>) -> io::Result<Option<JoinHandle<i32>>> {
        let instance = Instance {
            place: self.place.clone(),
            arguments: self.arguments.clone(),
            socket: self.socket()?,
            stop: self.stop.clone(),
            lines: Arc::clone(lines),
        };
        let function = Arc::clone(&self.function);
        let is_ready = self.socket.is_none() && !self.origin.is_task();
        // Spawned within the update: it cannot be ready before it can be killed.
        Ok(self.place.update(|running| {
            let run = tokio::spawn(async move { function(instance).await });
            running.run = Some(run.abort_handle());
            if is_ready {
                running.status.state = InstanceState::Ready;
            }
            run
        }))
    }

    /// The instance's socket, if it has a port; bound when it is first needed.
    fn socket(&mut self) -> io::Result<Option<TcpListener>> {
        if self.origin.template.port.is_some() && self.socket.is_none() {
            let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_nonblocking(true)?;
            if let Role::Slot(slot) = self.origin.key.role {
                let (instance, address) = (self.place.id.clone(), socket.local_addr()?);
                let endpoint = Endpoint { instance, slot, address };
                self.place.update(|running| running.status.endpoint = Some(endpoint));
            }
            self.socket = Some(socket);
        }
        self.socket.as_ref().map(TcpListener::try_clone).transpose()
    }
}
