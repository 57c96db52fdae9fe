//! Trouble with instances: what is asked again, what is not, and what the client sees.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kit::*;
use crate::edge::SlotName::{Blue, Green};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn take_request(stream: &mut TcpStream) -> Option<String> {
    let head = read_head(stream).await?;
    let length =
        head.lines().find_map(|l| l.strip_prefix("content-length: ")).map_or(0, |l| l.parse().unwrap());
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(head)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_refused_goes_elsewhere_whatever_its_method() {
    let (rig, dead, live) =
        (Rig::new().await, Instance::refusing("dead").await, Instance::start("live").await);
    rig.apply(&blue(&[&dead, &live])).await;
    let mut client = rig.client().await;
    for i in 0..50 {
        let ask = if i % 2 == 0 { post("/", "body") } else { request("GET", "/") };
        let answer = client.ask(ask).await;
        assert_eq!((answer.status(), answer.text.as_str()), (200, "live"));
    }
    assert_eq!(live.asked(), 50);
    assert_eq!(live.last().body.len() + live.asked.lock().unwrap()[0].body.len(), 4);
    let slot = rig.slot("app", Blue).await;
    assert_eq!((slot.requests, slot.errors, slot.in_flight), (50, 0, 0));
    assert!((1..25).contains(&slot.retries), "a dead endpoint is avoided for a while: {}", slot.retries);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_cannot_be_reached_leaves_its_requests_to_the_other() {
    let (rig, dead, live) =
        (Rig::new().await, Instance::refusing("dead").await, Instance::start("live").await);
    rig.apply(&route(&[(Blue, 1, 50, &[&dead]), (Green, 2, 50, &[&live])])).await;
    let mut client = rig.client().await;
    for _ in 0..20 {
        assert_eq!(client.ask(post("/", "x")).await.text, "live");
    }
    assert_eq!(live.asked(), 20);
    let blue = rig.slot("app", Blue).await;
    assert_eq!(blue.requests, blue.errors, "the failing slot is charged");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_anyone_to_ask_the_client_is_told_to_come_back() {
    let (rig, dead) = (Rig::new().await, Instance::refusing("dead").await);
    rig.apply(&route(&[(Blue, 1, 100, &[]), (Green, 2, 0, &[&dead])])).await;
    let mut client = rig.client().await;
    let answer = client.get("/").await;
    assert_eq!((answer.status(), answer.header("retry-after")), (503, Some("1")));
    rig.apply(&blue(&[&dead])).await;
    let answer = client.get("/").await;
    assert_eq!(answer.status(), 502);
    assert_eq!(rig.slot("app", Blue).await.errors, 1);
}

/// Each connection serves one request and is closed when the second arrives: the race of a kept connection.
async fn closes_on_reuse(id: &str, tally: Arc<AtomicU64>) -> Instance {
    Instance::scripted(id, move |_, mut stream| {
        let tally = tally.clone();
        async move {
            if take_request(&mut stream).await.is_some() {
                tally.fetch_add(1, Ordering::Relaxed);
                stream.write_all(OK).await.unwrap();
                // Reading one byte of the next request and closing is what a crash looks like.
                if stream.read_u8().await.is_ok() {
                    tally.fetch_add(1_000, Ordering::Relaxed);
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_request_survives_a_kept_connection_that_closes() {
    let (rig, tally) = (Rig::new().await, Arc::new(AtomicU64::new(0)));
    let one = closes_on_reuse("one", tally.clone()).await;
    rig.apply(&blue(&[&one])).await;
    let mut client = rig.client().await;
    assert_eq!(client.get("/").await.status(), 200);
    assert_eq!(client.get("/").await.status(), 200);
    let mut put = post("/", "small");
    *put.method_mut() = hyper::Method::PUT;
    assert_eq!(client.ask(put).await.status(), 200);
    assert_eq!(tally.load(Ordering::Relaxed), 2_003, "two were sent in vain and repeated");
    assert_eq!(rig.slot("app", Blue).await.errors, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_is_never_sent_twice() {
    let (rig, tally) = (Rig::new().await, Arc::new(AtomicU64::new(0)));
    let (one, two) =
        (closes_on_reuse("one", tally.clone()).await, closes_on_reuse("two", tally.clone()).await);
    rig.apply(&blue(&[&one, &two])).await;
    let mut client = rig.client().await;
    let mut failed = 0;
    for _ in 0..20 {
        failed += u64::from(client.ask(post("/", "body")).await.status() == 502);
    }
    let tally = tally.load(Ordering::Relaxed);
    assert_eq!(tally / 1_000, failed, "each that was sent in vain failed");
    assert_eq!(tally % 1_000 + failed, 20, "each was sent exactly once");
    assert!(failed > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_post_does_not_use_a_kept_connection_that_the_instance_has_closed() {
    let rig = Rig::new().await;
    // Closes right after each answer without saying so.
    let one = Instance::scripted("one", |_, mut stream| async move {
        if take_request(&mut stream).await.is_some() {
            stream.write_all(OK).await.unwrap();
        }
    })
    .await;
    rig.apply(&blue(&[&one])).await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = rig.client().await;
        clients.push(tokio::spawn(async move {
            for _ in 0..100 {
                client.ask(post("/", "body")).await;
            }
        }));
    }
    for client in clients {
        client.await.unwrap();
    }
    let slot = rig.slot("app", Blue).await;
    // Only a close between our look and our write can hurt; it shows as an error, never as a second delivery.
    assert_eq!(slot.requests, 800);
    assert!(slot.errors <= 8, "{} of 800 were sent to a closed connection", slot.errors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_get_in_flight_on_a_killed_instance_is_repeated_once_elsewhere() {
    let rig = Rig::new().await;
    let dies =
        || Instance::scripted("dies", |_, mut stream| async move { drop(take_request(&mut stream).await) });
    let (bad, good) = (dies().await, Instance::start("good").await);
    rig.apply(&blue(&[&bad, &good])).await;
    let mut client = rig.client().await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.text, "good");
    }
    let (other, third) = (dies().await, dies().await);
    let named = |mut i: Instance, id: &str| {
        i.id = id.to_owned();
        i
    };
    let (other, third) = (named(other, "other"), named(third, "third"));
    rig.apply(&blue(&[&bad, &other, &third])).await;
    let before = bad.asked() + other.asked() + third.asked();
    assert_eq!(client.get("/").await.status(), 502);
    assert_eq!(
        bad.asked() + other.asked() + third.asked() - before,
        2,
        "one request kills at most two instances"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_breaks_off_never_looks_complete() {
    let rig = Rig::new().await;
    for head in ["content-length: 100\r\n", "transfer-encoding: chunked\r\n", "connection: close\r\n"] {
        let one = Instance::scripted("one", move |_, mut stream| async move {
            if take_request(&mut stream).await.is_some() {
                let body = if head.starts_with("tr") { "4\r\npart\r\n" } else { "part" };
                let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
                // A body that ends with its connection can only break off by a reset.
                stream.set_zero_linger().unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        rig.apply(&blue(&[&one])).await;
        let before = rig.slot("app", Blue).await.errors;
        let error = rig.client().await.try_ask(request("GET", "/")).await.expect_err(head);
        assert!(!error.is_user(), "{error}");
        let mut old = TcpStream::connect(rig.public).await.unwrap();
        old.write_all(b"GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let end = tokio::time::timeout(DEADLINE, old.read_to_end(&mut answer)).await.unwrap();
        let cut = end.is_err() || String::from_utf8_lossy(&answer).contains("content-length: 100");
        assert!(cut, "an old client took {:?} for whole", String::from_utf8_lossy(&answer));
        eventually("both count as errors", || async {
            (rig.slot("app", Blue).await.errors == before + 2).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_that_is_silent_or_speaks_something_else_is_answered_for() {
    let rig = Rig::with(|config| config.answer_timeout = Duration::from_millis(50)).await;
    let silent = Instance::scripted("one", |_, mut stream| async move {
        let _ = take_request(&mut stream).await;
        std::future::pending().await
    })
    .await;
    rig.apply(&blue(&[&silent])).await;
    assert_eq!(rig.client().await.get("/").await.status(), 504);
    assert_eq!(silent.asked(), 1, "what may be at work is not repeated");
    let odd = Instance::scripted("odd", |_, mut stream| async move {
        let _ = stream.write_all(b"220 smtp.test ESMTP\r\n").await;
        let _ = take_request(&mut stream).await;
    })
    .await;
    rig.apply(&blue(&[&odd])).await;
    assert_eq!(rig.client().await.get("/").await.status(), 502);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_idle_clients_are_let_go() {
    let rig = Rig::with(|config| {
        config.head_timeout = Duration::from_millis(50);
        config.client_idle = Duration::from_millis(50);
    })
    .await;
    let one = Instance::start("one").await;
    rig.apply(&blue(&[&one])).await;
    assert_eq!(rig.raw("GET / HTTP/1.1\r\nHost: app").await, "");
    let idle = rig.raw("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    assert!(idle.starts_with("HTTP/1.1 200") && idle.ends_with("one"), "{idle}");
    eventually("none is open", || async { (rig.edge.hello().await.unwrap().connections == 0).then_some(()) })
        .await;
}
