//! Real requests through the edge, counted and checked, while something happens.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::world::{DEADLINE, eventually};

const CONNECTIONS: usize = 4;
/// Between two requests of a connection, so that cases beside this one get their share of the machine.
const PACE: Duration = Duration::from_millis(2);

/// What came of the requests so far.
#[derive(Debug, Default)]
struct Seen {
    /// Answers by their text, which names the revision.
    answers: BTreeMap<String, u64>,
    failures: Vec<String>,
}

/// Clients that keep their connections and never ask twice. They stop when it is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    seen: Arc<Mutex<Seen>>,
    _clients: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(at: SocketAddr, host: &'static str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut clients = JoinSet::new();
        for _ in 0..CONNECTIONS {
            clients.spawn(client(at, host, Arc::clone(&seen)));
        }
        Self { seen, _clients: clients }
    }

    fn answered(&self) -> u64 {
        self.seen.lock().unwrap().answers.values().sum()
    }

    /// Waits until so many more requests were answered.
    pub(crate) async fn more(&self, count: u64) {
        let before = self.answered();
        eventually("requests are answered", async || {
            (self.answered() >= before + count || self.failed()).then_some(())
        })
        .await;
    }

    /// How many answers had this text.
    pub(crate) fn of(&self, label: &str) -> u64 {
        self.seen.lock().unwrap().answers.get(label).copied().unwrap_or(0)
    }

    fn failed(&self) -> bool {
        !self.seen.lock().unwrap().failures.is_empty()
    }

    /// Waits for some more answers, then asserts that no request failed and that all were answered by these.
    #[track_caller]
    pub(crate) fn all_by(&self, labels: &[&str]) -> impl Future<Output = ()> + '_ {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        async move {
            self.more(20).await;
            let seen = self.seen.lock().unwrap();
            assert_eq!(seen.failures, Vec::<String>::new(), "beside {:?}", seen.answers);
            let unknown: Vec<_> = seen.answers.keys().filter(|label| !labels.contains(label)).collect();
            assert!(unknown.is_empty(), "answered by {:?}, wanted {labels:?}", seen.answers);
        }
    }
}

async fn client(at: SocketAddr, host: &str, seen: Arc<Mutex<Seen>>) {
    let mut kept = None;
    loop {
        let outcome = tokio::time::timeout(DEADLINE, request(&mut kept, at, host, "GET", "/", b"")).await;
        {
            let mut seen = seen.lock().unwrap();
            match outcome {
                Ok(Ok((200, body))) => *seen.answers.entry(body).or_default() += 1,
                Ok(Ok((status, body))) => seen.failures.push(format!("{status} {body}")),
                Ok(Err(error)) => seen.failures.push(error.to_string()),
                Err(_) => seen.failures.push("no answer in time".to_owned()),
            }
            if seen.failures.len() > 100 {
                return;
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

/// One request of its own to the service behind a host name.
pub(crate) async fn ask(at: SocketAddr, host: &str, path: &str) -> io::Result<String> {
    send(at, host, "GET", path, b"").await
}

/// One POST of its own.
pub(crate) async fn post(at: SocketAddr, host: &str, path: &str, body: &[u8]) -> io::Result<()> {
    send(at, host, "POST", path, body).await.map(drop)
}

async fn send(at: SocketAddr, host: &str, method: &str, path: &str, body: &[u8]) -> io::Result<String> {
    let mut kept = None;
    let exchange = tokio::time::timeout(DEADLINE, request(&mut kept, at, host, method, path, body));
    match exchange.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
        (200, text) => Ok(text),
        (status, text) => Err(io::Error::other(format!("{status} {text}"))),
    }
}

async fn request(
    kept: &mut Option<BufReader<TcpStream>>,
    at: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    body: &[u8],
) -> io::Result<(u16, String)> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => BufReader::new(TcpStream::connect(at).await?),
    };
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).await?;
    let (mut status, mut length, mut close) = (0, 0, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end().to_ascii_lowercase();
        if status == 0 {
            let code = line.split(' ').nth(1).and_then(|status| status.parse().ok());
            status = code.ok_or(io::ErrorKind::InvalidData)?;
        } else if line.is_empty() {
            break;
        } else if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        } else if let Some(value) = line.strip_prefix("connection:") {
            close = value.trim() == "close";
        }
    }
    let mut text = vec![0; length];
    stream.read_exact(&mut text).await?;
    if !close {
        *kept = Some(stream);
    }
    Ok((status, String::from_utf8_lossy(&text).into_owned()))
}
