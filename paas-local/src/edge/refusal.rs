//! The answers that the edge gives itself.

use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use super::body::Outgoing;
use super::connection::Busy;

/// Why a request was not answered by an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The request itself is wrong.
    Bad(&'static str),
    /// `CONNECT`.
    Method,
    /// A transfer coding other than `chunked`.
    Coding,
    /// Nobody serves this host and path.
    NoRoute(String),
    /// The service has no instance to ask.
    NoEndpoint,
    /// Nobody could be reached.
    Unreachable,
    /// The instance went away before it answered.
    Lost,
    /// The instance's answer cannot be understood.
    Garbled,
    /// The instance did not answer in time.
    Late,
}

impl Refusal {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Bad(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Coding => StatusCode::NOT_IMPLEMENTED,
            Self::NoRoute(_) => StatusCode::NOT_FOUND,
            Self::NoEndpoint => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable | Self::Lost | Self::Garbled => StatusCode::BAD_GATEWAY,
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Bad(why) => format!("bad request: {why}\n"),
            Self::Method => "this method is not allowed here\n".to_owned(),
            Self::Coding => "only the transfer coding chunked is supported\n".to_owned(),
            Self::NoRoute(host) if host.is_empty() => "no service is routed here\n".to_owned(),
            Self::NoRoute(host) => format!("no service is routed here for {}\n", shown(host)),
            Self::NoEndpoint => "the service has no ready instance\n".to_owned(),
            Self::Unreachable => "no instance of the service could be reached\n".to_owned(),
            Self::Lost => "the instance ended before it answered\n".to_owned(),
            Self::Garbled => "the instance's answer could not be understood\n".to_owned(),
            Self::Late => "the instance did not answer in time\n".to_owned(),
        }
    }

    pub(crate) fn into_response(self, busy: Busy) -> Response<Outgoing> {
        let mut response = Response::new(Outgoing::text(self.text(), busy));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::NoEndpoint => headers.insert(RETRY_AFTER, HeaderValue::from_static("1")),
            Self::Method => headers
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")),
            _ => None,
        };
        response
    }
}

/// A host fit to be shown: short, and without anything that could be taken for markup.
fn shown(host: &str) -> String {
    host.chars()
        .take(100)
        .map(|c| if c.is_ascii_alphanumeric() || "-._:[]".contains(c) { c } else { '?' })
        .collect()
}
