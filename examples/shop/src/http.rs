//! Requests and answers as all three services use them.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// Largest body of a request, in bytes.
pub(crate) const BODY: usize = 64 * 1024;

/// The version of the service that made the answer.
pub(crate) const VERSION: &str = "x-shop-version";
/// The version of the `web` that it came by way of.
pub(crate) const WEB_VERSION: &str = "x-shop-web-version";

pub(crate) type Answer = Response<Full<Bytes>>;

/// An answer with this body.
pub(crate) fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

pub(crate) fn json_answer(status: StatusCode, body: &Value) -> Answer {
    answer(status, "application/json", format!("{body}\n"))
}

/// An answer that says what is wrong.
pub(crate) fn trouble(status: StatusCode, message: &str) -> Answer {
    json_answer(status, &json!({ "error": message }))
}

/// The body of a request, or the answer that refuses it.
pub(crate) async fn body(incoming: Incoming) -> Result<Bytes, Answer> {
    match Limited::new(incoming, BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            Err(trouble(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 64 KiB"))
        }
        Err(_) => Err(trouble(StatusCode::BAD_REQUEST, "the body ended early")),
    }
}
