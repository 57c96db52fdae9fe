//! What the edge costs: `cargo bench -p paas-local --bench edge`.
//!
//! Each line is a name, our figure, the peer's, their ratio, the goal, and whether it was met. Load, instances and
//! the proxy run on threads of their own, so CPU time can be told apart by thread name.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use paas_core::{Error, Result};
use paas_local::edge::{
    Edge, EdgeConfig, EndpointRule, HostRule, ListenerSource, PUBLIC, Route, Running, SlotName, SlotRule,
    Stamp,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

const CLIENTS: usize = 32;

fn main() {
    let seconds = if std::env::args().any(|arg| arg == "--test") { 1 } else { 4 };
    println!("{:44} {:>12} {:>12} {:>7} {:>9}", "name", "ours", "peer", "ratio", "goal");
    let bench = Bench::new(Duration::from_secs(seconds));
    bench.requests("GET, 3 bytes", false, 3);
    bench.requests("POST, 3 bytes", true, 3);
    bench.requests("GET, 64 KiB", false, 64 * 1024);
    bench.weights();
    bench.switch();
    bench.start();
}

/// Prints a line; smaller is better where the goal is an upper bound.
fn line(name: &str, ours: f64, peer: Option<f64>, goal: Goal) {
    let ratio = peer.map(|peer| ours / peer);
    let (met, shown) = match goal {
        Goal::Ratio(least) => (ratio.is_some_and(|ratio| ratio >= least), format!(">= {least}")),
        Goal::AtMost(most) => (ours <= most, format!("<= {most}")),
    };
    let text = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let met = if met { "met" } else { "short" };
    println!("{name:44} {ours:>12.3} {:>12} {:>7} {shown:>9}  {met}", text(peer), text(ratio));
}

#[derive(Clone, Copy)]
enum Goal {
    Ratio(f64),
    AtMost(f64),
}

fn runtime(name: &'static str, threads: usize) -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name(name)
        .enable_all()
        .build()
        .unwrap()
}

/// CPU seconds of all threads of a name.
fn cpu(name: &str) -> f64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanos = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        let comm = std::fs::read_to_string(task.join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.join("schedstat")).ok()?;
        (comm.trim() == name).then(|| stat.split(' ').next().unwrap().parse::<u64>().unwrap())
    });
    nanos.sum::<u64>() as f64 / 1e9
}

#[derive(Default)]
struct Holder(Mutex<HashMap<String, std::net::TcpListener>>);

#[async_trait]
impl ListenerSource for Holder {
    async fn take(&self, name: &str) -> Result<std::net::TcpListener> {
        let held = self.0.lock().unwrap();
        held.get(name).map(|l| l.try_clone().unwrap()).ok_or_else(|| Error::not_found("no such listener"))
    }
}

struct Bench {
    time: Duration,
    load: Runtime,
    /// Where the calls of the edge's client are made.
    caller: Runtime,
    instances: Runtime,
    proxies: Runtime,
    bare: Runtime,
    dir: tempfile::TempDir,
    holder: Arc<Holder>,
    edge: Edge,
    public: SocketAddr,
    running: Option<Running>,
    generation: AtomicU64,
    epoch: Instant,
}

impl Bench {
    fn new(time: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let holder = Arc::new(Holder::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let public = listener.local_addr().unwrap();
        holder.0.lock().unwrap().insert(PUBLIC.into(), listener);
        let proxies = runtime("edge", 2);
        let running = proxies.block_on(Running::start(EdgeConfig::new(dir.path()), holder.clone())).unwrap();
        Self {
            time,
            load: runtime("load", 2),
            caller: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            instances: runtime("instance", 2),
            proxies,
            bare: runtime("bare", 2),
            edge: Edge::new(dir.path()),
            dir,
            holder,
            public,
            running: Some(running),
            generation: AtomicU64::new(1),
            epoch: Instant::now(),
        }
    }

    fn instance(&self, body: Vec<u8>) -> SocketAddr {
        self.dated_instance(body, Arc::default())
    }

    /// An instance that notes when the last request arrived, in nanoseconds since the bench began.
    fn dated_instance(&self, body: Vec<u8>, last: Arc<AtomicU64>) -> SocketAddr {
        let (body, epoch) = (Bytes::from(body), self.epoch);
        self.instances.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (body, last) = (body.clone(), last.clone());
                    let service = service_fn(move |request: Request<Incoming>| {
                        last.fetch_max(epoch.elapsed().as_nanos() as u64, Ordering::Relaxed);
                        let body = body.clone();
                        async move {
                            let _ = request.into_body().collect().await;
                            Ok::<_, Infallible>(Response::new(Full::new(body)))
                        }
                    });
                    stream.set_nodelay(true).unwrap();
                    let http = hyper::server::conn::http1::Builder::new();
                    tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
                }
            });
            addr
        })
    }

    fn apply(&self, slots: &[(SlotName, u32, SocketAddr)]) {
        let mut route = Route::new("app");
        route.hosts.push(HostRule::new("*"));
        for (slot, weight, addr) in slots {
            let endpoints = vec![EndpointRule { id: addr.to_string(), addr: *addr }];
            route.slots.push(SlotRule { slot: *slot, revision: 1, weight: *weight, endpoints });
        }
        let stamp = Stamp { epoch: 1, generation: self.generation.fetch_add(1, Ordering::Relaxed) };
        self.caller.block_on(self.edge.apply(stamp, &route)).unwrap();
    }

    /// Requests per CPU second, of the threads named, through `addr`.
    fn rate(&self, addr: SocketAddr, post: bool, threads: &str) -> f64 {
        drive(&self.load, addr, post, self.time / 16);
        let before = cpu(threads);
        let count = drive(&self.load, addr, post, self.time / 4);
        count as f64 / (cpu(threads) - before)
    }

    fn requests(&self, name: &str, post: bool, size: usize) {
        let instance = self.instance(vec![b'x'; size]);
        self.apply(&[(SlotName::Blue, 1, instance)]);
        let proxy = self.bare.block_on(bare_proxy(instance));
        // In turns, so that whatever else the machine does meets all three.
        let mut rates = [const { Vec::new() }; 3];
        for _ in 0..5 {
            for (rates, (addr, threads)) in
                rates.iter_mut().zip([(self.public, "edge"), (proxy, "bare"), (instance, "instance")])
            {
                rates.push(self.rate(addr, post, threads));
            }
        }
        let [ours, bare, direct] = rates.map(|mut rates: Vec<f64>| {
            rates.sort_unstable_by(f64::total_cmp);
            rates[rates.len() / 2]
        });
        line(&format!("{name}: requests/CPU s, to a bare hyper proxy"), ours, Some(bare), Goal::Ratio(0.8));
        line(&format!("{name}: requests/CPU s, to the instance"), ours, Some(direct), Goal::Ratio(0.3));
    }

    fn weights(&self) {
        let (blue, green) = (self.instance(b"blue".to_vec()), self.instance(b"green".to_vec()));
        let mut worst: f64 = 0.0;
        for weight in [1, 5, 10, 25, 33, 50] {
            self.apply(&[(SlotName::Blue, 100 - weight, blue), (SlotName::Green, weight, green)]);
            let hits = self.load.block_on(async {
                let hits = Arc::new(AtomicU64::new(0));
                let clients = (0..CLIENTS).map(|i| {
                    let (hits, addr) = (hits.clone(), self.public);
                    tokio::spawn(async move {
                        let mut client = Client::connect(addr).await;
                        let count = 10_000 / CLIENTS + usize::from(i < 10_000 % CLIENTS);
                        for _ in 0..count {
                            if client.ask(i % 2 == 0).await == "green" {
                                hits.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    })
                });
                for client in clients.collect::<Vec<_>>() {
                    client.await.unwrap();
                }
                hits.load(Ordering::Relaxed)
            });
            worst = worst.max((hits as f64 / 100.0 - f64::from(weight)).abs());
        }
        line("weights: deviation over 10,000, percent", worst, None, Goal::AtMost(1.0));
    }

    /// From the call of apply to the arrival of the last request at the old instance, and to the acknowledgement.
    fn switch(&self) {
        let (last_blue, last_green) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let blue = self.dated_instance(b"blue".to_vec(), last_blue.clone());
        let green = self.dated_instance(b"green".to_vec(), last_green.clone());
        let rounds = if self.time > Duration::from_secs(1) { 101 } else { 11 };
        for (name, clients) in [("1 client", 1), ("32 clients", CLIENTS)] {
            let stop = Arc::new(AtomicBool::new(false));
            let (mut moved, mut acknowledged) = (Vec::new(), Vec::new());
            self.apply(&[(SlotName::Blue, 1, blue), (SlotName::Green, 0, green)]);
            std::thread::scope(|scope| {
                let (load, halt, addr) = (&self.load, stop.clone(), self.public);
                scope.spawn(move || load.block_on(keep_busy(addr, halt, clients)));
                for round in 0..rounds {
                    let (weights, old, new) = match round % 2 {
                        0 => ((0, 1), &last_blue, &last_green),
                        _ => ((1, 0), &last_green, &last_blue),
                    };
                    until_later(old, self.epoch.elapsed());
                    let began = self.epoch.elapsed();
                    self.apply(&[(SlotName::Blue, weights.0, blue), (SlotName::Green, weights.1, green)]);
                    let acknowledgement = self.epoch.elapsed();
                    acknowledged.push(acknowledgement - began);
                    until_later(new, acknowledgement);
                    moved.push(Duration::from_nanos(old.load(Ordering::Relaxed)).saturating_sub(began));
                }
                stop.store(true, Ordering::Relaxed);
            });
            line(
                &format!("switch, {name}: traffic moved, ms, median"),
                median(moved),
                None,
                Goal::AtMost(1.0),
            );
            line(
                &format!("switch, {name}: acknowledged, ms, median"),
                median(acknowledged),
                None,
                Goal::AtMost(5.0),
            );
        }
    }

    /// From a dead edge with 1,000 routes to the first answer.
    fn start(mut self) {
        let instance = self.instance(b"x".to_vec());
        self.load.block_on(async {
            for i in 0..1_000 {
                let mut route = Route::new(format!("service-{i}"));
                route.hosts.push(HostRule::new(format!("service-{i}.test")));
                let endpoints = vec![EndpointRule { id: "i".into(), addr: instance }];
                route.slots.push(SlotRule { slot: SlotName::Blue, revision: 1, weight: 1, endpoints });
                self.edge.apply(Stamp { epoch: 1, generation: 1 }, &route).await.unwrap();
            }
        });
        let mut took = Vec::new();
        for _ in 0..11 {
            self.running = None;
            let began = Instant::now();
            let config = EdgeConfig::new(self.dir.path());
            let running = self.proxies.block_on(Running::start(config, self.holder.clone())).unwrap();
            self.load.block_on(async { Client::connect(self.public).await.ask(false).await });
            took.push(began.elapsed());
            self.running = Some(running);
        }
        line("start with 1,000 routes to an answer, ms", median(took), None, Goal::AtMost(50.0));
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Waits until a request arrived after `time`.
fn until_later(last: &AtomicU64, time: Duration) {
    while Duration::from_nanos(last.load(Ordering::Relaxed)) <= time {
        std::thread::yield_now();
    }
}

async fn keep_busy(addr: SocketAddr, halt: Arc<AtomicBool>, clients: usize) {
    let clients = (0..clients).map(|i| {
        let halt = halt.clone();
        tokio::spawn(async move {
            let mut client = Client::connect(addr).await;
            while !halt.load(Ordering::Relaxed) {
                client.ask(i % 2 == 0).await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

fn drive(load: &Runtime, addr: SocketAddr, post: bool, time: Duration) -> u64 {
    load.block_on(async {
        let clients = (0..CLIENTS).map(|_| {
            tokio::spawn(async move {
                let (mut client, mut count, end) = (Client::connect(addr).await, 0, Instant::now() + time);
                while Instant::now() < end {
                    client.ask(post).await;
                    count += 1;
                }
                count
            })
        });
        let mut total = 0;
        for client in clients.collect::<Vec<_>>() {
            total += client.await.unwrap();
        }
        total
    })
}

struct Client(hyper::client::conn::http1::SendRequest<Full<Bytes>>);

impl Client {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(&mut self, post: bool) -> Bytes {
        let (method, body) = if post { ("POST", "abc") } else { ("GET", "") };
        let request = Request::builder().method(method).uri("/some/path?query=1").header("host", "app.test");
        let request =
            request.header("user-agent", "bench/1").header("accept", "*/*").body(Full::from(body)).unwrap();
        self.0.ready().await.unwrap();
        let response = self.0.send_request(request).await.unwrap();
        assert!(response.status().is_success() || response.status() == 404, "{}", response.status());
        response.into_body().collect().await.unwrap().to_bytes()
    }
}

/// The least a proxy of hyper can do: no routes, no counts, no limits, one instance connection per client.
async fn bare_proxy(instance: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            tokio::spawn(async move {
                let to = TcpStream::connect(instance).await.unwrap();
                to.set_nodelay(true).unwrap();
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(to)).await.unwrap();
                tokio::spawn(connection);
                let sender = Arc::new(tokio::sync::Mutex::new(sender));
                let service = service_fn(move |request: Request<Incoming>| {
                    let sender = sender.clone();
                    async move {
                        let mut sender = sender.lock().await;
                        sender.ready().await?;
                        sender.send_request(request).await
                    }
                });
                let http = hyper::server::conn::http1::Builder::new();
                let _ = http.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    addr
}
