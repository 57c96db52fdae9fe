//! What a client and the keeper say to each other. Frames carry one JSON value each, see [`super::frame`].

use std::net::SocketAddr;
use std::time::Duration;

use paas_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};

use super::model::{KeeperEvent, ProcessSpec, ProcessState, millis};
use super::record::SpoolOffset;

/// Raised when a frame or a message changes its meaning.
pub(crate) const PROTOCOL: u32 = 1;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    #[serde(flatten)]
    pub(crate) ask: Ask,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub(crate) enum Ask {
    /// First on every connection; subscribes to events.
    Hello {
        protocol: u32,
    },
    Spawn {
        spec: ProcessSpec,
    },
    Stop {
        process: String,
        #[serde(with = "millis")]
        grace: Duration,
    },
    Forget {
        process: String,
    },
    List,
    Status {
        process: String,
    },
    /// Answered with the bytes as the frame's body.
    Tail {
        process: String,
    },
    Listen {
        name: String,
        addr: SocketAddr,
    },
    /// Answered with one descriptor.
    Take {
        name: String,
    },
    /// Comes with one descriptor.
    Give {
        name: String,
    },
    Unlisten {
        name: String,
    },
    /// Answered with the bell (a pipe) and the segments as descriptors.
    Follow,
    Commit {
        offset: SpoolOffset,
    },
    Shutdown {
        stop_all: bool,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "snake_case")]
pub(crate) enum Note {
    Answer {
        id: u64,
        answer: Answer,
    },
    Refused {
        id: u64,
        refusal: Refusal,
    },
    Event {
        event: KeeperEvent,
    },
    /// A new segment of the spool; its descriptor comes with it.
    Segment {
        index: u64,
    },
    /// Everything was stopped, the keeper ends, and nobody should start another one.
    Leaving,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    Done,
    Hello { pid: u32, life: u64, identity: String },
    States { states: Vec<ProcessState> },
    Address { addr: SocketAddr },
    Spool { life: u64, segment_bytes: u64, first: u64, committed: u64 },
}

/// An error as it crosses the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) kind: ErrorKind,
    pub(crate) message: String,
    pub(crate) context: Vec<(String, String)>,
}

impl Refusal {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), context: Vec::new() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl std::fmt::Display) -> Self {
        self.context.push((key.into(), value.to_string()));
        self
    }

    /// An I/O error, by what the caller can do about it.
    pub(crate) fn io(message: impl Into<String>, error: &std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::PermissionDenied => ErrorKind::Denied,
            Io::AddrInUse | Io::AlreadyExists => ErrorKind::Conflict,
            Io::StorageFull | Io::QuotaExceeded | Io::OutOfMemory => ErrorKind::Unavailable,
            Io::InvalidInput | Io::AddrNotAvailable => ErrorKind::Invalid,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, message).with("cause", error)
    }

    pub(crate) fn line(&self) -> String {
        Error::from(self.clone()).to_string()
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        // Keys of an `Error` are static: those that the keeper uses.
        const KEYS: [&str; 13] = [
            "process",
            "listener",
            "address",
            "path",
            "directory",
            "cause",
            "generation",
            "kept",
            "held",
            "holder",
            "protocol",
            "keeper",
            "limit",
        ];
        refusal.context.into_iter().fold(Error::new(refusal.kind, refusal.message), |error, (key, value)| {
            match KEYS.iter().find(|known| **known == key) {
                Some(known) => error.with(known, value),
                None => error.with("detail", format!("{key} {value}")),
            }
        })
    }
}
