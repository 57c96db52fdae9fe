//! The HTTP server of all three services, and how it ends.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use crate::http::{Answer, VERSION};
use crate::log;

/// How long a connection may be idle. Whoever asks must be the first to close, or it may send a request that nobody reads any
/// more, and must not send a POST again: gateways keep their idle connections for 60 s (nginx), 90 s (Traefik) or 600 s
/// (Google Cloud).
const IDLE: Duration = Duration::from_secs(620);

/// What a service answers.
pub(crate) trait Service: Send + Sync + 'static {
    /// What stands in `x-shop-version` unless the answer has one.
    fn version(&self) -> &str;

    fn answer(&self, request: Request<Incoming>) -> impl Future<Output = Answer> + Send;
}

/// Accepts connections until `stop`; then answers what has been sent, closes, and returns.
///
/// # Errors
/// Where requests were still unanswered after `grace`.
pub(crate) async fn serve<S: Service>(
    listener: TcpListener,
    service: Arc<S>,
    stop: watch::Receiver<bool>,
    grace: Duration,
) -> Result<(), String> {
    let in_flight = Arc::new(AtomicUsize::new(0));
    // Each connection holds a sender; the receiver ends when the last one does.
    let (open, mut all_closed) = mpsc::channel::<Infallible>(1);
    let start = |stream: TcpStream| {
        let connection = connection(stream, Arc::clone(&service), Arc::clone(&in_flight), stop.clone());
        let open = open.clone();
        tokio::spawn(async move {
            connection.await;
            drop(open);
        });
    };
    let mut stopping = stop.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => start(stream),
                Err(error) => {
                    // Out of descriptors, mostly: what is open goes on, and closes.
                    log::warn(&format!("cannot accept a connection: {error}"));
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            () = told(&mut stopping) => break,
        }
    }
    // Whoever is connected already in the kernel's queue gets an answer, too.
    while let Some(stream) = poll_fn(|context| match listener.poll_accept(context) {
        Poll::Ready(Ok((stream, _))) => Poll::Ready(Some(stream)),
        _ => Poll::Ready(None),
    })
    .await
    {
        start(stream);
    }
    drop(listener);
    drop(open);
    if tokio::time::timeout(grace, all_closed.recv()).await.is_ok() {
        return Ok(());
    }
    match in_flight.load(Ordering::Relaxed) {
        0 => Ok(()),
        count => Err(format!("{count} requests were still unanswered after {grace:?}")),
    }
}

/// Waits for the word to stop; it has also come when nobody is left to give it.
async fn told(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// A request in flight, also when its client goes away and it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn connection<S: Service>(
    stream: TcpStream,
    service: Arc<S>,
    in_flight: Arc<AtomicUsize>,
    mut stop: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let handle = service_fn(move |request: Request<Incoming>| {
        let (service, in_flight) = (Arc::clone(&service), Arc::clone(&in_flight));
        async move {
            let _counted = Counted::new(in_flight);
            Ok::<_, Infallible>(logged(&*service, request).await)
        }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(64 * 1024);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), handle));
    tokio::select! {
        // A client that goes away is nobody's trouble.
        _ = connection.as_mut() => return,
        () = told(&mut stop) => {}
    }
    // Closes at once when idle, else after the answer, which then says `connection: close`.
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

async fn logged<S: Service>(service: &S, request: Request<Incoming>) -> Answer {
    let began = Instant::now();
    let method = request.method().clone();
    let path: String = request.uri().path().chars().take(200).collect();
    let mut answer = service.answer(request).await;
    if !answer.headers().contains_key(VERSION)
        && let Ok(version) = HeaderValue::from_str(service.version())
    {
        answer.headers_mut().insert(VERSION, version);
    }
    // Probes are asked each second by each of their askers; they are no news.
    if path != "/ready" {
        let micros = began.elapsed().as_micros();
        log::line(&format!("{method} {path} {} {micros}us", answer.status().as_u16()));
    }
    answer
}
