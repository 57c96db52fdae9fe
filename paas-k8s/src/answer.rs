//! A client whose answers say all that is known.
//!
//! What stands around every client, whoever has set it up: how long the API server asks to be left alone (`patience`), and
//! whether what is refused is about a namespace that is gone. The platform's rights in an environment come and go with its
//! namespace; who asks for something there later is told that they may not, and not that it is gone.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::core::v1::Namespace;
use kube::client::Body;
use kube::{Api, Client};
use serde_json::json;
use tower_service::Service;

use crate::patience::{self, told};

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
        Box::pin(async move {
            let about = About::of(&request);
            let answer = patience::in_words(client.send(request).await?);
            match about.filter(|_| answer.status() == StatusCode::FORBIDDEN) {
                Some(about) => Ok(about.gone(&client).await.unwrap_or(answer)),
                None => Ok(answer),
            }
        })
    }
}

/// What a request is about that is in a namespace.
#[derive(Debug, PartialEq)]
struct About {
    namespace: String,
    /// All that there is of a kind, to be listed or deleted: of nothing, there is nothing.
    is_all: bool,
}

impl About {
    fn of(request: &Request<Body>) -> Option<Self> {
        let mut parts = request.uri().path().trim_start_matches('/').split('/');
        let prefix = if parts.next()? == "api" { 1 } else { 2 };
        let ("namespaces", name, Some(_)) = (parts.nth(prefix)?, parts.next()?, parts.next()) else {
            return None;
        };
        let is_read_or_deleted = [Method::GET, Method::DELETE].contains(request.method());
        let watches = request.uri().query().is_some_and(|query| query.contains("watch="));
        let is_all = parts.next().is_none() && is_read_or_deleted && !watches;
        Some(Self { namespace: name.to_owned(), is_all })
    }

    /// What to say instead of a refusal, if the namespace is not there, or is on its way out: what the API server says to
    /// whoever may do everything. Where even that is not to be known, the refusal stands.
    async fn gone(self, client: &Client) -> Option<Response<Body>> {
        let found = Api::<Namespace>::all(client.clone()).get_metadata_opt(&self.namespace).await.ok()?;
        match found {
            None if self.is_all => {
                let none = json!({ "kind": "List", "apiVersion": "v1", "metadata": {}, "items": [] });
                Some(told(StatusCode::OK, &none))
            }
            None => Some(self.refusal(StatusCode::NOT_FOUND, "NotFound", "its namespace is not there")),
            Some(found) if found.metadata.deletion_timestamp.is_some() => {
                let reason = "ServiceUnavailable";
                Some(self.refusal(StatusCode::SERVICE_UNAVAILABLE, reason, "its namespace is being deleted"))
            }
            Some(_) => None,
        }
    }

    fn refusal(&self, code: StatusCode, reason: &str, message: &str) -> Response<Body> {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code.as_u16(),
            "reason": reason, "message": format!("{message}: {}", self.namespace),
        });
        told(code, &status)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use kube::api::{DeleteParams, ListParams};
    use paas_core::ErrorKind;
    use serde_json::Value;

    use super::*;
    use crate::connection::tests::served;
    use crate::error::failed;

    /// What is said of a delete that is refused, where the namespace is so.
    async fn refused(code: u16, found: Value) -> ErrorKind {
        let connection = served(move |request: &Request<Body>| match request.uri().path() {
            "/api/v1/namespaces/room" => (code, found.clone()),
            "/api/v1/namespaces/room/pods/it" => {
                (403, json!({ "code": 403, "message": "no", "status": "Failure" }))
            }
            other => panic!("{other}"),
        });
        let pods: Api<Pod> = Api::namespaced(telling(connection.client().clone()), "room");
        failed(pods.delete("it", &DeleteParams::default()).await.unwrap_err(), "delete").kind()
    }

    #[tokio::test]
    async fn what_is_refused_in_a_namespace_that_is_gone_is_gone() {
        let found = json!({ "metadata": { "name": "room" } });
        assert_eq!(refused(200, found.clone()).await, ErrorKind::Denied);
        let mut ending = found;
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        assert_eq!(refused(200, ending).await, ErrorKind::Unavailable);
        let refusal = |code: u16| json!({ "code": code, "message": "no", "reason": if code == 404 { "NotFound" } else { "Forbidden" }, "status": "Failure" });
        assert_eq!(refused(404, refusal(404)).await, ErrorKind::NotFound);
        assert_eq!(refused(403, refusal(403)).await, ErrorKind::Denied);
    }

    #[tokio::test]
    async fn of_all_there_is_in_a_namespace_that_is_gone_there_is_nothing() {
        let connection = served(|request: &Request<Body>| match request.uri().path() {
            "/api/v1/namespaces/room/pods" => (403, json!({ "code": 403, "status": "Failure" })),
            _ => (404, json!({ "code": 404, "reason": "NotFound", "status": "Failure" })),
        });
        let pods: Api<Pod> = Api::namespaced(telling(connection.client().clone()), "room");
        assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 0);
        pods.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        let refusal = pods.create(&kube::api::PostParams::default(), &Pod::default()).await.unwrap_err();
        assert_eq!(failed(refusal, "make").kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_request_is_about_the_namespace_that_its_object_is_in() {
        for (path, expected) in [
            ("/api/v1/namespaces/a/pods/b", Some(("a", false))),
            ("/apis/apps/v1/namespaces/a/deployments", Some(("a", true))),
            ("/apis/apps/v1/namespaces/a/deployments?limit=1", Some(("a", true))),
            ("/api/v1/namespaces/a/secrets?watch=true", Some(("a", false))),
            ("/api/v1/namespaces/a", None),
            ("/api/v1/pods", None),
            ("/apis/apps/v1/deployments", None),
            ("/version", None),
        ] {
            let about = About::of(&Request::get(path).body(Body::empty()).unwrap());
            let expected = expected.map(|(name, is_all)| About { namespace: name.into(), is_all });
            assert_eq!(about, expected, "{path}");
        }
    }
}
