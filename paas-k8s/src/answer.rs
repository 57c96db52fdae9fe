//! A client whose answers say all that is known: what stands around every one, whoever has set it up.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tower_service::Service;

use crate::patience;

/// A client that does as this one does, and says more.
pub(crate) fn telling(client: Client) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Telling(client), namespace)
}

struct Telling(Client);

impl Service<Request<Body>> for Telling {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, kube::Result<Response<Body>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<kube::Result<()>> {
        // Its own queue makes each call wait for its turn.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.send(request).await.map(patience::in_words) })
    }
}
