//! The control socket's server.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use paas_core::{Error, ErrorKind, Result};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use super::state::State;
use super::usage::Event;
use super::wire::{self, Failed, Hello, MAX_REPLY, MAX_REQUEST, Reply, Request};

/// The most control connections at a time.
const MAX_CONNECTIONS: usize = 256;
/// How long a reader may take for one reply.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The control socket's own thread: changes get through however busy the workers are.
#[derive(Debug)]
pub(crate) struct Control {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    pub(crate) fn start(state: Arc<State>, listener: std::os::unix::net::UnixListener) -> Result<Self> {
        let failed = |e| Error::unavailable("cannot start the control thread").with_source(e);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .thread_name("edge-disk")
            .enable_all()
            .build()
            .map_err(failed)?;
        let listener = {
            let _context = runtime.enter();
            UnixListener::from_std(listener).map_err(failed)?
        };
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            // A change is short and somebody waits for it; without the right to go first it waits its turn.
            let _ = rustix::process::setpriority_process(None, -10);
            runtime.block_on(async {
                tokio::select! {
                    () = serve(state, listener) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread =
            std::thread::Builder::new().name("edge-control".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves control connections for ever.
pub(crate) async fn serve(state: Arc<State>, listener: UnixListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // They end with this task.
    let mut conversations = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let state = state.clone();
                while conversations.try_join_next().is_some() {}
                conversations.spawn(async move {
                    if let Err(error) = converse(&state, stream).await {
                        tracing::debug!(%error, "a control connection ended");
                    }
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept on the control socket");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn converse(state: &Arc<State>, mut stream: UnixStream) -> Result<()> {
    loop {
        let request = match wire::read::<Request>(&mut stream, MAX_REQUEST).await {
            Ok(None) => return Ok(()),
            Ok(Some(Request::Events)) => return events(state, stream).await,
            Ok(Some(request)) => request,
            Err(error) => {
                reply(&mut stream, &Reply::Failed(Failed::from(&error))).await?;
                // After a frame that was read whole the next one can be told; else not.
                if error.context("limit").is_some() || error.kind() != ErrorKind::Invalid {
                    return Ok(());
                }
                continue;
            }
        };
        let answer = match answer(state, request).await {
            Ok(answer) => answer,
            Err(error) => Reply::Failed(Failed::from(&error)),
        };
        reply(&mut stream, &answer).await?;
    }
}

async fn reply(stream: &mut UnixStream, reply: &Reply) -> Result<()> {
    match tokio::time::timeout(WRITE_TIMEOUT, wire::write(stream, reply, MAX_REPLY)).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the reply was not read in time")),
    }
}

async fn answer(state: &Arc<State>, request: Request) -> Result<Reply> {
    match request {
        Request::Hello { version } => hello(state, version).map(Reply::Hello),
        Request::Apply { stamp, route } => {
            let state = state.clone();
            finished(tokio::spawn(async move { state.apply(stamp, *route).await })).await
        }
        Request::Remove { stamp, service } => {
            let state = state.clone();
            finished(tokio::spawn(async move { state.remove(stamp, &service).await })).await
        }
        Request::Observe { service } => state.observe(service.as_deref()).map(Reply::Observed),
        Request::Traffic { service } => state.traffic(service.as_deref()).map(Reply::Traffic),
        Request::Drained { service, wait_ms } => {
            let wait = Duration::from_millis(wait_ms.min(3_600_000));
            Ok(Reply::Drained(state.drained(&service, wait).await))
        }
        Request::Events => Err(Error::internal("events are not a single answer")),
    }
}

fn hello(state: &State, version: u32) -> Result<Hello> {
    if version != wire::VERSION {
        return Err(Error::new(ErrorKind::Unsupported, "the edge speaks another control version")
            .with("version", version)
            .with("known_version", wire::VERSION));
    }
    Ok(Hello {
        version: wire::VERSION,
        pid: std::process::id(),
        start: state.start,
        epoch: state.epoch(),
        connections: state.clients.len(),
    })
}

/// Changes run in a task of their own: a client that leaves does not stop one halfway.
async fn finished(change: tokio::task::JoinHandle<Result<()>>) -> Result<Reply> {
    match change.await {
        Ok(result) => result.map(|()| Reply::Done),
        Err(error) => Err(Error::internal("the change was not finished").with_source(error)),
    }
}

async fn events(state: &Arc<State>, mut stream: UnixStream) -> Result<()> {
    let mut events = state.subscribe();
    reply(&mut stream, &Reply::Done).await?;
    let (mut read, mut write) = stream.split();
    loop {
        let event = tokio::select! {
            event = events.recv() => match event {
                Ok(event) => event,
                Err(RecvError::Lagged(_)) => Event::Lagged,
                Err(RecvError::Closed) => return Ok(()),
            },
            // Nothing may follow: this is the reader's end.
            _ = wire::read::<Request>(&mut read, MAX_REQUEST) => return Ok(()),
        };
        let event = Reply::Event(event);
        let written = wire::write(&mut write, &event, MAX_REPLY);
        if tokio::time::timeout(WRITE_TIMEOUT, written).await.is_err() {
            return Ok(());
        }
    }
}
