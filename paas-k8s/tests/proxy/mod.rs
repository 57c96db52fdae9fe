//! A proxy between a platform and a real API server: it notes every call, and makes trouble where rules say so.
//!
//! It speaks plain HTTP to the platform, and reaches the server with the credentials of the client that it is given.

mod call;
mod rule;
mod stream;

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HOST, RETRY_AFTER, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kube::Client;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub(crate) use call::Call;
pub(crate) use rule::{ALL, Fault, Rule, WATCHES, WRITES};
use stream::{Body, End, relay, whole};

/// A running proxy; dropped, it ends.
pub(crate) struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    upstream: Client,
    rules: Mutex<Vec<Rule>>,
    calls: Mutex<Vec<Call>>,
    /// Cuts all watches whenever it changes.
    cut: watch::Sender<u64>,
    /// How many writes pass before nothing does any more.
    writes: Mutex<Option<usize>>,
    over: watch::Sender<bool>,
    /// Whether any call is kept.
    keeps: watch::Sender<bool>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An address that no other proxy of this process has: one that was stopped finds its port free again.
fn own_address() -> Ipv4Addr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [high, low] = (std::process::id() % 65_536).to_be_bytes()[2..] else { unreachable!() };
    Ipv4Addr::new(127, high | 1, low, NEXT.fetch_add(1, Ordering::Relaxed).max(1))
}

impl Proxy {
    /// Starts one that changes nothing.
    pub(crate) async fn start(upstream: Client) -> Self {
        let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            rules: Mutex::default(),
            calls: Mutex::default(),
            cut: watch::channel(0).0,
            writes: Mutex::default(),
            over: watch::channel(false).0,
            keeps: watch::channel(false).0,
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, server: Mutex::new(Some(server)) }
    }

    /// A kubeconfig that leads to it.
    pub(crate) fn kubeconfig(&self) -> tempfile::NamedTempFile {
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "proxy", "cluster": { "server": format!("http://{}", self.address) } }],
            "contexts": [{ "name": "proxy", "context": { "cluster": "proxy", "user": "nobody" } }],
            "users": [{ "name": "nobody", "user": {} }],
            "current-context": "proxy",
        });
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(config.to_string().as_bytes()).unwrap();
        file
    }

    /// From now on these rules hold, and no others; of several that cover a call, the first.
    pub(crate) fn set(&self, rules: impl IntoIterator<Item = Rule>) {
        *lock(&self.shared.rules) = rules.into_iter().collect();
    }

    /// Breaks off all watches.
    pub(crate) fn cut(&self) {
        self.shared.cut.send_modify(|number| *number += 1);
    }

    /// Cuts every connection, and refuses new ones until it is started again.
    pub(crate) fn stop(&self) {
        if let Some(server) = lock(&self.server).take() {
            server.abort();
        }
    }

    /// Listens again where it did.
    pub(crate) async fn resume(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *lock(&self.server) = Some(tokio::spawn(serve(listener, Arc::clone(&self.shared))));
    }

    /// The calls since the last look, in the order of their answers.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut lock(&self.shared.calls))
    }

    /// Those calls, which a later look finds again.
    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.shared.calls).clone()
    }

    /// Lets so many writes pass (leases apart), then nothing any more.
    pub(crate) fn end_after(&self, writes: usize) {
        *lock(&self.shared.writes) = Some(writes);
    }

    /// Waits until a call is kept.
    pub(crate) async fn keeps(&self) {
        let mut keeps = self.shared.keeps.subscribe();
        // The sender lives as long as this does.
        drop(keeps.wait_for(|keeps| *keeps).await);
    }

    /// Lets go what is kept.
    pub(crate) fn let_go(&self) {
        self.shared.keeps.send_replace(false);
    }

    /// Waits until nothing passes any more.
    pub(crate) async fn over(&self) {
        let mut over = self.shared.over.subscribe();
        // The sender lives as long as this does.
        drop(over.wait_for(|over| *over).await);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropped with this task, so that stopping cuts what goes on.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let shared = Arc::clone(&shared);
                connections.spawn(async move {
                    let service = service_fn(|request| Arc::clone(&shared).answer(request));
                    let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                    // What was cut is cut.
                    drop(served.await);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "lost")
}

impl Shared {
    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let mut call = Call::of(request.method(), request.uri());
        let outcome = self.decide(&call, request).await;
        call.status = outcome.as_ref().map_or(0, |answer| answer.status().as_u16());
        lock(&self.calls).push(call);
        outcome
    }

    async fn decide(self: &Arc<Self>, call: &Call, request: Request<Incoming>) -> io::Result<Response<Body>> {
        if !self.admit(call) {
            return Err(lost());
        }
        let end = match self.fault(call) {
            None => End::Never,
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                End::Never
            }
            Some(Fault::Answer(status, after, message)) => return Ok(refusal(status, after, message)),
            Some(Fault::Hold) => return self.keep(request).await,
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Lose) => {
                self.pass(request, End::Never).await?;
                return Err(lost());
            }
            Some(Fault::Cut(events)) => End::Cut(events),
            Some(Fault::Forget(events)) => End::Forget(events),
            Some(Fault::Tear(bytes)) => End::Tear(bytes),
            Some(Fault::Hang) => End::Hang,
        };
        self.pass(request, end).await
    }

    /// Whether a call may pass at all. The platform ends with the last write that may.
    fn admit(&self, call: &Call) -> bool {
        let mut writes = lock(&self.writes);
        let Some(left) = writes.as_mut() else { return true };
        if *left == 0 {
            self.over.send_replace(true);
            return false;
        }
        if call.is_write() && !call.is_beat() {
            *left -= 1;
        }
        true
    }

    fn fault(&self, call: &Call) -> Option<Fault> {
        let mut rules = lock(&self.rules);
        rules.iter_mut().find_map(|rule| rule.strikes(call).then(|| rule.fault.clone()))
    }

    /// Passes a call on once it is let go, though its caller may have gone.
    async fn keep(self: &Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let shared = Arc::clone(self);
        let passed = tokio::spawn(async move {
            let mut keeps = shared.keeps.subscribe();
            shared.keeps.send_replace(true);
            drop(keeps.wait_for(|keeps| !*keeps).await);
            shared.send(parts, body, End::Never).await
        });
        passed.await.map_err(io::Error::other)?
    }

    async fn pass(&self, request: Request<Incoming>, end: End) -> io::Result<Response<Body>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.send(parts, body, end).await
    }

    async fn send(&self, mut parts: Parts, body: Bytes, end: End) -> io::Result<Response<Body>> {
        parts.headers.remove(HOST);
        let request = Request::from_parts(parts, kube::client::Body::from(body));
        let answer = self.upstream.send(request).await.map_err(io::Error::other)?;
        let (mut parts, body) = answer.into_parts();
        parts.headers.remove(TRANSFER_ENCODING);
        parts.version = hyper::Version::HTTP_11;
        Ok(Response::from_parts(parts, relay(body, end, self.cut.subscribe())))
    }
}

/// A refusal as the API server gives it: in plain text where it has too much to do, else as an object.
fn refusal(status: u16, after: Option<u32>, message: &str) -> Response<Body> {
    let object = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "code": status,
    });
    let (kind, body) = match after {
        Some(_) => ("text/plain; charset=utf-8", message.to_owned()),
        None => ("application/json", object.to_string()),
    };
    let mut answer = Response::new(whole(body));
    *answer.status_mut() = hyper::StatusCode::from_u16(status).unwrap();
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    if let Some(seconds) = after {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}
