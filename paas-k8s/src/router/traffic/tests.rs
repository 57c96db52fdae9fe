use paas_core::model::{AppId, EnvironmentId, Protocol, RevisionNumber, RouteSlot, TenantId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const GATEWAY: &str =
    "httproute-e-1-s-1-gw-edge-public-ep-web-0-36a7f698-svc-e-1-s-1-blue-0@kubernetesgateway";

/// A gateway that tells whatever it is given.
async fn gateway(text: std::sync::Arc<Mutex<String>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            if stream.read(&mut request).await.is_err() {
                continue;
            }
            let body = text.lock().unwrap().clone();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            drop(stream.write_all(format!("{head}{body}").as_bytes()).await);
        }
    });
    at
}

fn route(revision: u64) -> Route {
    let mut route = Route::new(
        TenantId::new("t-1").unwrap(),
        EnvironmentId::new("e-1").unwrap(),
        AppId::new("a-1").unwrap(),
        ServiceId::new("s-1").unwrap(),
        Protocol::Http,
    );
    route.hosts = vec!["shop.example.com".parse().unwrap()];
    let revision = RevisionNumber(revision);
    route.slots = vec![RouteSlot { slot: Slot::Blue, revision, weight: 1, endpoints: Vec::new() }];
    route
}

fn names() -> [(Slot, String); 2] {
    Slot::BOTH.map(|slot| (slot, format!("s-1-{slot}")))
}

/// So many answers, of them so many slow ones.
fn counted(code: u16, all: u64, slow: u64) -> String {
    let line = |le: &str, count: u64| {
        format!(
            "traefik_service_request_duration_seconds_bucket{{code=\"{code}\",service=\"{GATEWAY}\",le=\"{le}\"}} {count}\n"
        )
    };
    line("0.1", all - slow) + &line("+Inf", all)
}

async fn requests(traffic: &Traffic) -> Vec<(u64, u64, u64)> {
    traffic.read.lock().await.take();
    let all = traffic.of(&ServiceId::new("s-1").unwrap()).await.unwrap();
    all.iter().map(|own| (own.revision.0, own.requests, own.errors)).collect()
}

#[test]
fn a_gateways_service_names_ours() {
    assert_eq!(candidates(GATEWAY).collect::<Vec<_>>(), ["e-1-s-1-blue"]);
    let twice = "httproute-a-svc-b-svc-c-0@kubernetesgateway";
    assert_eq!(candidates(twice).collect::<Vec<_>>(), ["b-svc-c", "c"]);
    for other in ["", "a", "a@file", "a-svc-b@kubernetesgateway", "-svc-@kubernetesgateway"] {
        assert_eq!(candidates(other).filter(|name| !name.is_empty()).count(), 0, "{other}");
    }
}

#[tokio::test]
async fn counts_only_grow_and_belong_to_the_revision_of_their_time() {
    let text = std::sync::Arc::new(Mutex::new(counted(200, 1_000, 0)));
    let traffic = Traffic::new(gateway(text.clone()).await.to_string());
    let tell = |new: String| *text.lock().unwrap() = new;
    // What was counted before the route was there is of no concern.
    traffic.begin(&route(1), "e-1", &names()).await;
    assert_eq!(requests(&traffic).await, [(1, 0, 0)]);
    tell(counted(200, 1_010, 0) + &counted(502, 2, 0));
    assert_eq!(requests(&traffic).await, [(1, 12, 2)]);
    // The gateway begins anew.
    tell(counted(200, 5, 0));
    assert_eq!(requests(&traffic).await, [(1, 17, 2)]);
    // A series that is gone for a while has lost nothing.
    tell(String::new());
    assert_eq!(requests(&traffic).await, [(1, 17, 2)]);
    tell(counted(200, 7, 0));
    assert_eq!(requests(&traffic).await, [(1, 24, 2)]);
    traffic.begin(&route(2), "e-1", &names()).await;
    tell(counted(200, 8, 0));
    assert_eq!(requests(&traffic).await, [(2, 1, 0), (1, 24, 2)]);
    // Another route of the same service knows nothing of these.
    traffic.forget(&ServiceId::new("s-1").unwrap());
    assert_eq!(requests(&traffic).await, []);
    traffic.begin(&route(2), "e-1", &names()).await;
    assert_eq!(requests(&traffic).await, [(2, 0, 0)]);
}

#[tokio::test]
async fn latencies_count_as_the_lower_bound_of_theirs() {
    let text = std::sync::Arc::new(Mutex::new(String::new()));
    let traffic = Traffic::new(gateway(text.clone()).await.to_string());
    traffic.begin(&route(1), "e-1", &names()).await;
    *text.lock().unwrap() = counted(200, 10, 4);
    assert_eq!(requests(&traffic).await, [(1, 10, 0)]);
    let own = &traffic.of(&ServiceId::new("s-1").unwrap()).await.unwrap()[0];
    assert_eq!(own.latency.quantile(0.6), Some(Duration::from_millis(1)));
    assert_eq!(own.latency.quantile(1.0), Some(Duration::from_millis(128)));
}

#[tokio::test]
async fn a_gateway_that_tells_nothing_is_unavailable_and_keeps_no_route_waiting() {
    let traffic = Traffic::new("127.0.0.1:1".into());
    traffic.begin(&route(1), "e-1", &names()).await;
    let error = traffic.of(&ServiceId::new("s-1").unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), paas_core::ErrorKind::Unavailable);
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
