//! What goes over the control socket: JSON in frames of a length (4 bytes, big endian) and that many bytes.

use std::time::Duration;

use paas_core::{Error, ErrorKind, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::ledger::Stamp;
use super::route::Route;
use super::state::ServiceUsage;
use super::traffic::Traffic;
use super::usage::Event;

/// The protocol's version; both sides must speak the same.
pub(crate) const VERSION: u32 = 1;
/// The largest request.
pub(crate) const MAX_REQUEST: usize = 1024 * 1024;
/// The largest reply.
pub(crate) const MAX_REPLY: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    Hello {
        version: u32,
    },
    Apply {
        stamp: Stamp,
        route: Box<Route>,
    },
    Remove {
        stamp: Stamp,
        service: String,
    },
    Observe {
        service: Option<String>,
    },
    Traffic {
        service: Option<String>,
    },
    Drained {
        service: String,
        wait_ms: u64,
    },
    /// From now on the connection carries events only.
    Events,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reply {
    Hello(Hello),
    Done,
    Observed(Vec<ServiceUsage>),
    Traffic(Traffic),
    Drained(bool),
    Event(Event),
    Failed(Failed),
}

/// Who answers on the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The control protocol's version.
    pub version: u32,
    /// The edge's process.
    pub pid: u32,
    /// Names this run of the edge; counters begin anew with another.
    pub start: u64,
    /// The highest epoch seen.
    pub epoch: u64,
    /// Open client connections.
    pub connections: usize,
}

/// An error on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failed {
    kind: ErrorKind,
    message: String,
    context: Vec<(String, String)>,
    retry_ms: Option<u64>,
    permanent: bool,
}

/// The context that errors of the edge carry.
const KEYS: [&str; 19] = [
    "service",
    "services",
    "field",
    "value",
    "limit",
    "epoch",
    "generation",
    "known_epoch",
    "known_generation",
    "listener",
    "held_by",
    "domain",
    "path",
    "version",
    "known_version",
    "op",
    "cause",
    "name",
    "address",
];

impl From<&Error> for Failed {
    fn from(error: &Error) -> Self {
        let known = |key: &&str| error.context(key).map(|value| ((*key).to_owned(), value.to_owned()));
        let mut context: Vec<_> = KEYS.iter().filter_map(known).collect();
        if let Some(cause) = std::error::Error::source(error) {
            context.push(("cause".to_owned(), cause.to_string()));
        }
        Self {
            kind: error.kind(),
            message: error.message().to_owned(),
            context,
            retry_ms: error.retry_after().map(|delay| delay.as_millis() as u64),
            permanent: !error.is_retryable(),
        }
    }
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        let mut error = Self::new(failed.kind, failed.message);
        for (key, value) in failed.context {
            if let Some(known) = KEYS.iter().find(|known| **known == key) {
                error = error.with(known, value);
            }
        }
        match failed.retry_ms {
            Some(delay) => error.with_retry_after(Duration::from_millis(delay)),
            None if failed.permanent => error.permanent(),
            None => error,
        }
    }
}

/// Encodes a message with its length.
pub(crate) fn encode(message: &impl Serialize, limit: usize) -> Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)
        .map_err(|e| Error::internal("cannot encode").with_source(e))?;
    let length = frame.len() - 4;
    if length > limit {
        return Err(Error::invalid("the message is too large").with("value", length).with("limit", limit));
    }
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    message: &impl Serialize,
    limit: usize,
) -> Result<()> {
    let frame = encode(message, limit)?;
    to.write_all(&frame).await.map_err(broken)
}

/// Reads one message; `None` when the connection ended before it.
pub(crate) async fn read<M: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Option<M>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length).await {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(broken(error)),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > limit {
        return Err(Error::invalid("the message is too large").with("value", length).with("limit", limit));
    }
    let mut frame = Vec::new();
    from.take(length as u64).read_to_end(&mut frame).await.map_err(broken)?;
    if frame.len() < length {
        return Ok(None);
    }
    let message = serde_json::from_slice(&frame);
    message.map(Some).map_err(|e| Error::invalid("the message cannot be understood").with("cause", &e))
}

fn broken(error: std::io::Error) -> Error {
    Error::unavailable("the connection to the edge broke").with_source(error)
}
