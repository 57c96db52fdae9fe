//! The edge as a process: from its file to serving, and from TERM to a clean end.

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use paas_core::{Error, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::AbortHandle;

use super::config::EdgeConfig;
use super::control::Control;
use super::listener::ListenerSource;
use super::socket;
use super::state::State;

/// How often idle connections to instances are looked at.
const SWEEP: Duration = Duration::from_secs(1);
/// How often a listener that could not be taken at the start is asked for again.
const RETRY: Duration = Duration::from_millis(100);

/// Runs the edge until TERM or INT: the entry of its process. Open requests are finished, up to the configured time.
///
/// # Errors
/// `Conflict` when another edge serves the directory, `Unsupported` when a newer version wrote its file.
pub fn run(mut config: EdgeConfig, source: Arc<dyn ListenerSource>) -> Result<()> {
    fit_descriptors(&mut config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("edge")
        .enable_all()
        .build()
        .map_err(|e| Error::unavailable("cannot start the edge's threads").with_source(e))?;
    runtime.block_on(async {
        let wanted =
            |kind| signal(kind).map_err(|e| Error::unavailable("cannot listen to signals").with_source(e));
        let (mut terminate, mut interrupt) =
            (wanted(SignalKind::terminate())?, wanted(SignalKind::interrupt())?);
        let running = Running::start(config, source).await?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        running.stop().await;
        Ok(())
    })
}

/// A running edge inside this process. Dropping it ends it at once, as a kill would.
#[derive(Debug)]
pub struct Running {
    state: Arc<State>,
    tasks: Vec<AbortHandle>,
    /// Dropped before the lock.
    _control: Control,
    _lock: File,
}

impl Running {
    /// Starts the edge on its routes file: it serves when this returns. A listener that cannot be taken yet is asked
    /// for again in the background.
    ///
    /// # Errors
    /// `Conflict` when another edge serves the directory, `Unsupported` when a newer version wrote its file.
    pub async fn start(config: EdgeConfig, source: Arc<dyn ListenerSource>) -> Result<Self> {
        let dir = config.dir.join("edge");
        let lock = socket::lock(&dir)?;
        let state = State::load(config, source)?;
        let control = Control::start(state.clone(), socket::listen(&dir)?)?;
        let mut running = Self { state: state.clone(), tasks: Vec::new(), _control: control, _lock: lock };
        let names = state.tables.with(|table| state.names(table));
        if !take(&state, names).await {
            running.spawn(retry(state.clone()));
        }
        running.spawn(sweep(state));
        Ok(running)
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.push(tokio::spawn(task).abort_handle());
    }

    /// Accepts no more, lets open work end, up to the configured time, and ends.
    pub async fn stop(self) {
        let state = &self.state;
        drop(state.listeners.retain(&[]));
        state.clients.start_closing();
        // Idle clients that are about to send get an answer that says goodbye, instead of a reset.
        let lingered = tokio::time::timeout(state.config.linger, state.clients.all_gone()).await.is_ok();
        if !lingered {
            state.clients.finish_idle();
            let _ = tokio::time::timeout(state.config.stop_timeout, state.clients.all_gone()).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.state.listeners.retain(&[]));
        self.tasks.iter().for_each(AbortHandle::abort);
        self.state.clients.cut();
    }
}

/// Serves what can be taken; whether that was all.
async fn take(state: &Arc<State>, names: Vec<String>) -> bool {
    let takes = names.into_iter().map(|name| async move {
        match state.listeners.take_missing(vec![name.clone()]).await {
            Ok(taken) => state.listeners.serve(state, taken).is_ok(),
            Err(error) => {
                tracing::warn!(listener = name, %error, "cannot take the listener yet");
                false
            }
        }
    });
    futures_util::future::join_all(takes).await.into_iter().all(|served| served)
}

async fn retry(state: Arc<State>) {
    loop {
        tokio::time::sleep(RETRY).await;
        let names = state.tables.with(|table| state.names(table));
        if take(&state, names).await {
            return;
        }
    }
}

async fn sweep(state: Arc<State>) {
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        state.sweep();
    }
}

/// Each client takes a descriptor and its request up to two more: use all that the system grants, and take no more
/// clients than that allows for.
fn fit_descriptors(config: &mut EdgeConfig) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::debug!(%error, "the descriptor limit stays");
    }
    if let Some(granted) = getrlimit(Resource::Nofile).current {
        let clients = granted.saturating_sub(1_024).max(granted / 4) / 3;
        config.max_connections = config.max_connections.min(clients as usize).max(1);
    }
}
