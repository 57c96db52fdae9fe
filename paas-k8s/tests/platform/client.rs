//! Sends requests.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The longest time of one request.
const LONGEST: Duration = Duration::from_secs(10);
/// Between two requests of one client: a connection for each would use up the ports of one address.
const PAUSE: Duration = Duration::from_millis(4);

/// Where requests go.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) ip: String,
    pub(crate) port: u16,
    /// The host that is asked for.
    pub(crate) host: String,
    /// Whether a connection carries more than one request: not to instances, which close what is idle when they end.
    pub(crate) keeps: bool,
}

/// The version of whoever answers, over a connection of its own.
pub(crate) async fn request(target: &Target) -> Result<String, String> {
    Client { target, stream: None }.request().await
}

struct Client<'a> {
    target: &'a Target,
    stream: Option<TcpStream>,
}

impl Client<'_> {
    async fn request(&mut self) -> Result<String, String> {
        let answer = tokio::time::timeout(LONGEST, self.ask()).await;
        answer.unwrap_or_else(|_| Err("no answer in time".into()))
    }

    async fn ask(&mut self) -> Result<String, String> {
        let Target { ip, port, host, keeps } = self.target;
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => TcpStream::connect((ip.as_str(), *port)).await.map_err(|e| format!("connect: {e}"))?,
        };
        let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|e| format!("write: {e}"))?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"}\n") {
            if stream.read_buf(&mut answer).await.map_err(|e| format!("read: {e}"))? == 0 {
                break;
            }
        }
        let text = String::from_utf8_lossy(&answer).into_owned();
        if !text.starts_with("HTTP/1.1 200") {
            return Err(format!("answer: {text}"));
        }
        let body = text.rsplit_once("\r\n\r\n").map_or("", |(_, body)| body);
        let body: serde_json::Value = serde_json::from_str(body).map_err(|e| format!("body: {e}: {text}"))?;
        self.stream = keeps.then_some(stream);
        Ok(body["version"].as_str().unwrap_or_default().to_owned())
    }
}

/// Requests without end, from several clients at once.
pub(crate) struct Load {
    clients: JoinSet<(BTreeMap<String, u64>, Vec<String>)>,
    stop: Arc<AtomicBool>,
}

impl Load {
    pub(crate) fn start(target: &Target, clients: usize) -> Self {
        let (mut set, stop, begun) = (JoinSet::new(), Arc::new(AtomicBool::new(false)), Instant::now());
        for _ in 0..clients {
            let (target, stop) = (target.clone(), Arc::clone(&stop));
            set.spawn(async move {
                let mut client = Client { target: &target, stream: None };
                let (mut answered, mut failed) = (BTreeMap::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let at = Instant::now();
                    match client.request().await {
                        Ok(version) => *answered.entry(version).or_default() += 1,
                        Err(error) => {
                            failed.push(format!("{error} (after {:?}, at {:?})", at.elapsed(), at - begun));
                        }
                    }
                    tokio::time::sleep(PAUSE).await;
                }
                (answered, failed)
            });
        }
        Self { clients: set, stop }
    }

    /// Ends it: how many requests each version answered, and what failed.
    pub(crate) async fn end(mut self) -> (BTreeMap<String, u64>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut answered, mut failed) = (BTreeMap::new(), Vec::new());
        while let Some(client) = self.clients.join_next().await {
            let (own, errors) = client.unwrap();
            own.into_iter().for_each(|(version, count)| *answered.entry(version).or_default() += count);
            failed.extend(errors);
        }
        (answered, failed)
    }
}
