//! What the keeper knows of one process, and what its parts need in common.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant, SystemTime};

use rustix::event::epoll;
use rustix::process::Rlimit;

use super::intent::Intents;
use super::journal::Journal;
use super::model::{Ended, KeeperEvent, Phase, ProcessSpec, ProcessState};
use super::process::Run;
use super::spool::Spool;
use super::wire::{Answer, Refusal};

/// Who waits for an answer: a connection and the number of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asker {
    pub(crate) connection: u64,
    pub(crate) request: u64,
}

/// What the server has to tell somebody.
#[derive(Debug)]
pub(crate) enum Effect {
    Event(KeeperEvent),
    Answer(Asker, Result<Answer, Refusal>),
}

/// What a process is meant to become.
#[derive(Debug)]
pub(crate) enum Goal {
    Keep,
    Stop,
    Replace(Box<ProcessSpec>),
}

/// One process.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) spec: ProcessSpec,
    pub(crate) phase: Phase,
    pub(crate) goal: Goal,
    /// The spec has secrets that this keeper was not told.
    pub(crate) lacks_secrets: bool,
    pub(crate) run: Option<Run>,
    pub(crate) incarnation: u64,
    /// In a row, for the back-off.
    pub(crate) failures: u32,
    pub(crate) restarts: u32,
    pub(crate) last_exit: Option<Ended>,
    /// When to look at it again.
    pub(crate) due: Option<Instant>,
    /// When KILL follows TERM.
    pub(crate) kill_at: Option<Instant>,
    /// Until the next look at what survives.
    pub(crate) pause: Duration,
    pub(crate) stop_askers: Vec<Asker>,
    pub(crate) start_askers: Vec<Asker>,
}

impl Entry {
    pub(crate) fn new(spec: ProcessSpec) -> Self {
        Self {
            spec,
            phase: Phase::Starting,
            goal: Goal::Keep,
            lacks_secrets: false,
            run: None,
            incarnation: 0,
            failures: 0,
            restarts: 0,
            last_exit: None,
            due: None,
            kill_at: None,
            pause: Duration::ZERO,
            stop_askers: Vec::new(),
            start_askers: Vec::new(),
        }
    }

    /// The spec that is meant, which runs already or will.
    pub(crate) fn meant(&self) -> &ProcessSpec {
        match &self.goal {
            Goal::Replace(spec) => spec,
            Goal::Keep | Goal::Stop => &self.spec,
        }
    }

    pub(crate) fn state(&self) -> ProcessState {
        ProcessState {
            id: self.spec.id.clone(),
            generation: self.spec.generation,
            phase: self.phase.clone(),
            incarnation: self.incarnation,
            restarts: self.restarts,
            last_exit: self.last_exit,
            note: self.spec.note.clone(),
        }
    }
}

/// What all of the table's parts use.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) epoll: OwnedFd,
    pub(crate) spool: Spool,
    pub(crate) intents: Intents,
    pub(crate) journal: Journal,
    pub(crate) identity: String,
    pub(crate) boot: String,
    pub(crate) descriptors: Rlimit,
    pub(crate) effects: Vec<Effect>,
    pub(crate) last_incarnation: u64,
}

impl Core {
    /// A number for a run: the time in nanoseconds, made unique.
    pub(crate) fn next_incarnation(&mut self) -> u64 {
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.last_incarnation = u64::try_from(nanos).unwrap_or(u64::MAX).max(self.last_incarnation + 1);
        self.last_incarnation
    }

    pub(crate) fn answer(&mut self, asker: Asker, answer: Result<Answer, Refusal>) {
        self.effects.push(Effect::Answer(asker, answer));
    }

    /// Has the loop wake up when `source` can be read.
    pub(crate) fn watch(&mut self, source: &OwnedFd, token: Token) {
        if let Err(error) = epoll::add(&self.epoll, source, token.data(), epoll::EventFlags::IN) {
            self.journal.note("cannot watch a descriptor", error);
        }
    }

    pub(crate) fn unwatch(&mut self, source: &OwnedFd) {
        let _gone = epoll::delete(&self.epoll, source);
    }
}

/// Which descriptor woke the loop up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Socket,
    ChildEnded,
    Asked,
    Connection(u64),
    Out(usize),
    Err(usize),
    Watch(usize),
}

impl Token {
    pub(crate) fn data(self) -> epoll::EventData {
        let (kind, number) = match self {
            Self::Socket => (0, 0),
            Self::ChildEnded => (1, 0),
            Self::Asked => (2, 0),
            Self::Connection(number) => (3, number),
            Self::Out(slot) => (4, slot as u64),
            Self::Err(slot) => (5, slot as u64),
            Self::Watch(slot) => (6, slot as u64),
        };
        epoll::EventData::new_u64(kind << 56 | number)
    }

    pub(crate) fn parse(data: epoll::EventData) -> Option<Self> {
        let number = data.u64() & ((1 << 56) - 1);
        let slot = usize::try_from(number).ok()?;
        Some(match data.u64() >> 56 {
            0 => Self::Socket,
            1 => Self::ChildEnded,
            2 => Self::Asked,
            3 => Self::Connection(number),
            4 => Self::Out(slot),
            5 => Self::Err(slot),
            6 => Self::Watch(slot),
            _ => return None,
        })
    }
}
