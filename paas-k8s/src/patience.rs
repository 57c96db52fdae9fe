//! How long the API server asks to be left alone.
//!
//! One that has too much to do answers in plain text, and says only in a header when to come again; the client reads
//! neither. So such an answer is put into the words of any other refusal.

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

const JSON: &str = "application/json";

/// An answer, and where it tells in a header alone when to come again, one that says so.
pub(crate) fn in_words(answer: Response<Body>) -> Response<Body> {
    let code = answer.status().as_u16();
    let text = |name| answer.headers().get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let seconds = text(RETRY_AFTER).and_then(|text| text.trim().parse::<u32>().ok());
    let is_status = text(CONTENT_TYPE).is_some_and(|kind| kind.starts_with(JSON));
    let Some(seconds) = seconds.filter(|_| matches!(code, 429 | 503) && !is_status) else { return answer };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "message": "it has too much to do",
        "details": { "retryAfterSeconds": seconds },
    });
    told(answer.status(), &status)
}

/// An answer of these words.
pub(crate) fn told(code: StatusCode, object: &Value) -> Response<Body> {
    let mut told = Response::new(Body::from(object.to_string().into_bytes()));
    *told.status_mut() = code;
    told.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    told
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::BodyExt;

    use super::*;

    fn answer(code: u16, kind: &str, after: Option<&str>) -> Response<Body> {
        let mut answer = Response::builder().status(code).header(CONTENT_TYPE, kind);
        if let Some(after) = after {
            answer = answer.header(RETRY_AFTER, after);
        }
        answer.body(Body::from(Bytes::from_static(b"as it was"))).unwrap()
    }

    fn text(answer: Response<Body>) -> String {
        let body = futures_util::FutureExt::now_or_never(in_words(answer).into_body().collect());
        String::from_utf8(body.unwrap().unwrap().to_bytes().to_vec()).unwrap()
    }

    #[test]
    fn a_plain_refusal_says_when_to_come_again() {
        let status: kube::core::Status =
            serde_json::from_str(&text(answer(429, "text/plain; charset=utf-8", Some("7")))).unwrap();
        assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 7));
    }

    #[test]
    fn every_other_answer_stays_as_it_was() {
        for (code, kind, after) in [
            (429, JSON, Some("7")),
            (429, "text/plain", None),
            (503, "text/plain", Some("Wed, 21 Oct 2026 07:28:00 GMT")),
            (200, "text/plain", Some("7")),
        ] {
            assert_eq!(text(answer(code, kind, after)), "as it was");
        }
    }
}
