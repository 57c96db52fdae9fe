//! What the API server's refusals mean to callers.

use std::time::Duration;

use kube::core::Status;
use paas_core::model::limit;
use paas_core::{Error, ErrorKind};

/// An error of the client, met while doing `what`.
pub(crate) fn failed(cause: kube::Error, what: &'static str) -> Error {
    let error = match &cause {
        kube::Error::Api(status) => refused(status),
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            Error::internal("the API server's answer cannot be read")
        }
        kube::Error::BuildRequest(_) | kube::Error::HttpError(_) => {
            Error::internal("the request cannot be made")
        }
        kube::Error::Auth(_) => {
            Error::new(ErrorKind::Unauthenticated, "the cluster's credentials cannot be used")
        }
        _ => Error::unavailable("the API server cannot be reached"),
    };
    error.with("to", what).with_source(cause)
}

/// What the API server said.
fn refused(status: &Status) -> Error {
    let kind = match status.code {
        400 | 413 | 415 | 422 => ErrorKind::Invalid,
        401 => ErrorKind::Unauthenticated,
        // What the quota has no room for may fit later; what a policy forbids will not.
        403 if status.message.contains("exceeded quota") => ErrorKind::Throttled,
        403 => ErrorKind::Denied,
        404 => ErrorKind::NotFound,
        409 => ErrorKind::Conflict,
        410 => ErrorKind::Unavailable,
        429 => ErrorKind::Throttled,
        408 | 504 => ErrorKind::Timeout,
        500..=599 => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    };
    let mut error = Error::new(kind, format!("the API server refuses: {}", brief(&status.message)));
    if let Some(details) = &status.details {
        // Which fields, where it is about fields.
        let fields: Vec<&str> = details
            .causes
            .iter()
            .map(|cause| cause.field.as_str())
            .filter(|field| !field.is_empty())
            .collect();
        if !fields.is_empty() {
            error = error.with("fields", fields.join(", "));
        }
        if details.retry_after_seconds > 0 {
            error = error.with_retry_after(Duration::from_secs(details.retry_after_seconds.into()));
        }
    }
    error
}

/// What the cluster said, as it is repeated to people: so much of it, and on one line.
pub(crate) fn brief(message: &str) -> String {
    if message.is_empty() {
        return "without a reason".into();
    }
    cut(message, limit::MESSAGE)
}

/// The first characters of a text, on one line.
pub(crate) fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Status {
        Status { code, message: message.into(), ..Status::default() }
    }

    #[test]
    fn a_refusal_has_the_kind_that_callers_can_act_on() {
        for (code, kind, retryable) in [
            (401, ErrorKind::Unauthenticated, false),
            (403, ErrorKind::Denied, false),
            (404, ErrorKind::NotFound, false),
            (409, ErrorKind::Conflict, false),
            (410, ErrorKind::Unavailable, true),
            (422, ErrorKind::Invalid, false),
            (429, ErrorKind::Throttled, true),
            (500, ErrorKind::Unavailable, true),
            (504, ErrorKind::Timeout, true),
        ] {
            let error = refused(&status(code, "no"));
            assert_eq!((error.kind(), error.is_retryable()), (kind, retryable), "{code}");
        }
        let quota = refused(&status(403, "pods \"a\" is forbidden: exceeded quota: room, requested: pods=1"));
        assert_eq!(quota.kind(), ErrorKind::Throttled);
    }

    #[test]
    fn it_names_the_fields_and_when_to_try_again() {
        let details = serde_json::json!({
            "causes": [{ "reason": "FieldManagerConflict", "message": "conflict", "field": ".spec.replicas" }],
            "retryAfterSeconds": 7,
        });
        let details = serde_json::from_value(details).unwrap();
        let error = refused(&Status { details, ..status(409, "two\nlines") });
        assert_eq!(error.context("fields"), Some(".spec.replicas"));
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        assert!(error.message().ends_with("two lines"), "{error}");
    }
}
