//! One client's connection: how long each phase may take, and how it ends.
//!
//! Requests set no timers. They store the time at which something began to wait, and one coarse timer per connection
//! looks whether anything has waited for too long.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::clock;
use super::config::EdgeConfig;

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
const PHASES: u64 = 3;

/// What waits: 0 means nothing does.
#[derive(Debug, Default)]
pub(crate) struct Wait(AtomicU64);

impl Wait {
    pub(crate) fn begin(&self) {
        if self.0.load(Ordering::Relaxed) == 0 {
            self.0.store(clock::now(), Ordering::Relaxed);
        }
    }

    pub(crate) fn end(&self) {
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }

    fn expires(&self, limit: Duration) -> Option<u64> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            since => Some(since.saturating_add(limit.as_millis() as u64)),
        }
    }
}

/// What is known of a connection by all who handle parts of it.
#[derive(Debug, Default)]
pub(crate) struct Client {
    /// Milliseconds times four, plus the phase.
    phase: AtomicU64,
    /// The client does not read what we write.
    writing: Wait,
    /// The client does not send the rest of its request.
    pub(crate) uploading: Wait,
    /// The instance does not send the rest of its answer.
    pub(crate) downloading: Wait,
    /// When the client last sent a part of its request's body.
    pub(crate) uploaded: AtomicU64,
    /// The connection must end in a reset, because its end would read as the answer's.
    reset: AtomicBool,
    cut: AtomicBool,
    waker: AtomicWaker,
}

impl Client {
    pub(crate) fn new() -> Arc<Self> {
        let client = Self::default();
        client.enter(HEAD);
        Arc::new(client)
    }

    fn enter(&self, phase: u64) {
        self.phase.store(clock::now() << 2 | phase, Ordering::Relaxed);
    }

    fn phase(&self) -> u64 {
        self.phase.load(Ordering::Relaxed) & PHASES
    }

    /// A request is being served until the guard is dropped.
    pub(crate) fn busy(self: &Arc<Self>) -> Busy {
        self.enter(BUSY);
        Busy(self.clone())
    }

    /// The answer was cut off: the client must not take it for whole.
    pub(crate) fn broken(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    fn arrived(&self) {
        if self.phase() == IDLE {
            self.enter(HEAD);
        }
    }

    /// When the connection has to go at the earliest, and whether politely.
    fn deadline(&self, config: &EdgeConfig) -> (u64, bool) {
        let word = self.phase.load(Ordering::Relaxed);
        let since = word >> 2;
        let after = |limit: Duration| since.saturating_add(limit.as_millis() as u64);
        let (phase, polite) = match word & PHASES {
            IDLE => (after(config.client_idle), true),
            HEAD => (after(config.head_timeout), false),
            _ => (u64::MAX, false),
        };
        let waits = [
            self.writing.expires(config.body_idle),
            self.uploading.expires(config.body_idle),
            self.downloading.expires(config.body_idle),
        ];
        match waits.into_iter().flatten().min() {
            Some(wait) if wait < phase => (wait, false),
            _ => (phase, polite),
        }
    }
}

/// Marks a connection as serving a request.
#[derive(Debug)]
pub(crate) struct Busy(Arc<Client>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.uploading.end();
        self.0.downloading.end();
        self.0.enter(IDLE);
    }
}

/// What the driver needs of a served connection.
pub(crate) trait Served: Future {
    /// Ends it after the request that is being served, if any.
    fn finish(self: Pin<&mut Self>);
}

/// Drives a connection until it ends, has waited for too long, or has to go.
pub(crate) async fn drive(served: impl Served, client: &Client, clients: &Clients, config: &EdgeConfig) {
    let mut served = pin!(served);
    let tick = config.head_timeout.min(Duration::from_secs(10));
    let mut sleep = pin!(tokio::time::sleep(tick));
    let mut finishing = false;
    poll_fn(|cx| {
        loop {
            if served.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            client.waker.register(cx.waker());
            if client.cut.load(Ordering::Acquire) {
                return Poll::Ready(());
            }
            if !finishing && clients.is_finishing() {
                finishing = true;
                served.as_mut().finish();
                continue;
            }
            if sleep.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let (deadline, polite) = client.deadline(config);
            let now = clock::now();
            if now >= deadline {
                if !polite || finishing {
                    return Poll::Ready(());
                }
                finishing = true;
                served.as_mut().finish();
            }
            let next =
                Duration::from_millis(deadline.saturating_sub(now)).clamp(Duration::from_millis(1), tick);
            sleep.as_mut().reset(Instant::now() + next);
        }
    })
    .await;
}

/// All open client connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    open: Mutex<HashMap<u64, Arc<Client>>>,
    next: AtomicU64,
    /// Answers carry `Connection: close`.
    closing: AtomicBool,
    /// Idle connections are closed.
    finishing: AtomicBool,
    gone: tokio::sync::Notify,
}

impl Clients {
    pub(crate) fn enter(self: &Arc<Self>) -> Entry {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let client = Client::new();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, client.clone());
        Entry { id, client, clients: self.clone() }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    fn is_finishing(&self) -> bool {
        self.finishing.load(Ordering::Acquire)
    }

    pub(crate) fn start_closing(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn finish_idle(&self) {
        self.finishing.store(true, Ordering::Release);
        self.wake();
    }

    /// Ends all connections where they are.
    pub(crate) fn cut(&self) {
        for client in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            client.cut.store(true, Ordering::Release);
        }
        self.wake();
    }

    fn wake(&self) {
        for client in self.open.lock().unwrap_or_else(PoisonError::into_inner).values() {
            client.waker.wake();
        }
    }

    /// Waits until no connection is open.
    pub(crate) async fn all_gone(&self) {
        loop {
            let mut gone = pin!(self.gone.notified());
            gone.as_mut().enable();
            if self.len() == 0 {
                return;
            }
            gone.await;
        }
    }
}

/// A connection's entry among the open ones.
#[derive(Debug)]
pub(crate) struct Entry {
    id: u64,
    pub(crate) client: Arc<Client>,
    clients: Arc<Clients>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.clients.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        self.clients.gone.notify_waiters();
    }
}

/// A client's socket that keeps the books.
#[derive(Debug)]
pub(crate) struct ClientSocket {
    stream: TcpStream,
    client: Arc<Client>,
}

impl ClientSocket {
    pub(crate) fn new(stream: TcpStream, client: Arc<Client>) -> Self {
        Self { stream, client }
    }

    fn wrote<T>(&self, result: Poll<T>) -> Poll<T> {
        if result.is_pending() {
            self.client.writing.begin();
        } else {
            self.client.writing.end();
        }
        result
    }

    fn end_with_reset(&self) {
        if self.client.reset.load(Ordering::Relaxed) {
            let _ = rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO));
        }
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if result.is_ready() {
            self.client.arrived();
        }
        result
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.client.reset.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        self.end_with_reset();
    }
}
