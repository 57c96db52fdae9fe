//! The HTTP client with which one service asks another: connections are reused, and nothing is done twice.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is used; the servers keep theirs for longer. Its name may lead elsewhere by then: behind a cluster's
/// service a connection stays with the instance that it met, which serves on for only some seconds once it is to end.
pub(crate) const LIFE: Duration = Duration::from_secs(2);
/// Most idle connections that are kept.
const KEPT: usize = 64;
/// Most bytes of an answer.
const ANSWER: usize = 1024 * 1024;
/// How often a request is tried that was never sent, or may be sent twice.
const TRIES: u32 = 4;

/// Headers that are about one connection and not about the request.
const HOP: [&str; 8] =
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "expect", "content-length"];

/// One connection to the upstream.
#[derive(Debug)]
struct Connection {
    sender: SendRequest<Full<Bytes>>,
    opened: Instant,
}

impl Connection {
    fn is_usable(&self) -> bool {
        self.opened.elapsed() < LIFE && !self.sender.is_closed()
    }
}

/// One upstream and the connections to it.
#[derive(Debug)]
pub(crate) struct Client {
    authority: String,
    host: HeaderValue,
    idle: Mutex<VecDeque<Connection>>,
}

/// Why there is no answer.
#[derive(Debug)]
enum Failure {
    /// Not a byte of the request was sent: it can be tried again whatever it is.
    Unsent(String),
    /// It may have been received, and done.
    Unknown(String),
}

impl Client {
    /// A client of the service at this URL.
    pub(crate) fn new(url: &Uri) -> Result<Self, String> {
        let host = url.authority().ok_or("the URL has no host")?.as_str().to_owned();
        let authority = if url.port().is_some() { host.clone() } else { format!("{host}:80") };
        let value = HeaderValue::from_str(&host).map_err(|error| error.to_string())?;
        Ok(Self { authority, host: value, idle: Mutex::default() })
    }

    /// Sends a request and reads the answer.
    ///
    /// A request that may be repeated (`GET`, `HEAD`, `PUT`, `DELETE`) is sent again after a failure. Any other is sent
    /// again only where not a byte of it left: a POST that may have been received is never repeated.
    pub(crate) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let deadline = tokio::time::timeout(TIMEOUT, self.tried(request));
        deadline.await.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")))
    }

    async fn tried(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let headers = request.headers_mut();
        for hop in HOP {
            headers.remove(hop);
        }
        headers.insert(HOST, self.host.clone());
        let repeatable = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(request.method());
        let mut pause = Duration::from_millis(10);
        let mut tries = 1;
        loop {
            let copy = copy(&request);
            let failure = match self.once(copy).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            match failure {
                Failure::Unknown(error) if !repeatable => return Err(error),
                Failure::Unknown(error) | Failure::Unsent(error) if tries == TRIES => return Err(error),
                _ => {}
            }
            tries += 1;
            tokio::time::sleep(pause).await;
            pause *= 4;
        }
    }

    async fn once(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Failure> {
        // Lets a close that has already come be seen before an idle connection is taken.
        tokio::task::yield_now().await;
        let mut connection = match self.reused() {
            Some(connection) => connection,
            None => self.connect().await.map_err(Failure::Unsent)?,
        };
        let answer = connection.sender.try_send_request(request).await.map_err(|error| {
            let text = format!("cannot ask {}: {}", self.authority, error.error());
            if error.message().is_some() { Failure::Unsent(text) } else { Failure::Unknown(text) }
        })?;
        let (parts, body) = answer.into_parts();
        let broken =
            |error| Failure::Unknown(format!("the answer of {} ended early: {error}", self.authority));
        let body = Limited::new(body, ANSWER).collect().await.map_err(broken)?.to_bytes();
        self.keep(connection);
        Ok(Response::from_parts(parts, body))
    }

    fn reused(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // The one used last is the one least likely to be closed soon.
        while let Some(connection) = idle.pop_back() {
            if connection.is_usable() && connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        while idle.front().is_some_and(|oldest| !oldest.is_usable()) {
            idle.pop_front();
        }
        if idle.len() < KEPT && connection.is_usable() {
            idle.push_back(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let failed = |error: &dyn std::fmt::Display| format!("cannot connect to {}: {error}", self.authority);
        let stream = TcpStream::connect(&self.authority).await.map_err(|error| failed(&error))?;
        let _ = stream.set_nodelay(true);
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
        // Ends when either side closes; what went wrong is seen by whoever sends.
        tokio::spawn(async move { drop(connection.await) });
        sender.ready().await.map_err(|error| failed(&error))?;
        Ok(Connection { sender, opened: Instant::now() })
    }
}

fn copy(request: &Request<Bytes>) -> Request<Full<Bytes>> {
    let mut copy = Request::new(Full::new(request.body().clone()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    copy.headers_mut().clone_from(request.headers());
    copy
}
