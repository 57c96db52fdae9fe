//! What the keeper is told and what it tells: specs, states, events. Plain data with stated bounds.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::wire::Refusal;

/// Every process of a keeper carries its id in this environment variable, and so does what it forks.
pub const PROCESS_MARK: &str = "PAAS_INSTANCE";
/// Every process of a keeper carries the identity of the keeper's directory in this environment variable.
pub const KEEPER_MARK: &str = "PAAS_KEEPER";
/// What a keeper that finds the process again must know of this run.
pub(crate) const RUN_MARK: &str = "PAAS_RUN";

/// The most processes one keeper keeps.
pub(crate) const MAX_PROCESSES: usize = 4096;
/// The most bytes of `argv` and `env` together.
pub(crate) const MAX_ARGUMENTS: usize = 128 * 1024;
const MAX_NOTE: usize = 16 * 1024;
const MAX_GRACE: Duration = Duration::from_secs(3600);

/// Whether a process that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Restart {
    /// A service: whatever its exit says, it is started again after the back-off.
    Always,
    /// A task: it runs once, and its exit is kept on disk.
    Never,
}

/// How long to wait before a process is started again: `first`, doubled each time, at most `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Backoff {
    /// The first pause (100 ms).
    #[serde(with = "millis")]
    pub first: Duration,
    /// The longest pause (30 s).
    #[serde(with = "millis")]
    pub max: Duration,
    /// A process that ran this long starts at `first` again (10 s).
    #[serde(with = "millis")]
    pub reset: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30), Duration::from_secs(10))
    }
}

impl Backoff {
    /// Sets the first and the longest pause, and the running time after which the first applies again.
    #[must_use]
    pub const fn new(first: Duration, max: Duration, reset: Duration) -> Self {
        Self { first, max, reset }
    }

    /// The pause after `failures` failures in a row; never less than 10 ms, so that nothing spins.
    pub(crate) fn pause(&self, failures: u32) -> Duration {
        let doubled = self.first.max(Duration::from_millis(10)).saturating_mul(1 << failures.min(20));
        doubled.min(self.max.max(self.first)).max(Duration::from_millis(10))
    }
}

/// One process to keep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessSpec {
    /// Names the process: `[a-z0-9-]{1,64}`.
    pub id: String,
    /// Grows with every change; a higher one replaces the process, a lower one is refused.
    pub generation: u64,
    /// The program and its arguments. A name without `/` is looked up in `PATH` of [`env`](Self::env).
    pub argv: Vec<String>,
    /// The whole environment; the keeper adds its marks and inherits nothing.
    pub env: BTreeMap<String, String>,
    /// More environment, which is never written to disk. A keeper that finds the process again after a crash of its own
    /// does not know it: it keeps what runs, and starts nothing of it before it was told again.
    #[serde(default)]
    pub secrets: BTreeMap<String, String>,
    /// What whoever asked for it wants to remember with it, at most 16 KiB; [`ProcessState::note`] repeats it.
    #[serde(default)]
    pub note: String,
    /// The working directory.
    pub dir: PathBuf,
    /// Whether it is started again when it ends.
    pub restart: Restart,
    /// How long to wait before that.
    #[serde(default)]
    pub backoff: Backoff,
    /// From TERM to KILL when it is replaced, or when the keeper stops everything.
    #[serde(with = "millis")]
    pub grace: Duration,
}

impl ProcessSpec {
    /// A service in `dir`: generation 1, empty environment, default back-off, 10 s of grace.
    #[must_use]
    pub fn new(
        id: impl Into<String>,
        argv: impl IntoIterator<Item = impl Into<String>>,
        dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            id: id.into(),
            generation: 1,
            argv: argv.into_iter().map(Into::into).collect(),
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            note: String::new(),
            dir: dir.into(),
            restart: Restart::Always,
            backoff: Backoff::default(),
            grace: Duration::from_secs(10),
        }
    }

    /// Sets the generation.
    #[must_use]
    pub fn generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Sets whether it is started again.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Sets the back-off.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the grace.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Adds one environment variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// The whole environment that was asked for.
    pub(crate) fn variables(&self) -> impl Iterator<Item = (&String, &String)> {
        self.env.iter().chain(&self.secrets)
    }

    /// Sets what to remember with it.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// What can be written to disk.
    pub(crate) fn without_secrets(&self) -> Self {
        Self { secrets: BTreeMap::new(), ..self.clone() }
    }

    pub(crate) fn check(&self) -> Result<(), Refusal> {
        check_id(&self.id, "process")?;
        let invalid = |message: &str| Err(Refusal::invalid(message).with("process", &self.id));
        if self.argv.first().is_none_or(String::is_empty) {
            return invalid("argv is empty");
        }
        let size: usize = self.argv.iter().map(|word| word.len() + 1).sum::<usize>()
            + self.variables().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        if size > MAX_ARGUMENTS {
            return invalid("arguments and environment exceed 128 KiB");
        }
        if self.note.len() > MAX_NOTE {
            return invalid("the note exceeds 16 KiB");
        }
        let values = self.variables().map(|(_, value)| value);
        if self.argv.iter().chain(values).any(|text| text.contains('\0')) {
            return invalid("arguments and environment must not contain NUL");
        }
        if self.variables().any(|(name, _)| name.is_empty() || name.contains(['=', '\0'])) {
            return invalid("names of environment variables must not be empty or contain `=` or NUL");
        }
        if !self.dir.is_absolute() {
            return invalid("the working directory must be an absolute path");
        }
        if self.grace > MAX_GRACE {
            return invalid("the grace exceeds one hour");
        }
        Ok(())
    }
}

/// Ids are safe as file names.
pub(crate) fn check_id(id: &str, what: &'static str) -> Result<(), Refusal> {
    let fits = (1..=64).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if fits { Ok(()) } else { Err(Refusal::invalid("a name must match [a-z0-9-]{1,64}").with(what, id)) }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Exit {
    /// It ended with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It ended while no keeper was its parent.
    Unknown,
}

/// How and when a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// How.
    pub exit: Exit,
    /// When the keeper saw it.
    pub at: SystemTime,
}

/// What a process is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// Its intent is stored and it is about to run.
    Starting,
    /// It runs.
    Running {
        /// Its process id, which is also that of its process group.
        pid: u32,
        /// Since when.
        started_at: SystemTime,
    },
    /// It ended and will be started again.
    BackingOff {
        /// When.
        until: SystemTime,
        /// How it ended.
        ended: Ended,
    },
    /// It was told to end, and something of it is left.
    Stopping,
    /// It ended for good, and nothing of it is left.
    Exited {
        /// How; absent if it never ran.
        ended: Option<Ended>,
        /// Whether it was stopped on request.
        asked: bool,
    },
    /// It could not be started.
    Failed {
        /// Why.
        reason: String,
        /// When the next attempt is due; none for tasks.
        until: Option<SystemTime>,
    },
}

/// One process and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessState {
    /// Its id.
    pub id: String,
    /// The generation that `phase` speaks of.
    pub generation: u64,
    /// What it is doing.
    #[serde(flatten)]
    pub phase: Phase,
    /// The number of its newest run, unique and growing; 0 before the first.
    pub incarnation: u64,
    /// How often it was started again since this generation was spawned or the keeper started.
    pub restarts: u32,
    /// How its last run ended.
    pub last_exit: Option<Ended>,
    /// What its spec asked to remember.
    #[serde(default)]
    pub note: String,
}

/// What subscribers are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum KeeperEvent {
    /// A process changed its phase.
    State {
        /// The process now.
        state: ProcessState,
    },
    /// A process was forgotten.
    Gone {
        /// Its id.
        id: String,
    },
    /// Events may have been missed: list again.
    Reset,
}

pub(crate) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(value.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_its_bound_and_never_vanishes() {
        let backoff =
            Backoff::new(Duration::from_millis(100), Duration::from_secs(1), Duration::from_secs(10));
        let pauses: Vec<_> = (0..6).map(|n| backoff.pause(n).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        let zero = Backoff::new(Duration::ZERO, Duration::ZERO, Duration::ZERO);
        assert_eq!(zero.pause(40), Duration::from_millis(10));
    }

    #[test]
    fn wrong_specs_are_refused() {
        let good = ProcessSpec::new("web-1", ["sleep", "1"], "/tmp");
        assert!(good.check().is_ok());
        for id in ["", "Web", "a/b", "..", &"a".repeat(65)] {
            assert!(ProcessSpec::new(id, ["sleep"], "/tmp").check().is_err(), "{id}");
        }
        assert!(ProcessSpec::new("a", Vec::<String>::new(), "/tmp").check().is_err());
        assert!(ProcessSpec::new("a", ["sleep"], "tmp").check().is_err());
        assert!(ProcessSpec::new("a", ["sl\0eep"], "/tmp").check().is_err());
        assert!(good.clone().env("A=B", "c").check().is_err());
        assert!(good.env("A", "x".repeat(MAX_ARGUMENTS)).check().is_err());
    }
}
