//! Bodies, tunnels and plain TCP: bytes that flow both ways.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::kit::*;
use crate::edge::{Protocol, SlotName};

const BIG: usize = 64 << 20;

/// What lies in two pairs of socket buffers (the kernel grows each to 4 or 6 MiB) and the proxy's own.
const IN_BETWEEN: usize = 24 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_the_instance_back() {
    let (rig, written) = (Rig::new().await, Arc::new(AtomicUsize::new(0)));
    let total = written.clone();
    let one = Instance::scripted("one", move |_, mut stream| {
        let total = total.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {BIG}\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            send_all(&mut stream, &total).await;
        }
    })
    .await;
    rig.apply(&blue(&[&one])).await;
    let mut client = TcpStream::connect(rig.public).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await.unwrap();
    read_head(&mut client).await.unwrap();
    let stuck = stands_still(&written).await;
    assert!(stuck < IN_BETWEEN, "{stuck} bytes left the instance though nobody reads");
    assert_eq!(read_count(&mut client, BIG).await, BIG);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_instance_holds_the_client_back() {
    let (rig, written) = (Rig::new().await, Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(tokio::sync::Notify::new());
    let open = gate.clone();
    let one = Instance::scripted("one", move |_, mut stream| {
        let open = open.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            open.notified().await;
            let count = read_count(&mut stream, BIG).await;
            let text = count.to_string();
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
            let _ = read_head(&mut stream).await;
        }
    })
    .await;
    rig.apply(&blue(&[&one])).await;
    let client = TcpStream::connect(rig.public).await.unwrap();
    let (mut read, mut write) = client.into_split();
    let total = written.clone();
    let upload = tokio::spawn(async move {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {BIG}\r\nConnection: close\r\n\r\n"
        );
        write.write_all(head.as_bytes()).await.unwrap();
        send_all(&mut write, &total).await;
        write
    });
    let stuck = stands_still(&written).await;
    assert!(stuck < IN_BETWEEN, "{stuck} bytes left the client though the instance does not read");
    gate.notify_one();
    let mut answer = String::new();
    read.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with(&format!("\r\n\r\n{BIG}")), "{answer}");
    drop(upload.await.unwrap());
}

async fn send_all(to: &mut (impl AsyncWriteExt + Unpin), total: &AtomicUsize) {
    let block = vec![b'x'; 64 * 1024];
    for _ in 0..BIG / block.len() {
        if to.write_all(&block).await.is_err() {
            return;
        }
        total.fetch_add(block.len(), Ordering::Relaxed);
    }
}

async fn read_count(from: &mut (impl AsyncReadExt + Unpin), limit: usize) -> usize {
    let (mut count, mut buffer) = (0, vec![0; 64 * 1024]);
    while count < limit {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(more) => count += more,
        }
    }
    count
}

/// The value at which a counter stays for 100 ms.
async fn stands_still(counter: &AtomicUsize) -> usize {
    let mut last = (usize::MAX, tokio::time::Instant::now());
    loop {
        let now = counter.load(Ordering::Relaxed);
        if now != last.0 {
            last = (now, tokio::time::Instant::now());
        } else if now > 0 && last.1.elapsed() > Duration::from_millis(100) {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn echoing(id: &str) -> Instance {
    Instance::scripted(id, |_, mut stream| async move {
        let Some(head) = read_head(&mut stream).await else { return };
        assert!(head.contains("upgrade: echo") && head.contains("connection: upgrade"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nfirst";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let (mut read, mut write) = stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = write.write_all(b"last").await;
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgraded_connection_is_a_tunnel_and_counts_as_one() {
    let (rig, one) = (Rig::new().await, echoing("one").await);
    rig.apply(&blue(&[&one])).await;
    let mut client = TcpStream::connect(rig.public).await.unwrap();
    let ask =
        "GET /ws HTTP/1.1\r\nHost: app.test\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\nearly";
    client.write_all(ask.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: echo"), "{head}");
    let mut greeting = [0; 10];
    client.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"firstearly");
    let usage = rig.edge.observe("app").await.unwrap().endpoints.remove(0);
    assert_eq!((usage.open, usage.requests, usage.tunnels), (1, 0, 1));

    rig.apply(&blue(&[])).await;
    assert!(!rig.edge.drained("app", Duration::ZERO).await.unwrap());
    client.write_all(b"ping").await.unwrap();
    let mut echo = [0; 4];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"ping", "an open tunnel goes on while its endpoint drains");
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "last", "one direction may end before the other");
    assert!(rig.edge.drained("app", DEADLINE).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_that_is_declined_is_an_answer_like_any_other() {
    let (rig, one) = (Rig::new().await, Instance::start("one").await);
    rig.apply(&blue(&[&one])).await;
    let mut client = rig.client().await;
    let mut ask = request("GET", "/");
    ask.headers_mut().insert("connection", "upgrade".parse().unwrap());
    ask.headers_mut().insert("upgrade", "h2c".parse().unwrap());
    assert_eq!(client.ask(ask).await.text, "one");
    assert_eq!(client.get("/").await.text, "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_flows_both_ways_and_each_way_ends_by_itself() {
    let rig = Rig::new().await;
    let inner = rig.holder.bind("db-5432");
    let one = Instance::scripted("one", |_, mut stream| async move {
        let mut all = Vec::new();
        stream.write_all(b"hello\n").await.unwrap();
        stream.read_to_end(&mut all).await.unwrap();
        stream.write_all(format!("got {}", all.len()).as_bytes()).await.unwrap();
    })
    .await;
    let dead = Instance::refusing("dead").await;
    let mut tcp = route(&[(SlotName::Blue, 1, 1, &[&dead, &one])]);
    tcp.protocol = Protocol::Tcp;
    tcp.hosts.clear();
    tcp.listen.push("db-5432".into());
    rig.apply(&tcp).await;
    let mut client = TcpStream::connect(inner).await.unwrap();
    let mut hello = [0; 6];
    client.read_exact(&mut hello).await.unwrap();
    let usage = rig.edge.observe("app").await.unwrap();
    let usage = usage.endpoints.iter().find(|e| e.id == "one").unwrap();
    assert_eq!((usage.open, usage.connections), (1, 1));
    client.write_all(&vec![7; 1 << 20]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "got 1048576");
    eventually("the connection is counted as ended", || async {
        (rig.slot("app", SlotName::Blue).await.in_flight == 0).then_some(())
    })
    .await;

    tcp.slots[0].endpoints.remove(1);
    rig.apply(&tcp).await;
    let ended = async { TcpStream::connect(inner).await?.read_u8().await };
    assert!(ended.await.is_err(), "without an instance the connection ends");
}
