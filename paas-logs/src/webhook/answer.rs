//! What an endpoint's answer means.

use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, Response, StatusCode};
use paas_core::{Error, ErrorKind, Result};

/// So many bytes of an answer are read, and told to whoever reads the platform's own log.
const EXCERPT: usize = 256;

/// No answer came.
pub(super) fn unreached(cause: hyper_util::client::legacy::Error) -> Error {
    Error::unavailable("the endpoint cannot be reached").with_source(cause)
}

/// What became of a call.
pub(super) async fn outcome(answer: Response<Incoming>) -> Result<()> {
    let status = answer.status();
    let Some(kind) = refusal(status) else { return Ok(()) };
    let pause = asked(answer.headers(), SystemTime::now());
    let message = match kind {
        ErrorKind::Invalid => "the endpoint will never take this",
        _ => "the endpoint does not take this now",
    };
    let error =
        Error::new(kind, message).with("status", status.as_u16()).with("answer", excerpt(answer).await);
    Err(match pause.filter(|_| kind != ErrorKind::Invalid) {
        Some(pause) => error.with_retry_after(pause),
        None => error,
    })
}

/// What a status refuses; nothing where it takes the call. An answer that sends elsewhere is not followed. For good is refused only
/// what can be said of the call itself: an endpoint that does not know the secret, or is not there, may be mended meanwhile.
pub(super) fn refusal(status: StatusCode) -> Option<ErrorKind> {
    match status {
        _ if status.is_success() => None,
        StatusCode::TOO_MANY_REQUESTS => Some(ErrorKind::Throttled),
        StatusCode::BAD_REQUEST
        | StatusCode::GONE
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => Some(ErrorKind::Invalid),
        _ => Some(ErrorKind::Unavailable),
    }
}

/// How long it asks to be left alone: so many seconds, or until a time.
pub(super) fn asked(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

/// The beginning of what it says.
async fn excerpt(answer: Response<Incoming>) -> String {
    let mut body = answer.into_body();
    let mut text = Vec::new();
    while text.len() < EXCERPT
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(data) = frame.data_ref() {
            text.extend_from_slice(&data[..data.len().min(EXCERPT - text.len())]);
        }
    }
    String::from_utf8_lossy(&text).escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_takes_or_refuses() {
        let kinds = [
            (200, None),
            (204, None),
            (301, Some(ErrorKind::Unavailable)),
            (400, Some(ErrorKind::Invalid)),
            (401, Some(ErrorKind::Unavailable)),
            (404, Some(ErrorKind::Unavailable)),
            (408, Some(ErrorKind::Unavailable)),
            (410, Some(ErrorKind::Invalid)),
            (413, Some(ErrorKind::Invalid)),
            (422, Some(ErrorKind::Invalid)),
            (425, Some(ErrorKind::Unavailable)),
            (429, Some(ErrorKind::Throttled)),
            (500, Some(ErrorKind::Unavailable)),
            (503, Some(ErrorKind::Unavailable)),
        ];
        for (status, kind) in kinds {
            assert_eq!(refusal(StatusCode::from_u16(status).unwrap()), kind, "{status}");
        }
    }

    #[test]
    fn a_pause_is_asked_for_in_seconds_or_until_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let pauses = [
            ("77", Some(77)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
        ];
        for (text, seconds) in pauses {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(asked(&headers, now), seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(asked(&HeaderMap::new(), now), None);
    }
}
