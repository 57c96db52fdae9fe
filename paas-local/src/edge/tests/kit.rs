//! What the edge's tests stand on: instances, clients and an edge, all on loopback in this process.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use paas_core::{Error, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::*;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for a condition, up to the deadline.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let wait = async {
        loop {
            if let Some(value) = check().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// Holds listeners as the keeper does.
#[derive(Default)]
pub(crate) struct Holder {
    held: Mutex<HashMap<String, std::net::TcpListener>>,
}

impl Holder {
    pub(crate) fn bind(&self, name: &str) -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        self.held.lock().unwrap().insert(name.to_owned(), listener);
        addr
    }
}

#[async_trait]
impl ListenerSource for Holder {
    async fn take(&self, name: &str) -> Result<std::net::TcpListener> {
        match self.held.lock().unwrap().get(name) {
            Some(listener) => Ok(listener.try_clone().unwrap()),
            None => Err(Error::not_found("no such listener").with("name", name)),
        }
    }
}

/// An edge with its client.
pub(crate) struct Rig {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) holder: Arc<Holder>,
    pub(crate) public: SocketAddr,
    pub(crate) running: Option<Running>,
    pub(crate) edge: Edge,
    generation: AtomicU64,
}

impl Rig {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(adjust: impl FnOnce(&mut EdgeConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let holder = Arc::new(Holder::default());
        let public = holder.bind(PUBLIC);
        let mut config = EdgeConfig::new(dir.path());
        adjust(&mut config);
        let running = Some(Running::start(config, holder.clone()).await.unwrap());
        let edge = Edge::new(dir.path());
        Self { dir, holder, public, running, edge, generation: AtomicU64::new(0) }
    }

    pub(crate) async fn restart(&mut self) {
        self.running = None;
        let config = EdgeConfig::new(self.dir.path());
        self.running = Some(Running::start(config, self.holder.clone()).await.unwrap());
    }

    pub(crate) async fn apply(&self, route: &Route) {
        self.edge.apply(self.stamp(), route).await.unwrap();
    }

    pub(crate) fn stamp(&self) -> Stamp {
        Stamp { epoch: 1, generation: self.generation.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.public).await
    }

    /// Sends bytes and reads to the end of the connection.
    pub(crate) async fn raw(&self, bytes: &str) -> String {
        raw(self.public, bytes).await
    }

    pub(crate) async fn slot(&self, service: &str, slot: SlotName) -> SlotUsage {
        let traffic = self.edge.traffic(Some(service)).await.unwrap();
        traffic.services[0].slots.iter().rev().find(|s| s.slot == slot).unwrap().clone()
    }
}

pub(crate) async fn raw(addr: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

/// A route of a service `app` for the domain `app.test`.
pub(crate) fn route(slots: &[(SlotName, u64, u32, &[&Instance])]) -> Route {
    let mut route = Route::new("app");
    route.hosts.push(HostRule::new("app.test"));
    for (slot, revision, weight, instances) in slots {
        let endpoints = instances.iter().map(|i| EndpointRule { id: i.id.clone(), addr: i.addr }).collect();
        route.slots.push(SlotRule { slot: *slot, revision: *revision, weight: *weight, endpoints });
    }
    route
}

pub(crate) fn blue(instances: &[&Instance]) -> Route {
    route(&[(SlotName::Blue, 1, 100, instances)])
}

/// What an instance was asked, whole.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) head: hyper::http::request::Parts,
    pub(crate) body: Bytes,
}

/// An HTTP instance that records what it is asked and answers with its id.
pub(crate) struct Instance {
    pub(crate) id: String,
    pub(crate) addr: SocketAddr,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    pub(crate) count: Arc<AtomicU64>,
    tasks: tokio::task::JoinHandle<()>,
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.tasks.abort();
    }
}

impl Instance {
    pub(crate) async fn start(id: &str) -> Self {
        let name = Bytes::copy_from_slice(id.as_bytes());
        Self::serving(id, move |_| {
            let name = name.clone();
            async move { Response::new(Full::new(name)) }
        })
        .await
    }

    pub(crate) async fn serving<F, R>(id: &str, answer: F) -> Self
    where
        F: Fn(Asked) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let count: Arc<AtomicU64> = Arc::default();
        let (list, total) = (asked.clone(), count.clone());
        let tasks = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (list, total, answer) = (list.clone(), total.clone(), answer.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (list, total, answer) = (list.clone(), total.clone(), answer.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let body = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                        let asked = Asked { head, body };
                        if total.fetch_add(1, Ordering::Relaxed) < 1_000 {
                            list.lock().unwrap().push(asked.clone());
                        }
                        Ok::<_, Infallible>(answer(asked).await)
                    }
                });
                let _ = stream.set_nodelay(true);
                let http = hyper::server::conn::http1::Builder::new();
                connections.spawn(async move {
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { id: id.to_owned(), addr, asked, count, tasks }
    }

    /// An instance that treats each connection as `script` says.
    pub(crate) async fn scripted<F, R>(id: &str, script: F) -> Self
    where
        F: Fn(u64, TcpStream) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let count: Arc<AtomicU64> = Arc::default();
        let total = count.clone();
        let tasks = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(script(total.fetch_add(1, Ordering::Relaxed), stream));
            }
        });
        Self { id: id.to_owned(), addr, asked: Arc::default(), count, tasks }
    }

    /// An address where nobody listens.
    pub(crate) async fn refusing(id: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        Self {
            id: id.to_owned(),
            addr,
            asked: Arc::default(),
            count: Arc::default(),
            tasks: tokio::spawn(async {}),
        }
    }

    pub(crate) fn asked(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn last(&self) -> Asked {
        self.asked.lock().unwrap().last().unwrap().clone()
    }
}

/// Reads a request's head from a socket.
pub(crate) async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.ok()?;
        head.push(byte);
    }
    Some(String::from_utf8(head).unwrap())
}

/// A keep-alive client of the edge.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
}

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: hyper::http::response::Parts,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

pub(crate) fn request(method: &str, path: &str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).header("host", "app.test").body(Full::default()).unwrap()
}

pub(crate) fn post(path: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
    Request::builder().method("POST").uri(path).header("host", "app.test").body(body).unwrap()
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn try_ask(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer { head, text: String::from_utf8_lossy(&body).into_owned() })
    }

    pub(crate) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Answer {
        tokio::time::timeout(DEADLINE, self.try_ask(request)).await.expect("an answer in time").unwrap()
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask(request("GET", path)).await
    }
}
