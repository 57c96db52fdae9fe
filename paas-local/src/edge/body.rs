//! Bodies on their way through: nothing is kept beyond what one frame holds.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use paas_core::BoxError;

use super::clock;
use super::connection::{Busy, Client};
use super::gate::Gate;
use super::traffic::Exchange;
use super::upstream::Held;

/// A request's body on its way to an instance.
#[derive(Debug)]
pub(crate) enum Upload {
    Empty,
    /// Read to the end before it was sent, so it can be sent again.
    Whole(Option<Bytes>),
    Stream(Incoming, Arc<Client>),
    /// As `Stream`, once the instance has asked for it.
    Gated(Gate, Option<(Incoming, Arc<Client>)>),
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let upload = self.get_mut();
        if let Self::Gated(gate, held) = upload {
            match (ready!(gate.poll(cx)), held.take()) {
                (true, Some((body, client))) => *upload = Self::Stream(body, client),
                _ => return Poll::Ready(Some(Err("the answer came before the body".into()))),
            }
        }
        match upload {
            Self::Empty | Self::Gated(..) => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream(body, client) => {
                let frame = Pin::new(body).poll_frame(cx);
                if frame.is_pending() {
                    client.uploading.begin();
                } else {
                    client.uploading.end();
                    client.uploaded.store(clock::now(), Ordering::Relaxed);
                }
                frame.map_err(Into::into)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(None) => true,
            Self::Whole(Some(_)) => false,
            Self::Stream(body, _) | Self::Gated(_, Some((body, _))) => body.is_end_stream(),
            Self::Gated(_, None) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Whole(None) => SizeHint::with_exact(0),
            Self::Whole(Some(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body, _) | Self::Gated(_, Some((body, _))) => body.size_hint(),
            Self::Gated(_, None) => SizeHint::new(),
        }
    }
}

/// An answer's body on its way to the client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    content: Content,
    /// Dropped last: the connection is idle when the answer is complete.
    _busy: Busy,
}

#[derive(Debug)]
enum Content {
    Text(Option<Bytes>),
    Proxied(Download),
}

#[derive(Debug)]
struct Download {
    body: Incoming,
    held: Option<Held>,
    exchange: Exchange,
    client: Arc<Client>,
}

impl Outgoing {
    pub(crate) fn text(text: impl Into<Bytes>, busy: Busy) -> Self {
        Self { content: Content::Text(Some(text.into())), _busy: busy }
    }

    pub(crate) fn proxied(
        body: Incoming,
        held: Held,
        exchange: Exchange,
        client: &Arc<Client>,
        busy: Busy,
    ) -> Self {
        let mut download = Download { body, held: Some(held), exchange, client: client.clone() };
        if download.body.is_end_stream() {
            download.complete();
        }
        Self { content: Content::Proxied(download), _busy: busy }
    }
}

impl Download {
    /// The instance is done with the request: its connection can serve another, and its lease ends.
    fn complete(&mut self) {
        if let Some(held) = self.held.take() {
            held.release();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Pending => self.client.downloading.begin(),
            Poll::Ready(Some(Err(_))) => {
                self.exchange.failed();
                self.client.broken();
                self.held = None;
            }
            Poll::Ready(_) => {
                self.client.downloading.end();
                if self.body.is_end_stream() {
                    self.complete();
                }
            }
        }
        frame.map_err(Into::into)
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.get_mut().content {
            Content::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Content::Proxied(download) => download.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Text(text) => text.is_none(),
            Content::Proxied(download) => download.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Content::Proxied(download) => download.body.size_hint(),
        }
    }
}
