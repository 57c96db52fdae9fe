//! Whose lines are taken, and what becomes of them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use paas_core::Result;
use paas_core::model::{
    Level, LogEntry, LogQuarantineReason, LogQuery, LogStream, Resource, TailItem, Timestamp,
};
use paas_core::port::LogStore;

use super::bed::{NOW, bed, origin};
use super::client::{exchange, request};

#[tokio::test]
async fn lines_of_a_service_are_stored_before_they_are_acknowledged() {
    let bed = bed("{}", |_, _| {}).await;
    let body = "{\"message\":\"late\",\"time\":\"2026-11-27T01:02:01Z\",\"level\":\"warn\",\"order\":7}\n\"plain\"\n";
    let answer = bed.post("/v1/lines", "one", body).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &br#"{"taken":2,"quarantined":0}"#[..]));
    let entries = bed.entries("t-1").await;
    assert_eq!(entries.len(), 2);
    let late = &entries[0];
    assert_eq!((&late.line[..], &late.fields[..]), (&b"late"[..], &b"order=7"[..]));
    assert_eq!((late.time, late.level), (Timestamp(NOW.0 - 2_456), Some(Level::Warn)));
    assert_eq!((late.origin.instance.as_str(), late.origin.stream), ("l-1", LogStream::Stdout));
    // Whatever they say, they are the service's.
    let claim = r#"{"message":"x","instance":"i-7","stream":"stderr","tenant":"t-2"}"#;
    assert_eq!(bed.post("/v1/lines", "one", claim).await.status, 200);
    let entries = bed.entries("t-1").await;
    let claimed = entries.iter().find(|entry| entry.line == "x").unwrap();
    assert_eq!((claimed.origin.instance.as_str(), claimed.origin.stream), ("l-1", LogStream::Stderr));
    assert!(bed.lines("t-2").await.is_empty());
}

#[tokio::test]
async fn nobody_sends_without_a_credential() {
    let bed = bed("{}", |_, _| {}).await;
    for header in ["Bearer wrong", "Basic b25lOm90aGVy", "ApiKey wrong", "one", "Digest one"] {
        let bytes = request("POST /v1/lines", &[("authorization", header)], b"\"x\"");
        let answer = exchange(bed.address, &bytes).await;
        assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer")), "{header}");
        assert!(answer.reason().contains("Authorization: Bearer TOKEN"));
    }
    for line in ["POST /v1/lines", "POST /_bulk", "POST /v1/logs", "GET /", "GET /unknown"] {
        assert_eq!(exchange(bed.address, &request(line, &[], b"")).await.status, 401, "{line}");
    }
    // anybody:one
    let basic = request("POST /v1/lines", &[("authorization", "Basic YW55Ym9keTpvbmU=")], b"\"x\"");
    assert_eq!(exchange(bed.address, &basic).await.status, 200);
    bed.directory.senders.lock().unwrap().remove("one");
    assert_eq!(bed.post("/v1/lines", "one", "\"y\"").await.status, 401);
    assert_eq!(bed.lines("t-1").await, ["x"]);
}

#[tokio::test]
async fn things_are_taken_out_before_anything_is_stored_or_told() {
    let json = r#"{"redact":["email"],"alerts":[{"match":"boom","notify":"oncall"}]}"#;
    let bed = bed(json, |_, _| {}).await;
    let body = r#"{"message":"boom hunter2! 4111 1111 1111 1111","url":"http://bob:pass-word@host/","note":"of a@example.com","password":"so-secret"}"#;
    assert_eq!(bed.post("/v1/lines", "one", body).await.status, 200);
    let wide: Vec<String> = (0..500).map(|at| format!(r#""f{at}":"hunter2!""#)).collect();
    let wide = format!(r#"{{"message":"wide",{}}}"#, wide.join(","));
    assert_eq!(bed.post("/v1/lines", "one", wide).await.status, 200);
    let alerts = format!("{:?}", bed.directory.raised.lock().unwrap());
    let stored = format!("{:?}{alerts}", bed.entries("t-1").await);
    for secret in ["hunter2", "4111", "pass-word", "example.com", "so-secret"] {
        assert!(!stored.contains(secret), "{secret} in {stored}");
    }
    assert!(alerts.contains("boom [redacted:secret]"), "{alerts}");
}

#[tokio::test]
async fn rules_are_those_of_the_service() {
    let json = r#"{"join":"stack-traces","drop":["health"],"parse":[{"pattern":"took (?<ms>\\d+) ms"}]}"#;
    let bed = bed(json, |_, _| {}).await;
    let body = "a health check\n{\"message\":\"took 7 ms\",\"a\":1}\n\"panic: x\"\n\"  at y\"\n";
    let body = body.replacen("a health check", "\"a health check\"", 1);
    assert_eq!(bed.post("/v1/lines", "one", body).await.status, 200);
    assert_eq!(bed.lines("t-1").await, ["took 7 ms", "panic: x\n  at y"]);
    let fields = bed.entries("t-1").await[0].fields.clone();
    assert!(fields.windows(4).any(|part| part == b"ms=7") && fields.windows(3).any(|part| part == b"a=1"));
    // One that nothing is left of is taken, too, and later ones are not lost for it.
    assert_eq!(bed.post("/v1/lines", "one", "\"health\"").await.status, 200);
    assert_eq!(bed.post("/v1/lines", "one", "\"on\"").await.status, 200);
    assert_eq!(bed.lines("t-1").await.last().unwrap(), "on");
}

#[tokio::test]
async fn lines_go_where_rules_send_them() {
    let bed = bed(r#"{"route":[{"match":"audit","to":"archive"}]}"#, |_, _| {}).await;
    for round in 0..3 {
        let body = format!("\"on {round}\"\n\"audit {round}\"\n");
        assert_eq!(bed.post("/v1/lines", "one", body).await.status, 200);
    }
    assert_eq!(bed.lines("t-1").await, ["on 0", "on 1", "on 2"]);
    let query = LogQuery::of(Resource::Tenant("t-1".parse().unwrap()));
    let archived = bed.archive.search(&bed.ports.scope, &query).await.unwrap().entries;
    let archived: Vec<_> = archived.iter().rev().map(|entry| &entry.line[..]).collect();
    assert_eq!(archived, [b"audit 0", b"audit 1", b"audit 2"]);
}

#[tokio::test]
async fn a_collector_is_believed_as_far_as_the_platform_knows_the_instance() {
    let bed = bed("{}", |config, _| config.reads_instances = false).await;
    bed.directory.instances.lock().unwrap().extend([
        ("web-1".to_owned(), origin("t-1", "web-1")),
        ("u-1".to_owned(), origin("t-1", "web-1")),
        ("web-2".to_owned(), origin("t-2", "web-2")),
    ]);
    let body = [
        r#"{"message":"one","kubernetes":{"pod_name":"web-1","pod_id":"u-1","container_id":"unknown"},"stream":"stderr"}"#,
        r#"{"message":"two","file":"/var/log/pods/ns_web-2_u-2/web/0.log","tenant":"t-1"}"#,
        r#"{"message":"of nobody"}"#,
        r#"{"message":"of a stranger","instance":"web-9"}"#,
        r#"{"message":"of two","instance":"web-1","container_id":"web-2"}"#,
    ];
    let answer = bed.post("/v1/lines", "nodes", body.join("\n")).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &br#"{"taken":2,"quarantined":3}"#[..]));
    assert_eq!((bed.lines("t-1").await, bed.lines("t-2").await), (vec!["one".into()], vec!["two".into()]));
    let entry = &bed.entries("t-1").await[0];
    assert_eq!((entry.origin.instance.as_str(), entry.origin.stream), ("web-1", LogStream::Stderr));
    let told: Vec<_> =
        bed.quarantine().await.into_iter().map(|own| (own.reason, own.records, own.claimed)).collect();
    let expected = [
        (LogQuarantineReason::Nameless, ""),
        (LogQuarantineReason::Unknown, "web-9"),
        (LogQuarantineReason::Contradictory, "web-1 web-2"),
    ];
    assert_eq!(told, expected.map(|(reason, claimed)| (reason, 1, claimed.to_owned())));
}

#[tokio::test]
async fn what_the_platform_reads_by_itself_no_collector_sends_again() {
    let bed = bed("{}", |_, _| {}).await;
    bed.directory.instances.lock().unwrap().insert("web-1".into(), origin("t-1", "web-1"));
    let answer = bed.post("/v1/lines", "nodes", r#"{"message":"one","instance":"web-1"}"#).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &br#"{"taken":0,"quarantined":1}"#[..]));
    assert!(bed.lines("t-1").await.is_empty());
    let told = bed.quarantine().await;
    assert_eq!((told.len(), told[0].reason), (1, LogQuarantineReason::CollectedAlready));
}

#[tokio::test]
async fn what_is_refused_for_now_is_not_half_stored() {
    let bed = bed(r#"{"alerts":[{"match":"boom","count":2,"notify":"oncall"}]}"#, |config, _| {
        config.reads_instances = false;
    })
    .await;
    bed.directory
        .instances
        .lock()
        .unwrap()
        .extend([("web-1".to_owned(), origin("t-1", "web-1")), ("web-2".to_owned(), origin("t-2", "web-2"))]);
    let body = "{\"message\":\"boom\",\"instance\":\"web-1\"}\n{\"message\":\"b\",\"instance\":\"web-2\"}\n\"nobody\"";
    for failures in [&bed.directory.failures, &bed.store.failures] {
        failures.store(1, Ordering::Relaxed);
        let answer = bed.post("/v1/lines", "nodes", body).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("7")));
        assert!(answer.reason().contains("send it again"), "{}", answer.reason());
        assert!(bed.lines("t-1").await.is_empty() && bed.lines("t-2").await.is_empty());
    }
    assert_eq!(bed.post("/v1/lines", "nodes", body).await.status, 200);
    assert_eq!((bed.lines("t-1").await.len(), bed.lines("t-2").await.len()), (1, 1));
    assert_eq!(bed.quarantine().await[0].records, 1);
    // It was sent twice, and counts once.
    assert!(bed.directory.raised.lock().unwrap().is_empty());
    assert_eq!(bed.post("/v1/lines", "nodes", body).await.status, 200);
    assert_eq!(bed.directory.raised.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn of_requests_at_once_to_two_replicas_no_line_is_lost() {
    let bed = bed("{}", |_, config| config.requests_per_sender = 64).await;
    let (other, serving) = bed.replica().await;
    let send = |number: usize| {
        let address = if number.is_multiple_of(2) { bed.address } else { other };
        let bytes = request(
            "POST /v1/lines",
            &[("authorization", "Bearer one")],
            format!("\"line {number}\"").as_bytes(),
        );
        async move { exchange(address, &bytes).await.status }
    };
    let mut taken = 0;
    for number in 0..40 {
        let statuses = futures_util::future::join_all([send(2 * number), send(2 * number + 1)]).await;
        taken += statuses.iter().filter(|status| **status == 200).count();
    }
    let lines: std::collections::BTreeSet<String> = bed.lines("t-1").await.into_iter().collect();
    assert_eq!((taken, lines.len()), (80, 80));
    serving.abort();
}

#[tokio::test]
async fn whoever_watches_sees_what_is_sent_and_nothing_of_others() {
    let next = async |tail: &mut BoxStream<'static, Result<TailItem>>| {
        let item = tokio::time::timeout(Duration::from_secs(20), tail.next()).await.unwrap().unwrap();
        let TailItem::Lines(lines) = item.unwrap() else { panic!("no lines") };
        let text = |entry: &LogEntry| String::from_utf8_lossy(&entry.line).into_owned();
        lines.entries.iter().map(text).collect::<Vec<_>>()
    };
    for reads_instances in [true, false] {
        let bed = bed("{}", |config, _| config.reads_instances = reads_instances).await;
        bed.directory.instances.lock().unwrap().insert("web-1".into(), origin("t-1", "web-1"));
        assert_eq!(bed.post("/v1/lines", "one", "\"before\"").await.status, 200);
        let (mut one, mut two) = (bed.tail("t-1").await, bed.tail("t-2").await);
        let old = r#"{"message":"a hunter2!","time":"2026-11-27T00:00:00Z"}"#;
        assert_eq!(bed.post("/v1/lines", "one", old).await.status, 200);
        assert_eq!(bed.post("/v1/lines", "two", "\"b\"").await.status, 200);
        assert_eq!(next(&mut one).await, ["a [redacted:secret]"]);
        assert_eq!(next(&mut two).await, ["b"]);
        if !reads_instances {
            let body = r#"{"message":"c","instance":"web-1"}"#;
            assert_eq!(bed.post("/v1/lines", "nodes", body).await.status, 200);
            assert_eq!(next(&mut one).await, ["c"]);
        }
    }
}
