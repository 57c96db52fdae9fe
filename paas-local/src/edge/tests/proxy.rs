//! Requests and answers on their way through.

use super::kit::*;
use crate::edge::SlotName::{Blue, Green};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_reaches_the_instance_and_its_answer_the_client() {
    let (rig, one) = (Rig::new().await, Instance::start("one").await);
    rig.apply(&blue(&[&one])).await;
    let mut client = rig.client().await;
    let answer = client.ask(post("/a/b?c=d", "hello")).await;
    assert_eq!((answer.status(), answer.text.as_str()), (200, "one"));
    let asked = one.last();
    assert_eq!(asked.head.uri, "/a/b?c=d");
    assert_eq!(asked.body, "hello");
    assert_eq!(asked.head.headers["host"], "app.test");
    assert_eq!(asked.head.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(asked.head.headers["x-forwarded-proto"], "http");
    assert_eq!(asked.head.headers["x-forwarded-host"], "app.test");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_exact_over_ten_thousand_requests() {
    let (rig, one, two) = (Rig::new().await, Instance::start("one").await, Instance::start("two").await);
    rig.apply(&route(&[(Blue, 1, 95, &[&one]), (Green, 2, 5, &[&two])])).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = rig.client().await;
        clients.push(tokio::spawn(async move {
            for _ in 0..1_250 {
                assert_eq!(client.get("/").await.status(), 200);
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let share = two.asked();
    assert!((490..=510).contains(&share), "{share} of 10,000 went to a slot of 5 %");
    assert_eq!(rig.slot("app", Green).await.requests, share);
    assert_eq!(rig.slot("app", Blue).await.requests + share, 10_000);
}
