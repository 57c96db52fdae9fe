//! Starts and stops processes, and takes in what the keeper tells of them.

use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt};
use paas_core::model::{Exit, InstanceId, InstanceState, Timestamp};
use paas_core::{ErrorKind, Result};

use super::instance::{Instance, Note};
use super::{Inner, probe};
use crate::keeper::{Ended, Exit as Ending, KeeperEvent, Phase, ProcessSpec, ProcessState};

/// How many of an instance's last lines are told, and how long each may be.
const LINES: usize = 20;
const LINE: usize = 400;
/// The pause after the keeper could not be reached.
const PAUSE: Duration = Duration::from_millis(200);

/// Starts a process; how that goes is told by the keeper's events, save what it never took in.
pub(super) async fn start(inner: Arc<Inner>, id: InstanceId, spec: ProcessSpec) {
    if let Err(error) = tokio::fs::create_dir_all(&spec.dir).await {
        return refuse(&inner, &id, &format!("cannot make the working directory: {error}"));
    }
    loop {
        let Err(error) = inner.keeper.spawn(&spec).await else { return };
        match error.kind() {
            // The keeper has it as failed and says so.
            ErrorKind::NotFound | ErrorKind::Denied => return,
            // It was asked to end meanwhile.
            ErrorKind::Conflict => return,
            _ if error.is_retryable() => {
                match inner.pool().instance(&id).filter(|instance| !instance.leaving) {
                    // For whoever asks why it takes so long.
                    Some(instance) => instance.message = Some(format!("not started yet: {error}")),
                    None => return,
                }
                tokio::time::sleep(PAUSE).await;
            }
            _ => return refuse(&inner, &id, &error.to_string()),
        }
    }
}

fn refuse(inner: &Arc<Inner>, id: &InstanceId, why: &str) {
    let key = {
        let mut pool = inner.pool();
        let Some(instance) = pool.instance(id) else { return };
        instance.state = InstanceState::Exited;
        instance.message = Some(why.to_owned());
        instance.note.key.clone()
    };
    inner.tell(&key);
}

/// Stops an instance and forgets it; tried until nothing of it is left.
pub(super) async fn stop(inner: Arc<Inner>, id: InstanceId, grace: Duration) {
    while let Err(error) = end(&inner, &id, grace).await {
        tracing::warn!(instance = %id, ?error, "cannot stop an instance yet");
        tokio::time::sleep(PAUSE).await;
    }
    // It may hold files that nobody needs; what it should keep is in volumes.
    if let Err(error) = tokio::fs::remove_dir_all(inner.work_dir(&id)).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(instance = %id, %error, "cannot remove a working directory");
    }
    let gone = inner.pool().forget(&id);
    if let Some(gone) = gone {
        gone.note.port.inspect(|port| inner.ports.free(*port));
        inner.settle(&gone.note.key);
        inner.tell(&gone.note.key);
    }
}

async fn end(inner: &Inner, id: &InstanceId, grace: Duration) -> Result<()> {
    inner.keeper.stop(id.as_str(), grace).await?;
    inner.keeper.forget(id.as_str()).await
}

/// Takes in what the keeper tells, for as long as there is a scheduler.
pub(super) async fn listen(inner: Weak<Inner>, mut events: impl Stream<Item = KeeperEvent> + Unpin) {
    while let Some(event) = events.next().await {
        let Some(inner) = inner.upgrade() else { return };
        match event {
            KeeperEvent::State { state } => inner.take_in(&state).await,
            KeeperEvent::Reset => inner.look().await,
            KeeperEvent::Gone { .. } => {}
        }
    }
}

impl Inner {
    /// Makes instances of everything that the keeper holds for this scheduler.
    pub(super) async fn adopt(inner: &Arc<Self>) -> Result<()> {
        let states = inner.keeper.list().await?;
        for state in &states {
            let Ok(note) = serde_json::from_str::<Note>(&state.note) else { continue };
            let Ok(id) = InstanceId::new(&state.id) else { continue };
            note.port.inspect(|port| inner.ports.mark(*port));
            let mut instance = Instance::new(id.clone(), note);
            instance.generation = state.generation;
            let was_stopped = matches!(state.phase, Phase::Exited { asked: true, .. } | Phase::Stopping);
            instance.leaving = was_stopped;
            let grace = instance.note.grace();
            inner.pool().insert(instance);
            if was_stopped {
                tokio::spawn(stop(Arc::clone(inner), id, grace));
            } else {
                inner.take_in(state).await;
            }
        }
        Ok(())
    }

    /// Waits until every instance that was found has been asked once whether it is ready.
    pub(super) async fn adopted(inner: &Arc<Self>) {
        let mut changes = inner.feed.watch_all();
        let starting = |inner: &Self| {
            inner.pool().instances().any(|i| i.is_living() && i.state == InstanceState::Starting)
        };
        while starting(inner) {
            changes.next().await;
        }
    }

    /// Looks at everything: the keeper was restarted, or events were missed.
    async fn look(self: &Arc<Self>) {
        let Ok(states) = self.keeper.list().await else { return };
        let known: std::collections::BTreeSet<&str> = states.iter().map(|state| state.id.as_str()).collect();
        let lost: Vec<InstanceId> = {
            let pool = self.pool();
            pool.instances().filter(|i| !known.contains(i.id.as_str())).map(|i| i.id.clone()).collect()
        };
        for state in &states {
            self.take_in(state).await;
        }
        let keys: Vec<_> = self.pool().entries.keys().cloned().collect();
        for id in lost {
            // Its start is under way, or the keeper never had it: starting it (again) is idempotent.
            let again = {
                let mut pool = self.pool();
                let launch = pool.launch(&id).cloned();
                pool.instance(&id)
                    .filter(|i| i.is_living())
                    .zip(launch)
                    .and_then(|(i, launch)| launch.spec(self, &i.note, &i.id, i.generation).ok())
            };
            if let Some(spec) = again {
                tokio::spawn(start(Arc::clone(self), id, spec));
            }
        }
        for key in keys {
            self.settle(&key);
            self.give_secrets(&key);
        }
        self.tell_all();
    }

    /// What the keeper says of one process.
    async fn take_in(self: &Arc<Self>, state: &ProcessState) {
        let Ok(id) = InstanceId::new(&state.id) else { return };
        let Some(key) = self.pool().key(&id).cloned() else { return };
        let exit = self.exit(state).await;
        {
            let mut pool = self.pool();
            let Some(instance) = pool.instance(&id) else { return };
            if state.generation < instance.generation {
                return;
            }
            instance.restarts = state.restarts.max(instance.restarts);
            instance.last_exit = exit.or(instance.last_exit.take());
            update(instance, state);
            let starts = matches!(state.phase, Phase::Running { .. }) && instance.run != state.incarnation;
            if starts && !instance.leaving {
                instance.run = state.incarnation;
                instance.stop_probing();
                let probing =
                    tokio::spawn(probe::watch(Arc::downgrade(self), id.clone(), instance.note.clone()));
                instance.probing = Some(probing.abort_handle());
            }
        }
        self.tell(&key);
    }

    /// How a process ended, with its last lines, where the state speaks of an end.
    async fn exit(&self, state: &ProcessState) -> Option<Exit> {
        let ended = match &state.phase {
            Phase::BackingOff { ended, .. } => Some(*ended),
            Phase::Exited { ended, asked: false } => *ended,
            _ => None,
        };
        if let Phase::Failed { reason, .. } = &state.phase {
            return Some(Exit::with_reason(reason, self.clock.now()));
        }
        let mut exit = convert(ended?);
        let tail = self.keeper.tail(&state.id).await.unwrap_or_default();
        exit.last_lines = last_lines(&tail);
        Some(exit)
    }
}

fn update(instance: &mut Instance, state: &ProcessState) {
    let next = match &state.phase {
        Phase::Starting => InstanceState::Starting,
        Phase::Running { .. } if instance.run == state.incarnation => instance.state,
        Phase::Running { .. } => InstanceState::Starting,
        Phase::BackingOff { .. } => InstanceState::BackingOff,
        Phase::Stopping => instance.state,
        Phase::Exited { .. } | Phase::Failed { .. } => InstanceState::Exited,
    };
    instance.message = match &state.phase {
        Phase::Failed { reason, .. } => Some(reason.clone()),
        Phase::Running { .. } => instance.message.take(),
        _ => None,
    };
    if matches!(next, InstanceState::BackingOff | InstanceState::Exited) {
        instance.stop_probing();
    }
    instance.state = next;
}

fn convert(ended: Ended) -> Exit {
    let mut exit = Exit::default();
    exit.at = Timestamp::from(SystemTime::max(ended.at, SystemTime::UNIX_EPOCH));
    match ended.exit {
        Ending::Code(code) => exit.code = Some(code),
        Ending::Signal(signal) => exit.signal = Some(signal),
        _ => {}
    }
    exit
}

/// The last lines of an output, each cut to a bound.
fn last_lines(tail: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(tail);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LINES);
    lines[first..].iter().map(|line| line.chars().take(LINE).collect()).collect()
}
