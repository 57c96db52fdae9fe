//! What whoever sends is told.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use super::lines::Refused;

/// A request that was not taken: nothing of it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) why: String,
    retry_after: Option<Duration>,
    allow: Option<&'static str>,
    /// The rest of the body is not read.
    pub(super) is_unread: bool,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, why: impl Into<String>) -> Self {
        Self { status, why: why.into(), retry_after: None, allow: None, is_unread: false }
    }

    pub(super) fn unauthorized() -> Self {
        let why = "a credential is needed that is not revoked: `Authorization: Bearer TOKEN`, `ApiKey TOKEN`, or `Basic` with the \
                   token as the password";
        Self::new(StatusCode::UNAUTHORIZED, why)
    }

    pub(super) fn method(allow: &'static str) -> Self {
        let why = format!("this takes {allow} only");
        Self { allow: Some(allow), ..Self::new(StatusCode::METHOD_NOT_ALLOWED, why) }
    }

    pub(super) fn too_large(what: &str, most: usize) -> Self {
        let why = format!("{what}; at most {most}: send smaller batches");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, why)
    }

    pub(super) fn too_fast(wait: Duration) -> Self {
        let why = "more is sent than this tenant or collector may send; come again later";
        Self { retry_after: Some(wait), ..Self::new(StatusCode::TOO_MANY_REQUESTS, why) }
    }

    /// Nothing is wrong with what was sent.
    pub(super) fn busy(why: &str, wait: Duration) -> Self {
        let why = format!("{why}; nothing of this request is acknowledged, send it again");
        Self { retry_after: Some(wait), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, why) }
    }

    pub(super) fn of(refused: &Refused, records: usize) -> Self {
        match refused {
            Refused::Record { record, column, why } => {
                let why =
                    format!("record {record}, column {column}: {why}; nothing of this request is taken");
                Self::new(StatusCode::BAD_REQUEST, why)
            }
            Refused::Body(why) => {
                Self::new(StatusCode::BAD_REQUEST, format!("{why}; nothing of this request is taken"))
            }
            Refused::TooMany => Self::too_large("the request has too many records", records),
        }
    }
}

/// In what words it is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tongue {
    /// JSON, as Elasticsearch tells errors.
    #[default]
    Json,
    /// Protobuf, as OTLP has it.
    Protobuf,
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    with_type(status, "application/json", text)
}

fn with_type(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Clients that are made for it go no further without this.
    headers.insert("x-elastic-product", HeaderValue::from_static("Elasticsearch"));
    response
}

pub(super) fn refusal(refusal: &Refusal, tongue: Tongue) -> Response<Full<Bytes>> {
    let mut response = match tongue {
        Tongue::Json => {
            let status = refusal.status.as_u16();
            let error = serde_json::json!({ "type": kind(refusal.status), "reason": refusal.why });
            json(refusal.status, serde_json::json!({ "error": error, "status": status }).to_string())
        }
        // google.rpc.Status
        Tongue::Protobuf => with_type(refusal.status, PROTOBUF, field(2, refusal.why.as_bytes())),
    };
    let headers = response.headers_mut();
    if let Some(wait) = refusal.retry_after {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    if let Some(allow) = refusal.allow {
        headers.insert(ALLOW, HeaderValue::from_static(allow));
    }
    if refusal.status == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if refusal.is_unread {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "security_exception",
        StatusCode::NOT_FOUND => "resource_not_found_exception",
        StatusCode::TOO_MANY_REQUESTS => "circuit_breaking_exception",
        StatusCode::SERVICE_UNAVAILABLE => "unavailable_exception",
        _ => "illegal_argument_exception",
    }
}

pub(super) const PROTOBUF: &str = "application/x-protobuf";

/// An `ExportLogsServiceResponse`, which says how many records went nowhere.
pub(super) fn otlp(quarantined: u64, tongue: Tongue) -> Response<Full<Bytes>> {
    let why = "records of instances that nobody could be found for; see the quarantine";
    match (tongue, quarantined) {
        (Tongue::Json, 0) => json(StatusCode::OK, "{}"),
        (Tongue::Json, _) => {
            let partial =
                serde_json::json!({ "rejectedLogRecords": quarantined.to_string(), "errorMessage": why });
            json(StatusCode::OK, serde_json::json!({ "partialSuccess": partial }).to_string())
        }
        (Tongue::Protobuf, 0) => with_type(StatusCode::OK, PROTOBUF, Bytes::new()),
        (Tongue::Protobuf, _) => {
            let mut partial = vec![1 << 3];
            varint(&mut partial, quarantined);
            partial.extend(field(2, why.as_bytes()));
            with_type(StatusCode::OK, PROTOBUF, field(1, &partial))
        }
    }
}

/// A field of bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2];
    varint(&mut message, bytes.len() as u64);
    message.extend_from_slice(bytes);
    message
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
