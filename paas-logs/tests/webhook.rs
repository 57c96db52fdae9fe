//! Alerts as calls of an HTTP endpoint.
#![allow(clippy::unwrap_used)] // What its tests share is not inside `#[test]`.

use std::time::Duration;

use bytes::Bytes;
use paas_core::ErrorKind;
use paas_core::model::{Alert, AlertLine, Clock, InstanceId, Notification, Resource, Scope, Timestamp};
use paas_core::port::Notifier;
use paas_logs::{WebhookConfig, WebhookNotifier};
use serde_json::json;

#[path = "webhook/receiver.rs"]
mod receiver;

use receiver::{Answer, Receiver, SECRET};

fn notification(id: &str) -> Notification {
    let at: Timestamp = "2026-11-27T04:15:26.123Z".parse().unwrap();
    let mut alert = Alert::new(id.into(), at, "oncall".into(), "OutOfMemoryError".into());
    (alert.count, alert.within) = (3, Duration::from_secs(300));
    let mut line = AlertLine::new(at, InstanceId::new("i-7").unwrap(), "OutOfMemoryError: heap".into());
    line.before = vec!["order 7 received".into()];
    alert.lines.push(line);
    let names = ("acme".parse().unwrap(), "production".parse().unwrap(), "shop".parse().unwrap());
    let mut notification = Notification::new(names.0, names.1, names.2, alert);
    notification.service = Some("api".parse().unwrap());
    notification
}

async fn tell(config: WebhookConfig, id: &str) -> paas_core::Result<()> {
    let notifier = WebhookNotifier::connect(config).await?;
    let notifier = notifier.with_clock(Clock::fixed(Timestamp(1_800_000_000_999)));
    notifier.notify(&Scope::testing(Resource::Platform), &notification(id)).await
}

#[tokio::test]
async fn a_call_says_what_happened_and_who_says_so() {
    let receiver = Receiver::start().await;
    let mut config = receiver.config();
    config.headers.set("x-route", "blue").unwrap();
    tell(config, "4f2a").await.unwrap();
    let call = receiver.calls().remove(0);
    assert_eq!(call.target, "/hooks/1?of=acme");
    let headers =
        ["webhook-id", "webhook-timestamp", "content-type", "x-route"].map(|name| call.header(name));
    assert_eq!(headers, ["4f2a", "1800000000", "application/json", "blue"]);
    assert!(call.is_signed(SECRET));
    let expected = json!({
        "type": "alert.raised",
        "timestamp": "2026-11-27T04:15:26.123Z",
        "data": {
            "id": "4f2a", "tenant": "acme", "environment": "production", "app": "shop", "service": "api",
            "notify": "oncall", "query": "OutOfMemoryError", "count": 3, "within": "5m", "held_back": 0,
            "lines": [{
                "time": "2026-11-27T04:15:26.123Z", "instance": "i-7", "before": ["order 7 received"],
                "line": "OutOfMemoryError: heap",
            }],
        },
    });
    assert_eq!(call.json(), expected);
}

#[tokio::test]
async fn while_a_secret_is_replaced_both_sign() {
    let receiver = Receiver::start().await;
    let (mut config, new) = (receiver.config(), "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    config.secrets.insert(0, new.parse().unwrap());
    tell(config, "1").await.unwrap();
    let call = receiver.calls().remove(0);
    assert!(call.is_signed(SECRET) && call.is_signed(new));
    assert!(!call.is_signed("whsec_BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB"));
}

#[tokio::test]
async fn an_answer_that_sends_elsewhere_is_not_followed() {
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    for status in [301, 302, 307, 308] {
        let elsewhere = vec![("location", format!("http://{}/", other.address))];
        receiver.answer(Answer::Status(status, elsewhere, Bytes::new()));
        let error = tell(receiver.config(), "1").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
    assert!(other.calls().is_empty());
}

#[tokio::test]
async fn of_a_long_answer_the_beginning_is_told() {
    let receiver = Receiver::start().await;
    receiver.answer(Answer::Status(400, Vec::new(), Bytes::from(vec![b'x'; 64 << 20])));
    let error = tell(receiver.config(), "1").await.unwrap_err();
    assert_eq!((error.kind(), error.context("status")), (ErrorKind::Invalid, Some("400")));
    assert_eq!(error.context("answer").map(str::len), Some(256));
    assert_eq!(error.context("endpoint"), Some("localhost"));
}

#[tokio::test]
async fn a_refusal_asks_for_a_pause() {
    let receiver = Receiver::start().await;
    for status in [429, 503] {
        receiver.answer(Answer::Status(status, vec![("retry-after", "120".into())], Bytes::new()));
        let error = tell(receiver.config(), "1").await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(120)));
    }
    // Nobody comes again after this one, whatever it asks for.
    receiver.answer(Answer::Status(410, vec![("retry-after", "120".into())], Bytes::new()));
    let error = tell(receiver.config(), "1").await.unwrap_err();
    assert_eq!((error.kind(), error.retry_after(), error.is_retryable()), (ErrorKind::Invalid, None, false));
}

#[tokio::test]
async fn nobody_is_called_over_tls_who_is_not_known() {
    let folder = tempfile::tempdir().unwrap();
    let (receiver, authority) = Receiver::start_tls(&folder).await;
    let error = tell(receiver.config(), "1").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(receiver.calls().is_empty());
    let mut config = receiver.config();
    config.authorities = Some(authority);
    tell(config, "1").await.unwrap();
    assert!(receiver.calls()[0].is_signed(SECRET));
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_again_later() {
    let receiver = Receiver::start().await;
    let config = receiver.config();
    drop(receiver);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(tell(config, "1").await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn an_id_that_makes_what_is_signed_ambiguous_is_refused() {
    let receiver = Receiver::start().await;
    for id in ["", "a.b", "a b", "a\nb", "ä"] {
        assert_eq!(tell(receiver.config(), id).await.unwrap_err().kind(), ErrorKind::Invalid, "{id:?}");
    }
    assert!(receiver.calls().is_empty());
}
