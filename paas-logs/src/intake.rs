//! Takes in lines that others send: over HTTP, as JSON lines, as Elasticsearch's `_bulk`, and as OTLP.
//!
//! Whoever sends is told that lines are taken once they are stored. Whose they are the credential says, and the platform's own
//! table of instances; never the lines.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use paas_core::port::{LogPorts, LogStore};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::pipeline::{Pushed, Services, Sinks};
use alerts::Alerts;
use commit::{Commit, Places};
use rate::Rates;
use socket::Socket;

pub use config::IntakeConfig;
pub(crate) use quarantine::Quarantine;

mod alerts;
mod answer;
mod body;
mod bulk;
mod claims;
mod commit;
mod config;
mod credential;
mod draft;
mod elasticsearch;
mod exchange;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod json;
mod lines;
mod origin;
mod otlp;
mod quarantine;
mod rate;
mod record;
mod socket;
mod sorted;

/// Longest head of a request, in bytes.
const HEAD: usize = 64 * 1024;
/// After the system refuses a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// All that requests share.
#[derive(Debug)]
pub(crate) struct Intake {
    config: IntakeConfig,
    /// Whether the platform reads the outputs of its instances by itself.
    reads_instances: bool,
    commit: Commit,
    quarantine: Arc<Quarantine>,
    rates: Arc<Rates>,
    requests: Arc<Semaphore>,
    memory: Arc<Semaphore>,
}

/// What an intake shares with the pipeline that it is part of.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) services: Arc<Services>,
    pub(crate) pushed: Arc<Pushed>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) reads_instances: bool,
}

impl Intake {
    pub(crate) fn new(
        config: IntakeConfig,
        shared: Shared,
        ports: LogPorts,
        store: Arc<dyn LogStore>,
        sinks: Sinks,
    ) -> Self {
        let Shared { services, pushed, quarantine, reads_instances } = shared;
        Self {
            rates: Arc::new(Rates::new(config.rate, config.burst, config.requests_per_sender)),
            requests: Arc::new(Semaphore::new(config.requests)),
            memory: Arc::new(Semaphore::new(config.memory.div_ceil(body::PIECE))),
            commit: Commit {
                services,
                alerts: Alerts::default(),
                pushed,
                ports,
                store,
                sinks,
                places: Places::default(),
            },
            config,
            reads_instances,
            quarantine,
        }
    }

    /// Serves whoever connects. Once it is dropped, requests that are in work end, and no others begin.
    pub(crate) async fn serve(self, listener: TcpListener) -> Infallible {
        let intake = Arc::new(self);
        let connections = Arc::new(Semaphore::new(intake.config.connections));
        let (_serving, stopped) = watch::channel(());
        loop {
            let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
                return std::future::pending().await;
            };
            match listener.accept().await {
                Ok((stream, _)) => {
                    drop(tokio::spawn(connection(Arc::clone(&intake), stream, stopped.clone(), permit)));
                }
                Err(error) => {
                    tracing::warn!(?error, "a connection to the intake cannot be taken");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn connection(
    intake: Arc<Intake>,
    stream: TcpStream,
    mut stopped: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
) {
    let (head, whole) = (intake.config.head_timeout, intake.config.request_timeout);
    let service = service_fn(move |request| {
        let intake = Arc::clone(&intake);
        async move { Ok::<_, Infallible>(exchange::answer(&intake, request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(HEAD);
    let socket = TokioIo::new(Socket::new(stream, head));
    let mut served = pin!(builder.serve_connection(socket, service));
    tokio::select! {
        _ended = served.as_mut() => return,
        // Nobody sends anything: it ends with the intake.
        _ = stopped.changed() => served.as_mut().graceful_shutdown(),
    }
    let _ended = tokio::time::timeout(head + whole, served).await;
}
