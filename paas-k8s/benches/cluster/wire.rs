//! What goes over a client's connections: it can be looked at, and cut.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use kube::Client;
use kube::client::Body;
use kube::core::Status;
use serde_json::Value;
use tokio::sync::watch;

use crate::Failure;

/// What comes back, whatever was done to it.
type Answer = Response<UnsyncBoxBody<Bytes, Failure>>;

/// A document that was applied, and where.
#[derive(Clone, Debug)]
pub(crate) struct Applied {
    pub(crate) path: String,
    pub(crate) object: Value,
    pub(crate) answered: Instant,
}

#[derive(Debug)]
pub(crate) struct Wire {
    /// What watches of pods brought, and when.
    frames: Mutex<Option<Vec<(Instant, Bytes)>>>,
    applied: Mutex<Option<Vec<Applied>>>,
    /// How often all watches were cut; each is refused once after that, so that it lists again.
    cuts: watch::Sender<u32>,
    refused: Mutex<std::collections::HashMap<String, u32>>,
}

impl Wire {
    /// A client that does as this one does.
    pub(crate) fn around(client: Client) -> (Client, Arc<Self>) {
        let wire = Arc::new(Self {
            frames: Mutex::default(),
            applied: Mutex::default(),
            cuts: watch::Sender::new(0),
            refused: Mutex::default(),
        });
        let (own, namespace) = (Arc::clone(&wire), client.default_namespace().to_owned());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (client, own) = (client.clone(), Arc::clone(&own));
            async move { own.pass(client, request).await }
        });
        (Client::new(service, namespace), wire)
    }

    /// Keeps what watches of pods bring from now on.
    pub(crate) fn keep_frames(&self) {
        *self.frames.lock().unwrap() = Some(Vec::new());
    }

    pub(crate) fn take_frames(&self) -> Vec<(Instant, Bytes)> {
        self.frames.lock().unwrap().take().unwrap_or_default()
    }

    /// Keeps what is applied from now on.
    pub(crate) fn keep_applied(&self) {
        *self.applied.lock().unwrap() = Some(Vec::new());
    }

    pub(crate) fn take_applied(&self) -> Vec<Applied> {
        self.applied.lock().unwrap().take().unwrap_or_default()
    }

    /// Ends all watches; none can go on where it was.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Says once to each watch after a cut that what it knows is too old.
    fn refuses(&self, path: &str) -> bool {
        let cuts = *self.cuts.borrow();
        self.refused.lock().unwrap().insert(path.to_owned(), cuts).unwrap_or(0) < cuts
    }

    async fn pass(self: Arc<Self>, client: Client, request: Request<Body>) -> kube::Result<Answer> {
        let query = request.uri().query().unwrap_or_default();
        if query.split('&').any(|pair| pair == "watch=true") {
            return self.watch(client, request).await;
        }
        if request.method() != Method::PATCH || self.applied.lock().unwrap().is_none() {
            return client.send(request).await.map(plain);
        }
        let (head, body) = request.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let path = head.uri.path().to_owned();
        let answer = client.send(Request::from_parts(head, Body::from(bytes.to_vec()))).await?;
        if answer.status().is_success()
            && let Ok(object) = serde_json::from_slice(&bytes)
            && let Some(applied) = self.applied.lock().unwrap().as_mut()
        {
            applied.push(Applied { path, object, answered: Instant::now() });
        }
        Ok(plain(answer))
    }

    async fn watch(self: Arc<Self>, client: Client, request: Request<Body>) -> kube::Result<Answer> {
        let path = request.uri().path().to_owned();
        if self.refuses(&path) {
            let status = Status::failure("cut", "Expired").with_code(410);
            let body = serde_json::to_vec(&status).unwrap_or_default();
            let refusal = Response::builder().status(410).body(Body::from(body));
            return refusal.map(plain).map_err(kube::Error::HttpError);
        }
        let mut cuts = self.cuts.subscribe();
        cuts.mark_unchanged();
        let answer = client.send(request).await?;
        let is_of_pods = path.ends_with("/pods");
        let cut = async move { drop(cuts.changed().await) };
        Ok(answer.map(|body| {
            let frames = StreamExt::take_until(body.into_data_stream(), Box::pin(cut)).map(move |data| {
                if let (true, Ok(bytes)) = (is_of_pods, &data)
                    && let Some(frames) = self.frames.lock().unwrap().as_mut()
                {
                    frames.push((Instant::now(), bytes.clone()));
                }
                data.map(http_body::Frame::data).map_err(Into::into)
            });
            StreamBody::new(frames).boxed_unsync()
        }))
    }
}

fn plain(answer: Response<Body>) -> Answer {
    answer.map(|body| body.map_err(Into::into).boxed_unsync())
}
