//! Somebody who sends lines, and says what they want on the wire.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bed::Bed;

/// What was answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The reason of an error.
    pub(crate) fn reason(&self) -> String {
        self.json()["error"]["reason"].as_str().unwrap().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

/// The bytes of a request whose connection ends with its answer.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text =
        format!("{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    [text.as_bytes(), b"\r\n", body].concat()
}

/// Sends bytes, and reads until the connection ends.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Whoever is refused may be told before all was sent.
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let (_sent, _read) = tokio::join!(writer.write_all(bytes), reader.read_to_end(&mut answer));
    parsed(&answer)
}

pub(crate) fn parsed(answer: &[u8]) -> Answer {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no answer: {:?}", String::from_utf8_lossy(answer));
    });
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[end + 4..].to_vec() }
}

impl Bed {
    /// Sends a body with the token of a credential.
    pub(crate) async fn post(&self, path: &str, token: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post_with(path, token, &[], body).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let token = format!("Bearer {token}");
        let mut all = vec![("authorization", token.as_str())];
        all.extend(headers);
        exchange(self.address, &request(&format!("POST {path}"), &all, body.as_ref())).await
    }

    pub(crate) async fn get(&self, line: &str) -> Answer {
        exchange(self.address, &request(line, &[("authorization", "Bearer one")], b"")).await
    }
}
