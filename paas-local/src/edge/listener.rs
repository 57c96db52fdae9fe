//! Where listening sockets come from, and the loops that accept from them.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hyper::header::HeaderValue;
use hyper::server::conn::http1::{Builder, UpgradeableConnection};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use paas_core::{BoxError, Error, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::connection::{ClientSocket, Entry, Served, drive};
use super::http::Peer;
use super::route::Protocol;
use super::state::State;
use super::tcp;

/// Who holds the listening sockets: the keeper, or a test.
#[async_trait]
pub trait ListenerSource: Send + Sync + 'static {
    /// Gives a duplicate of the listening socket of this name. Asking again gives another duplicate.
    ///
    /// # Errors
    /// `NotFound` for a name that is not known.
    async fn take(&self, name: &str) -> Result<std::net::TcpListener>;

    /// Nobody accepts from the socket of this name any more: duplicates that were kept would let clients wait in vain.
    fn release(&self, _name: &str) {}
}

/// The listeners that are served.
pub(crate) struct Listeners {
    source: Arc<dyn ListenerSource>,
    slots: Arc<Semaphore>,
    open: Mutex<HashMap<String, JoinHandle<()>>>,
    /// Where connections are served, also when a change comes from another thread.
    workers: Handle,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners").field("open", &self.open).finish_non_exhaustive()
    }
}

impl Listeners {
    pub(crate) fn new(source: Arc<dyn ListenerSource>, max_connections: usize) -> Self {
        let slots = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
        Self { source, slots, open: Mutex::default(), workers: Handle::current() }
    }

    /// Takes those of `names` that are not served yet.
    pub(crate) async fn take_missing(&self, names: Vec<String>) -> Result<Vec<(String, TcpListener)>> {
        let missing: Vec<String> = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            names.into_iter().filter(|name| !open.contains_key(name)).collect()
        };
        let takes = missing.into_iter().map(|name| async {
            let listener = self.take(&name).await.map_err(|error| error.with("listener", &name))?;
            Ok((name, listener))
        });
        futures_util::future::try_join_all(takes).await
    }

    async fn take(&self, name: &str) -> Result<TcpListener> {
        let listener = self.source.take(name).await?;
        let usable = |error| Error::unavailable("the listener cannot be used").with_source(error);
        listener.set_nonblocking(true).map_err(usable)?;
        let _context = self.workers.enter();
        TcpListener::from_std(listener).map_err(usable)
    }

    /// Starts to accept.
    pub(crate) fn serve(&self, state: &Arc<State>, new: Vec<(String, TcpListener)>) -> Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (name, listener) in new {
            let accepting = accept(state.clone(), name.as_str().into(), listener, self.slots.clone());
            open.insert(name, self.workers.spawn(accepting));
        }
        Ok(())
    }

    /// Stops to accept from all others; their open connections go on. Their sockets are closed once the tasks that are
    /// given back have ended.
    pub(crate) fn retain(&self, names: &[String]) -> Vec<JoinHandle<()>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let others: Vec<String> = open.keys().filter(|name| !names.contains(name)).cloned().collect();
        let ended = others.into_iter().filter_map(|name| {
            self.source.release(&name);
            open.remove(&name).inspect(JoinHandle::abort)
        });
        ended.collect()
    }
}

async fn accept(state: Arc<State>, name: Arc<str>, listener: TcpListener, slots: Arc<Semaphore>) {
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(listener = &*name, %error, "cannot accept");
                // Out of descriptors, or the client is gone again: neither is busy-waited for.
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        let (state, name) = (state.clone(), name.clone());
        let entry = state.clients.enter();
        tokio::spawn(async move {
            serve(state, name, stream, from, entry).await;
            drop(slot);
        });
    }
}

async fn serve(state: Arc<State>, listener: Arc<str>, stream: TcpStream, from: SocketAddr, entry: Entry) {
    if let Err(error) = stream.set_nodelay(true) {
        return tracing::debug!(%error, "the client left at once");
    }
    let protocol = state.tables.with(|table| table.by_listener(&listener).map(|service| service.protocol));
    match protocol {
        Some(Protocol::Tcp) => tcp::serve(state, listener, stream, entry).await,
        _ => serve_http(state, listener, stream, from, entry).await,
    }
}

async fn serve_http(
    state: Arc<State>,
    listener: Arc<str>,
    stream: TcpStream,
    from: SocketAddr,
    entry: Entry,
) {
    let ip = from.ip().to_canonical().to_string();
    let Ok(ip) = HeaderValue::from_str(&ip) else { return };
    let socket = ClientSocket::new(stream, entry.client.clone());
    let peer = Arc::new(Peer { core: state.clone(), client: entry.client.clone(), listener, ip });
    let mut builder = Builder::new();
    builder
        .header_read_timeout(None)
        .max_headers(state.config.max_headers)
        .max_header_size(state.config.max_head);
    let service = service_fn(move |request| {
        let peer = peer.clone();
        async move { Ok::<_, Infallible>(peer.serve(request).await) }
    });
    let connection = builder.serve_connection(TokioIo::new(socket), service).with_upgrades();
    drive(connection, &entry.client, &state.clients, &state.config).await;
}

impl<S> Served for UpgradeableConnection<TokioIo<ClientSocket>, S>
where
    S: HttpService<hyper::body::Incoming, ResBody = super::body::Outgoing>,
    S::Error: Into<BoxError>,
{
    fn finish(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
