//! Who gets new work, and when the last work of an endpoint has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::Full;
use hyper::Response;
use tokio::sync::Semaphore;

use super::kit::*;
use crate::edge::Event;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_endpoint_finishes_its_work_and_gets_no_more() {
    let (rig, gate) = (Rig::new().await, Arc::new(Semaphore::new(0)));
    let waits = gate.clone();
    let old = Instance::serving("old", move |_| {
        let waits = waits.clone();
        async move {
            waits.acquire().await.unwrap().forget();
            Response::new(Full::new(Bytes::from_static(b"old")))
        }
    })
    .await;
    let new = Instance::start("new").await;
    rig.apply(&blue(&[&old])).await;
    let mut events = rig.edge.events().await.unwrap();
    let mut client = rig.client().await;
    let open = tokio::spawn(async move { client.get("/").await });
    eventually("the request is open", || async { (old.asked() == 1).then_some(()) }).await;

    rig.apply(&blue(&[&new])).await;
    let usage = rig.edge.observe("app").await.unwrap();
    let left = usage.endpoints.iter().find(|e| e.id == "old").unwrap();
    assert_eq!((left.closed, left.open, left.requests), (true, 1, 1));
    assert!(!left.is_drained());
    for _ in 0..10 {
        assert_eq!(rig.client().await.get("/").await.text, "new");
    }
    assert!(!rig.edge.drained("app", std::time::Duration::ZERO).await.unwrap());
    gate.add_permits(1);
    assert_eq!(open.await.unwrap().text, "old");
    let event = tokio::time::timeout(DEADLINE, events.next()).await.unwrap().unwrap();
    assert_eq!(event, Event::Drained { service: "app".into(), endpoint: "old".into(), addr: old.addr });
    assert!(rig.edge.drained("app", DEADLINE).await.unwrap());
    let usage = rig.edge.observe("app").await.unwrap();
    assert!(usage.endpoints.iter().all(|e| e.id == "new"));
}

/// An instance that stops listening, and drops its connections, the moment the edge says that it is drained, while
/// clients go on without retries. Any request that began after the acknowledgement would fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_endpoints_under_load_fails_no_request() {
    let rig = Rig::new().await;
    let mut current = Instance::start("0").await;
    rig.apply(&blue(&[&current])).await;
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for i in 0..32 {
        let (stop, served, mut client) = (stop.clone(), served.clone(), rig.client().await);
        clients.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let request = if i % 2 == 0 { request("GET", "/") } else { post("/", "body") };
                let answer = client.ask(request).await;
                assert_eq!(answer.status(), 200, "{}", answer.text);
                served.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for round in 1..=100 {
        let next = Instance::start(&round.to_string()).await;
        rig.apply(&blue(&[&current, &next])).await;
        let before = served.load(Ordering::Relaxed);
        eventually("some are served", || async {
            (served.load(Ordering::Relaxed) > before + 64).then_some(())
        })
        .await;
        rig.apply(&blue(&[&next])).await;
        assert!(rig.edge.drained("app", DEADLINE).await.unwrap());
        current = next;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let slot = rig.slot("app", crate::edge::SlotName::Blue).await;
    assert_eq!(slot.errors, 0);
}
