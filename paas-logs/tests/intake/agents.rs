//! What agents say, as they say it.

use paas_core::model::Level;

use super::bed::{bed, origin};

#[tokio::test]
async fn a_bulk_request_is_answered_item_by_item() {
    let bed = bed("{}", |_, _| {}).await;
    let body = concat!(
        "{\"create\":{\"_index\":\"logs\"}}\n{\"message\":\"one\",\"host\":{\"name\":\"n-1\"}}\n",
        "{\"delete\":{\"_id\":\"1\"}}\n",
        "{\"index\":{}}\n{\"message\":broken}\n",
        "{\"index\":{}}\n{\"message\":\"two\"}\n",
    );
    for path in ["/_bulk", "/logs/_bulk?filter_path=errors", "/logs/_doc/_bulk"] {
        let answer = bed.post_with(path, "one", &[("content-type", "application/x-ndjson")], body).await;
        assert_eq!((answer.status, answer.header("x-elastic-product")), (200, Some("Elasticsearch")));
        let told = answer.json();
        assert_eq!(told["errors"], true);
        let status = |at: usize, action: &str| told["items"][at][action]["status"].as_u64().unwrap();
        let statuses = [status(0, "create"), status(1, "delete"), status(2, "index"), status(3, "index")];
        assert_eq!(statuses, [201, 400, 400, 201]);
        assert!(told["items"][2]["index"]["error"]["reason"].as_str().unwrap().contains("column 12"));
    }
    assert_eq!(bed.lines("t-1").await, ["one", "two"].repeat(3));
    assert_eq!(&bed.entries("t-1").await[0].fields[..], b"host.name=n-1");
    let answer = bed.post("/_bulk", "one", "{\"create\":{}}\n{\"message\":\"three\"}").await;
    assert_eq!(answer.json()["errors"], false);
    assert_eq!(bed.post("/_bulk", "one", "{\"message\":\"x\"}\n").await.status, 400);
}

#[tokio::test]
async fn first_questions_are_answered() {
    let bed = bed("{}", |_, _| {}).await;
    let root = bed.get("GET /").await;
    assert_eq!((root.status, root.header("x-elastic-product")), (200, Some("Elasticsearch")));
    assert!(root.json()["version"]["number"].as_str().unwrap().starts_with("8."));
    let head = bed.get("HEAD /").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(bed.get("GET /_license?human=false").await.json()["license"]["status"], "active");
    assert_eq!(bed.get("GET /_cluster/health").await.json()["status"], "green");
    assert_eq!(bed.get("GET /_xpack").await.json()["features"]["ilm"]["enabled"], false);
    assert_eq!(bed.get("GET /_index_template/filebeat").await.status, 404);
}

#[tokio::test]
async fn otlp_is_taken_in_json() {
    let bed = bed("{}", |config, _| config.reads_instances = false).await;
    bed.directory.instances.lock().unwrap().insert("u-1".into(), origin("t-1", "web-1"));
    let body = |uid: &str| {
        format!(
            r#"{{"resourceLogs":[{{"resource":{{"attributes":[{{"key":"k8s.pod.uid","value":{{"stringValue":"{uid}"}}}}]}},
            "scopeLogs":[{{"logRecords":[{{"severityNumber":17,"body":{{"stringValue":"late"}},
            "attributes":[{{"key":"order","value":{{"intValue":"7"}}}}]}}]}}]}}]}}"#
        )
    };
    let json = [("content-type", "application/json")];
    let answer = bed.post_with("/v1/logs", "nodes", &json, body("u-1")).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"{}"[..]));
    let entries = bed.entries("t-1").await;
    assert_eq!((&entries[0].line[..], entries[0].level), (&b"late"[..], Some(Level::Error)));
    assert_eq!(&entries[0].fields[..], b"order=7 k8s.pod.uid=u-1");
    let answer = bed.post_with("/v1/logs", "nodes", &json, body("u-9")).await;
    assert_eq!(answer.json()["partialSuccess"]["rejectedLogRecords"], "1");
    let answer = bed.post_with("/v1/logs", "nodes", &json, "{\"resourceLogs\":[7]}").await;
    assert_eq!(answer.status, 400);
    assert_eq!(bed.post("/v1/logs", "nodes", "x").await.status, 415);
}

/// A field of bytes of protobuf.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()][..], bytes].concat()
}

#[tokio::test]
async fn otlp_is_taken_in_protobuf() {
    let bed = bed("{}", |config, _| config.reads_instances = false).await;
    bed.directory.instances.lock().unwrap().insert("u-1".into(), origin("t-1", "web-1"));
    let body = |uid: &str| {
        let record = [vec![2 << 3, 9], field(5, &field(1, b"late"))].concat();
        let attribute = [field(1, b"k8s.pod.uid"), field(2, &field(1, uid.as_bytes()))].concat();
        field(1, &[field(1, &field(1, &attribute)), field(2, &field(2, &record))].concat())
    };
    let protobuf = [("content-type", "application/x-protobuf")];
    let answer = bed.post_with("/v1/logs", "nodes", &protobuf, body("u-1")).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-protobuf")));
    assert!(answer.body.is_empty());
    assert_eq!(bed.entries("t-1").await[0].level, Some(Level::Info));
    let answer = bed.post_with("/v1/logs", "nodes", &protobuf, [body("u-1"), body("u-9")].concat()).await;
    // partial_success { rejected_log_records: 1, … }
    assert_eq!((answer.status, answer.body[0], &answer.body[2..4]), (200, 10, &[8, 1][..]));
    assert_eq!(bed.lines("t-1").await, ["late", "late"]);
    let answer = bed.post_with("/v1/logs", "nodes", &protobuf, b"\x0a\x05x").await;
    assert_eq!((answer.status, answer.body[0]), (400, 2 << 3 | 2));
}
