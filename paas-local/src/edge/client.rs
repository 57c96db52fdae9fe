//! The platform's side of the control socket.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_core::{Error, ErrorKind, Result};
use tokio::net::UnixStream;
use tokio::runtime::{Handle, Id};
use tokio::time::{Instant, timeout_at};

use super::ledger::Stamp;
use super::route::Route;
use super::socket;
use super::state::ServiceUsage;
use super::traffic::Traffic;
use super::usage::Event;
use super::wire::{self, Hello, MAX_REPLY, MAX_REQUEST, Reply, Request};

/// The most idle control connections kept.
const MAX_IDLE: usize = 8;

/// A client of the edge. Clones share their connections. Every call has a deadline, dials again when the edge was
/// restarted, and may be repeated: changes carry a [`Stamp`], so the second of two equal ones does nothing.
#[derive(Debug, Clone)]
pub struct Edge {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    deadline: Duration,
    /// Each with the runtime that watches it; another could wait for it in vain.
    idle: Mutex<Vec<(Id, UnixStream)>>,
}

impl Edge {
    /// A client of the edge that runs (or will run) on a data directory; each call takes at most 5 s.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self::with_deadline(dir, Duration::from_secs(5))
    }

    /// As [`Edge::new`], with another deadline.
    pub fn with_deadline(dir: impl Into<PathBuf>, deadline: Duration) -> Self {
        let dir = dir.into().join("edge");
        Self { inner: Arc::new(Inner { dir, deadline, idle: Mutex::default() }) }
    }

    /// Asks who is there; waits for an edge that is just starting.
    ///
    /// # Errors
    /// `Unavailable` without an edge, `Unsupported` when it speaks another version.
    pub async fn hello(&self) -> Result<Hello> {
        match self.call(Request::Hello { version: wire::VERSION }).await? {
            Reply::Hello(hello) => Ok(hello),
            other => Err(unexpected(&other)),
        }
    }

    /// Sets one service's route. `Ok` means: it is stored, no new request goes to an endpoint it does not name or
    /// gives no weight, and its listeners are served. Idempotent.
    ///
    /// # Errors
    /// `Invalid` names the field; `Conflict` for an older stamp, or for a listener or domain that is taken.
    pub async fn apply(&self, stamp: Stamp, route: &Route) -> Result<()> {
        route.validate()?;
        self.change(Request::Apply { stamp, route: Box::new(route.clone()) }).await
    }

    /// Removes one service's route; requests that are open go on. One that does not exist is removed already.
    ///
    /// # Errors
    /// `Conflict` for an older stamp.
    pub async fn remove(&self, stamp: Stamp, service: &str) -> Result<()> {
        self.change(Request::Remove { stamp, service: service.to_owned() }).await
    }

    /// What is open at the endpoints of a service.
    ///
    /// # Errors
    /// `NotFound` when it has neither a route nor open work.
    pub async fn observe(&self, service: &str) -> Result<ServiceUsage> {
        let found = self.observed(Some(service.to_owned())).await?;
        found.into_iter().next().ok_or_else(|| Error::not_found("no such service").with("service", service))
    }

    /// What is open at the endpoints of all services, by one call.
    ///
    /// # Errors
    /// `Unavailable` without an edge.
    pub async fn observe_all(&self) -> Result<Vec<ServiceUsage>> {
        self.observed(None).await
    }

    async fn observed(&self, service: Option<String>) -> Result<Vec<ServiceUsage>> {
        match self.call(Request::Observe { service }).await? {
            Reply::Observed(services) => Ok(services),
            other => Err(unexpected(&other)),
        }
    }

    /// The counters of one service, or of all.
    ///
    /// # Errors
    /// `NotFound` when the service has neither a route nor open work.
    pub async fn traffic(&self, service: Option<&str>) -> Result<Traffic> {
        match self.call(Request::Traffic { service: service.map(str::to_owned) }).await? {
            Reply::Traffic(traffic) => Ok(traffic),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits until no endpoint of a service that gets no new work has open work; `false` when `wait` was not enough.
    ///
    /// # Errors
    /// `Unavailable` without an edge.
    pub async fn drained(&self, service: &str, wait: Duration) -> Result<bool> {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let request = Request::Drained { service: service.to_owned(), wait_ms };
        match self.call_until(request, Instant::now() + wait + self.inner.deadline).await? {
            Reply::Drained(done) => Ok(done),
            other => Err(unexpected(&other)),
        }
    }

    /// What happens from now on. Subscribe first, then observe, and nothing is missed. The stream ends when the edge
    /// does; then subscribe and observe again.
    ///
    /// # Errors
    /// `Unavailable` without an edge.
    pub async fn events(&self) -> Result<BoxStream<'static, Event>> {
        let until = Instant::now() + self.inner.deadline;
        let mut stream = self.dial(until).await?;
        match in_time(until, exchange(&mut stream, &Request::Events)).await? {
            Reply::Done => {}
            other => return Err(unexpected(&other)),
        }
        let events = stream::unfold(stream, |mut stream| async move {
            match wire::read(&mut stream, MAX_REPLY).await {
                Ok(Some(Reply::Event(event))) => Some((event, stream)),
                _ => None,
            }
        });
        Ok(events.boxed())
    }

    async fn change(&self, request: Request) -> Result<()> {
        match self.call(request).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    async fn call(&self, request: Request) -> Result<Reply> {
        self.call_until(request, Instant::now() + self.inner.deadline).await
    }

    /// Every request may be repeated, so a connection that breaks is replaced until the deadline.
    async fn call_until(&self, request: Request, until: Instant) -> Result<Reply> {
        let frame = wire::encode(&request, MAX_REQUEST)?;
        loop {
            let pooled = self.pooled();
            let mut stream = match pooled {
                Some(stream) => stream,
                None => self.dial(until).await?,
            };
            match in_time(until, send(&mut stream, &frame)).await {
                Ok(Reply::Failed(failed)) => {
                    self.keep(stream);
                    return Err(failed.into());
                }
                Ok(reply) => {
                    self.keep(stream);
                    return Ok(reply);
                }
                Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < until => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn pooled(&self) -> Option<UnixStream> {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let here = Handle::current().id();
        idle.retain(|(runtime, _)| *runtime == here);
        idle.pop().map(|(_, stream)| stream)
    }

    fn keep(&self, stream: UnixStream) {
        let mut idle = self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push((Handle::current().id(), stream));
        }
    }

    /// Connects; an edge that is just (re)starting is waited for.
    async fn dial(&self, until: Instant) -> Result<UnixStream> {
        let mut pause = Duration::from_millis(1);
        loop {
            let error = match timeout_at(until, socket::connect(&self.inner.dir)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => error,
                Err(_) => std::io::ErrorKind::TimedOut.into(),
            };
            if Instant::now() + pause >= until {
                return Err(Error::unavailable("the edge cannot be reached")
                    .with("path", self.inner.dir.display())
                    .with_source(error));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

async fn send(stream: &mut UnixStream, frame: &[u8]) -> Result<Reply> {
    use tokio::io::AsyncWriteExt;
    let gone = || Error::unavailable("the connection to the edge broke");
    stream.write_all(frame).await.map_err(|error| gone().with_source(error))?;
    wire::read(stream, MAX_REPLY).await?.ok_or_else(gone)
}

async fn exchange(stream: &mut UnixStream, request: &Request) -> Result<Reply> {
    send(stream, &wire::encode(request, MAX_REQUEST)?).await
}

async fn in_time<T>(until: Instant, work: impl Future<Output = Result<T>>) -> Result<T> {
    match timeout_at(until, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Timeout, "the edge did not answer in time")),
    }
}

fn unexpected(reply: &Reply) -> Error {
    let text = format!("{reply:.40?}");
    Error::internal("the edge answered something else").with("value", text)
}
