//! Answers on their way back.

use std::io;

use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::watch;

pub(super) type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, io::Error>;

/// What a watch says when what it should go on from is forgotten.
const EXPIRED: &str = concat!(
    r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","#,
    r#""message":"too old resource version","reason":"Expired","code":410}}"#,
    "\n"
);

/// How an answer ends before it should.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Never,
    /// After so many lines, broken off.
    Cut(usize),
    /// After so many lines, with the word that it cannot go on.
    Forget(usize),
    /// After so many bytes, broken off.
    Tear(usize),
    /// At once, without an end.
    Hang,
}

pub(super) fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

struct Relay {
    body: kube::client::Body,
    end: End,
    lines: usize,
    /// Anything that comes from here cuts it.
    cut: watch::Receiver<u64>,
    over: bool,
}

/// Relays an answer as it comes.
pub(super) fn relay(body: kube::client::Body, end: End, cut: watch::Receiver<u64>) -> Body {
    let relay = Relay { body, end, lines: 0, cut, over: false };
    StreamBody::new(frames(relay)).boxed_unsync()
}

fn frames(relay: Relay) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send {
    futures_util::stream::unfold(relay, |mut relay| async move { Some((relay.next().await?, relay)) })
        .map(|frame| frame.map(Frame::data))
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "cut")
}

impl Relay {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.over {
            return None;
        }
        match self.end {
            End::Cut(0) | End::Tear(0) => return self.last(Err(broken())),
            End::Forget(0) => return self.last(Ok(Bytes::from_static(EXPIRED.as_bytes()))),
            _ => {}
        }
        let frame = tokio::select! {
            _ = self.cut.changed() => return self.last(Err(broken())),
            frame = self.body.frame(), if !matches!(self.end, End::Hang) => frame,
        };
        match frame? {
            Ok(frame) => {
                let data = frame.into_data().unwrap_or_default();
                Some(Ok(self.counted(data)))
            }
            Err(error) => self.last(Err(io::Error::other(error))),
        }
    }

    fn last(&mut self, item: io::Result<Bytes>) -> Option<io::Result<Bytes>> {
        self.over = true;
        Some(item)
    }

    /// As much of it as may pass.
    fn counted(&mut self, data: Bytes) -> Bytes {
        if let End::Tear(left) = &mut self.end {
            let most = data.len().min(*left);
            *left -= most;
            return data.slice(..most);
        }
        let (End::Cut(most) | End::Forget(most)) = self.end else { return data };
        for (at, _) in data.iter().enumerate().filter(|(_, byte)| **byte == b'\n') {
            self.lines += 1;
            if self.lines == most {
                self.end = if matches!(self.end, End::Cut(_)) { End::Cut(0) } else { End::Forget(0) };
                return data.slice(..=at);
            }
        }
        data
    }
}
