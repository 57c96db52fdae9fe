//! One attempt to have one instance answer one request.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::body::Upload;
use super::clock;
use super::config::EdgeConfig;
use super::connection::Client;
use super::pool::{IDLE_MS, Idle};
use super::usage::Lease;

/// Why an attempt gave no answer.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was sent; here is the request.
    Unsent(Box<Request<Upload>>, io::Error),
    /// The connection ended before the answer began; the instance may have worked on it.
    Lost { reused: bool, cause: hyper::Error },
    /// The answer is not HTTP, or beyond the limits.
    Garbled(hyper::Error),
    /// No answer in time.
    Late,
    /// The client did not send its request to the end.
    Client,
}

/// A lease with the connection it uses.
pub(crate) struct Held {
    lease: Lease,
    sender: SendRequest<Upload>,
    socket: OwnedFd,
    keep_ms: u64,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("lease", &self.lease).finish_non_exhaustive()
    }
}

impl Held {
    /// Ends the lease and keeps the connection for the next request.
    pub(crate) fn release(self) {
        let Self { lease, mut sender, socket, keep_ms } = self;
        let endpoint = lease.endpoint().clone();
        let keep = move |sender| {
            let now = clock::now();
            let idle = Idle { sender, socket, since: now, until: now + keep_ms };
            endpoint.pool.put(idle, || !endpoint.is_closed());
        };
        if sender.is_ready() {
            keep(sender);
        } else if !sender.is_closed() {
            // The rest of the request is still on its way, or the connection is about to close.
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(Duration::from_secs(1), sender.ready()).await {
                    keep(sender);
                }
            });
        }
        drop(lease);
    }

    /// The lease without the connection, which became something else.
    pub(crate) fn into_lease(self) -> Lease {
        self.lease
    }

    /// Honours the `Keep-Alive: timeout=N` of an answer.
    pub(crate) fn limit(&mut self, keep_alive: Option<&HeaderValue>) {
        let Some(text) = keep_alive.and_then(|value| value.to_str().ok()) else { return };
        let seconds =
            text.split(',').find_map(|part| part.trim().strip_prefix("timeout=")?.parse::<u64>().ok());
        if let Some(seconds) = seconds {
            self.keep_ms = self.keep_ms.min(seconds.saturating_mul(1000).saturating_sub(1000));
        }
    }
}

/// What an attempt needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'a> {
    pub(crate) config: &'a EdgeConfig,
    pub(crate) client: &'a Client,
    /// The request can be sent again if its connection ends early.
    pub(crate) repeatable: bool,
    /// Use a new connection.
    pub(crate) fresh: bool,
}

/// Sends a request over an idle or a new connection and waits for the answer's head.
pub(crate) async fn ask(
    lease: Lease,
    mut request: Request<Upload>,
    terms: Terms<'_>,
) -> Result<(Response<Incoming>, Held), Failure> {
    let pooled = if terms.fresh { None } else { lease.endpoint().pool.take(!terms.repeatable) };
    if let Some(idle) = pooled {
        match send(idle.sender, request, true, terms).await {
            // It closed before it took the request; a new connection can have it.
            Err(Failure::Unsent(unsent, _)) => request = *unsent,
            Err(failure) => return Err(failure),
            Ok((response, sender)) => {
                return Ok((response, Held { lease, sender, socket: idle.socket, keep_ms: IDLE_MS }));
            }
        }
    }
    let (sender, socket) = match connect(&lease, terms.config).await {
        Ok(connected) => connected,
        Err(error) => return Err(Failure::Unsent(Box::new(request), error)),
    };
    let (response, sender) = send(sender, request, false, terms).await?;
    Ok((response, Held { lease, sender, socket, keep_ms: IDLE_MS }))
}

async fn connect(lease: &Lease, config: &EdgeConfig) -> io::Result<(SendRequest<Upload>, OwnedFd)> {
    let stream = dial(lease, config).await?;
    // A second descriptor, to look at the socket while hyper owns the stream.
    let socket = stream.as_fd().try_clone_to_owned()?;
    let mut builder = http1::Builder::new();
    builder.max_headers(config.max_headers).max_header_size(config.max_head);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the connection to an instance ended");
        }
    });
    Ok((sender, socket))
}

/// Connects to the leased endpoint.
pub(crate) async fn dial(lease: &Lease, config: &EdgeConfig) -> io::Result<TcpStream> {
    match timeout(config.connect_timeout, TcpStream::connect(lease.endpoint().addr)).await {
        Ok(stream) => {
            let stream = stream?;
            stream.set_nodelay(true)?;
            Ok(stream)
        }
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time")),
    }
}

async fn send(
    mut sender: SendRequest<Upload>,
    request: Request<Upload>,
    reused: bool,
    terms: Terms<'_>,
) -> Result<(Response<Incoming>, SendRequest<Upload>), Failure> {
    let limit = terms.config.answer_timeout;
    let mut answer = std::pin::pin!(sender.try_send_request(request));
    let mut left = limit;
    let outcome = loop {
        let Ok(outcome) = timeout(left, answer.as_mut()).await else {
            let uploaded = terms.client.uploaded.load(Ordering::Relaxed);
            let silent = Duration::from_millis(clock::now().saturating_sub(uploaded));
            if uploaded == 0 || silent >= limit {
                return Err(Failure::Late);
            }
            left = limit - silent;
            continue;
        };
        break outcome;
    };
    match outcome {
        Ok(response) => Ok((response, sender)),
        Err(mut failed) => match failed.take_message() {
            Some(request) => Err(Failure::Unsent(Box::new(request), io::Error::other(failed.into_error()))),
            None => Err(classify(failed.into_error(), reused)),
        },
    }
}

fn classify(error: hyper::Error, reused: bool) -> Failure {
    if error.is_user() {
        Failure::Client
    } else if error.is_parse() && !error.is_incomplete_message() {
        Failure::Garbled(error)
    } else {
        Failure::Lost { reused, cause: error }
    }
}

/// The header that limits how long a connection may be idle.
pub(crate) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
