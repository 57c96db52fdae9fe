//! How the edge runs.

use std::path::PathBuf;
use std::time::Duration;

use super::route::PUBLIC;

/// The edge's limits; the defaults suit one machine.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct EdgeConfig {
    /// The data directory; the edge uses `edge/` below it.
    pub dir: PathBuf,
    /// Listeners that are served from the start, even without a route.
    pub public: Vec<String>,
    /// Keep `X-Forwarded-*` of clients on shared listeners, because a trusted proxy is in front.
    pub trust_forwarded: bool,
    /// The most client connections; more wait in the listener's queue.
    pub max_connections: usize,
    /// The most headers of a request or an answer.
    pub max_headers: usize,
    /// The most bytes of a request's or an answer's head.
    pub max_head: usize,
    /// How long a client may take to send a request's head.
    pub head_timeout: Duration,
    /// How long a client's connection may be idle between requests.
    pub client_idle: Duration,
    /// How long a body may stand still, in either direction.
    pub body_idle: Duration,
    /// How long a tunnel or a TCP connection may be silent.
    pub tunnel_idle: Duration,
    /// How long to wait for a connection to an instance.
    pub connect_timeout: Duration,
    /// How long to wait for an answer's head after the request was sent.
    pub answer_timeout: Duration,
    /// How long open work may take after a stop was asked for.
    pub stop_timeout: Duration,
    /// How long idle clients may go on to use their connections after a stop was asked for.
    pub linger: Duration,
}

impl EdgeConfig {
    /// The defaults, in a data directory.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            public: vec![PUBLIC.to_owned()],
            trust_forwarded: false,
            max_connections: 16_384,
            max_headers: 100,
            max_head: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            client_idle: Duration::from_secs(75),
            body_idle: Duration::from_secs(300),
            tunnel_idle: Duration::from_secs(3_600),
            connect_timeout: Duration::from_secs(1),
            answer_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(30),
            linger: Duration::from_millis(500),
        }
    }
}
