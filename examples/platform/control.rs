//! The control socket: one JSON line asks, one JSON line answers. Only the tour uses it.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use paas::model::{OperationId, Release, Signal};
use paas::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

use crate::serve::Served;

/// The socket's name in the data directory.
const NAME: &str = "control";
/// Longest line, in bytes.
const LINE: u64 = 1024 * 1024;
/// Most connections at once; further ones wait.
const CONNECTIONS: usize = 16;

/// How one service differs from the bundled app file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Change {
    /// Variables, in place of those of the file.
    pub(crate) env: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<Release>,
}

/// What can be asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Ask {
    /// The bundled app with these changes, by service.
    Deploy {
        changes: BTreeMap<String, Change>,
    },
    /// Any app, as JSON.
    DeployApp {
        app: Value,
    },
    Rollback {
        revision: u64,
    },
    Stop,
    Start,
    Scale {
        service: String,
        replicas: u32,
    },
    Restart {
        service: String,
    },
    Signal {
        operation: OperationId,
        signal: Signal,
    },
    /// Answers once the operation has ended.
    Wait {
        operation: OperationId,
        seconds: u64,
    },
    /// The operation as it is now.
    Operation {
        operation: OperationId,
    },
    Status,
    /// Process ids.
    Pids,
    /// The first lines that match, as they are born.
    Tail {
        query: String,
        seconds: u64,
    },
    /// Stored lines that match; as another tenant sees them, which has none.
    Search {
        query: String,
        stranger: bool,
    },
    /// What was told to whoever is on call.
    Alerts,
    /// The route changes so far: which service, when, how long the router took.
    RouteChanges,
}

/// A socket's path that is short however deep the directory is.
fn short(dir: &Path) -> std::io::Result<(File, PathBuf)> {
    let opened = File::open(dir)?;
    let path = format!("/proc/self/fd/{}/{NAME}", opened.as_raw_fd()).into();
    Ok((opened, path))
}

/// Listens in the data directory. Whoever holds that directory may take the place of a socket that was left over.
pub(crate) fn listen(dir: &Path) -> Result<UnixListener> {
    let failed = |error: std::io::Error| {
        Error::unavailable("cannot open the control socket")
            .with("path", dir.join(NAME).display())
            .with_source(error)
    };
    match std::fs::remove_file(dir.join(NAME)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let (_dir, path) = short(dir).map_err(failed)?;
    UnixListener::bind(path).map_err(failed)
}

/// Answers until the future is dropped.
pub(crate) async fn answer(listener: UnixListener, served: Arc<Served>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let served = Arc::clone(&served);
        connections.spawn(async move {
            // A client that goes away is nobody's trouble.
            let _ = connection(stream, &served).await;
            drop(permit);
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(stream: UnixStream, served: &Served) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut read).take(LINE).read_until(b'\n', &mut line).await?;
        if !line.ends_with(b"\n") {
            return Ok(()); // the end, or a line that is too long
        }
        let asked = serde_json::from_slice(&line).map_err(|error| Error::invalid(error.to_string()));
        let outcome = match asked {
            Ok(ask) => served.answer(ask).await,
            Err(error) => Err(error),
        };
        let reply = match outcome {
            Ok(value) => json!({ "ok": value }),
            Err(error) => json!({ "error": error.to_string(), "kind": error.kind() }),
        };
        write.write_all(format!("{reply}\n").as_bytes()).await?;
    }
}

/// The other end.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) async fn connect(dir: &Path) -> std::io::Result<Self> {
        let (_dir, path) = short(dir)?;
        Ok(Self { stream: BufReader::new(UnixStream::connect(path).await?) })
    }

    /// Asks, and waits for the answer no longer than this.
    pub(crate) async fn ask_within(
        &mut self,
        ask: &Ask,
        patience: Duration,
    ) -> std::result::Result<Value, String> {
        let exchange = async {
            let mut line = serde_json::to_string(ask)?;
            line.push('\n');
            self.stream.get_mut().write_all(line.as_bytes()).await?;
            line.clear();
            (&mut self.stream).take(64 * LINE).read_line(&mut line).await?;
            serde_json::from_str::<Value>(&line).map_err(std::io::Error::from)
        };
        let answered = tokio::time::timeout(patience, exchange).await;
        let mut reply = answered
            .map_err(|_| format!("{ask:?}: the platform did not answer within {patience:?}"))?
            .map_err(|error| format!("{ask:?}: {error}"))?;
        match reply.get_mut("ok") {
            Some(value) => Ok(value.take()),
            None => Err(reply["error"].as_str().unwrap_or("an answer of another kind").to_owned()),
        }
    }

    pub(crate) async fn ask(&mut self, ask: &Ask) -> std::result::Result<Value, String> {
        self.ask_within(ask, Duration::from_secs(10)).await
    }
}
