//! The least of an HTTP/1.1 client that tells everything: no retries, no pool, one connection.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest head and longest body that are read.
const LONGEST: usize = 1024 * 1024;
/// How long one exchange may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// An answer, with what the tour looks at.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// `x-shop-version`: who made it.
    pub(crate) version: String,
    /// `x-shop-web-version`: by way of whom.
    pub(crate) web: String,
    pub(crate) close: bool,
    pub(crate) body: Vec<u8>,
}

/// One keep-alive connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> Result<Self> {
        let connecting = tokio::time::timeout(PATIENCE, TcpStream::connect(address));
        let stream = connecting.await.map_err(|_| late("no connection"))??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(8 * 1024) })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> Result<Answer> {
        let whole = async {
            self.stream.write_all(request).await?;
            self.answer().await
        };
        tokio::time::timeout(PATIENCE, whole).await.unwrap_or_else(|_| Err(late("no answer")))
    }

    async fn answer(&mut self) -> Result<Answer> {
        self.buffer.clear();
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let (mut answer, length) = parse(&self.buffer[..head])?;
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        if self.buffer.len() > head + length {
            return Err(Error::new(ErrorKind::InvalidData, "more bytes than the answer has"));
        }
        answer.body.extend_from_slice(&self.buffer[head..]);
        Ok(answer)
    }

    async fn more(&mut self) -> Result<()> {
        if self.buffer.len() > LONGEST {
            return Err(Error::new(ErrorKind::InvalidData, "the answer is too long"));
        }
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "the connection was closed without an answer")),
            _ => Ok(()),
        }
    }
}

fn late(what: &str) -> Error {
    Error::new(ErrorKind::TimedOut, format!("{what} within {} s", PATIENCE.as_secs()))
}

/// The head of an answer, and the length of its body.
fn parse(head: &[u8]) -> Result<(Answer, usize)> {
    let wrong = || Error::new(ErrorKind::InvalidData, "not an HTTP answer");
    let head = std::str::from_utf8(head).map_err(|_| wrong())?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")).and_then(|line| line.get(..3));
    let mut answer =
        Answer { status: status.and_then(|s| s.parse().ok()).ok_or_else(wrong)?, ..Answer::default() };
    let mut length = if answer.status == 204 { Some(0) } else { None };
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok(),
            "x-shop-version" => value.clone_into(&mut answer.version),
            "x-shop-web-version" => value.clone_into(&mut answer.web),
            "connection" => answer.close |= value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Ok((answer, length.filter(|length| *length <= LONGEST).ok_or_else(wrong)?))
}
