//! Whatever is sent, it is bounded, has a deadline, and harms nobody else.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bed::bed;
use super::client::{exchange, parsed, request};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

#[tokio::test]
async fn bodies_may_be_packed() {
    let bed = bed("{}", |_, _| {}).await;
    let two = [gzip(b"\"a\"\n"), gzip(b"\"b\"\n")].concat();
    for (encoding, body) in [("gzip", two), ("zstd", zstd(b"\"c\"\n")), ("identity", b"\"d\"\n".to_vec())] {
        let answer = bed.post_with("/v1/lines", "one", &[("content-encoding", encoding)], body).await;
        assert_eq!(answer.status, 200, "{encoding}: {}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(bed.lines("t-1").await, ["a", "b", "c", "d"]);
    for (encoding, body, status) in [
        ("br", Vec::new(), 415),
        ("gzip, gzip", Vec::new(), 415),
        ("gzip", b"\"x\"".to_vec(), 400),
        ("gzip", gzip(b"\"x\"")[..15].to_vec(), 400),
        ("zstd", b"\"x\"".to_vec(), 400),
        ("zstd", zstd(b"\"x\"")[..8].to_vec(), 400),
    ] {
        let answer = bed.post_with("/v1/lines", "one", &[("content-encoding", encoding)], &body).await;
        assert_eq!(answer.status, status, "{encoding}: {}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(bed.lines("t-1").await.len(), 4);
}

#[tokio::test]
async fn bombs_do_not_go_off() {
    let bed = bed("{}", |_, config| config.body = 1 << 20).await;
    let bomb = vec![b'x'; 256 << 20];
    for (encoding, body) in [("gzip", gzip(&bomb)), ("zstd", zstd(&bomb))] {
        assert!(body.len() < 2 << 20);
        let answer = bed.post_with("/v1/lines", "one", &[("content-encoding", encoding)], body).await;
        assert_eq!(answer.status, 413, "{encoding}");
        assert!(answer.reason().contains("1048576"), "{}", answer.reason());
    }
    // One that says so is refused before it is read, and one that does not is, too.
    assert_eq!(bed.post("/v1/lines", "one", vec![b'x'; 2 << 20]).await.status, 413);
    let mut chunked = b"POST /v1/lines HTTP/1.1\r\nhost: x\r\nauthorization: Bearer one\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..3 {
        chunked.extend_from_slice(b"80000\r\n");
        chunked.extend(vec![b'x'; 0x80000]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(exchange(bed.address, &chunked).await.status, 413);
    assert_eq!(bed.post("/v1/lines", "one", "\"a\"\n".repeat(100_001)).await.status, 413);
    assert!(bed.lines("t-1").await.is_empty());
}

#[tokio::test]
async fn giant_lines_are_cut_and_say_so() {
    let bed = bed("{}", |_, _| {}).await;
    let long = "x".repeat(8 << 20);
    assert_eq!(bed.post("/v1/lines", "one", format!("{{\"message\":\"{long}\"}}")).await.status, 200);
    let text = [("content-type", "text/plain; charset=utf-8")];
    assert_eq!(bed.post_with("/v1/lines", "one", &text, format!("{long}\nshort\n")).await.status, 200);
    let lines = bed.lines("t-1").await;
    let cut = format!("{} [cut: 8388608 bytes]", "x".repeat(256 * 1024));
    assert_eq!((lines.len(), &lines[2]), (3, &"short".to_owned()));
    assert!(lines[0] == cut && lines[1] == cut);
}

#[tokio::test]
async fn any_bytes_are_lines_and_stay_as_they_are() {
    let bed = bed("{}", |_, _| {}).await;
    let odd = b"\xff\xfe\x00 \xc3\x28";
    let json = [&b"{\"message\":\""[..], odd, b"\",\"name\xff\":\"\xff\"}"].concat();
    assert_eq!(bed.post("/v1/lines", "one", json).await.status, 200);
    let text = [("content-type", "text/plain")];
    assert_eq!(bed.post_with("/v1/lines", "one", &text, odd).await.status, 200);
    let entries = bed.entries("t-1").await;
    assert!(entries.len() == 2 && entries.iter().all(|entry| entry.line == odd[..]), "{entries:?}");
    assert_eq!(&entries[0].fields[..], b"name_=\xff");
}

#[tokio::test]
async fn a_hundred_thousand_fields_lose_nothing() {
    let bed = bed("{}", |_, _| {}).await;
    let members: Vec<String> = (0..100_000).map(|at| format!("\"f{at}\":0")).collect();
    let body = format!("{{\"message\":\"a\",{}}}\n\"b\"", members[..20_000].join(","));
    assert_eq!(bed.post("/v1/lines", "one", body).await.status, 200);
    let lines = bed.lines("t-1").await;
    assert!(lines[0].starts_with("a f0=0 ") && lines[0].ends_with(" f19999=0") && lines[1] == "b");
    // More than a line may have are cut, as any line.
    let body = format!("{{{}}}", members.join(","));
    assert_eq!(bed.post("/v1/lines", "one", body).await.status, 200);
    assert!(bed.lines("t-1").await[2].contains("[cut: "));
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_place_and_nothing_is_stored() {
    let bed = bed("{}", |_, _| {}).await;
    let answer = bed.post("/v1/lines", "one", "\"a\"\n{\"message\": nope}\n").await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.reason(),
        "record 2, column 13: a JSON value is expected; nothing of this request is taken"
    );
    assert!(bed.lines("t-1").await.is_empty());
    assert_eq!(bed.get("GET /v1/lines").await.header("allow"), Some("POST"));
    for (line, status) in [("GET /v1/lines", 405), ("DELETE /", 405), ("GET /nothing", 404), ("HEAD /", 200)]
    {
        assert_eq!(bed.get(line).await.status, status, "{line}");
    }
}

#[tokio::test]
async fn who_is_slow_meets_the_deadline() {
    let bed = bed("{}", |_, config| {
        (config.head_timeout, config.request_timeout) =
            (Duration::from_millis(200), Duration::from_millis(300));
    })
    .await;
    // A head that never ends, and a body.
    for (bytes, status) in [
        (&b"POST /v1/lines HTTP/1.1\r\nhost"[..], None),
        (b"POST /v1/lines HTTP/1.1\r\nhost: x\r\nauthorization: Bearer one\r\ncontent-length: 9\r\n\r\n\"a", Some(408)),
    ] {
        let mut stream = TcpStream::connect(bed.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok());
        assert_eq!((!answer.is_empty()).then(|| parsed(&answer).status), status);
    }
    // And a store.
    bed.store.is_stuck.store(true, Ordering::Relaxed);
    let answer = bed.post("/v1/lines", "one", "\"a\"").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
}

#[tokio::test]
async fn a_tenant_that_sends_too_much_waits_and_another_goes_on() {
    let bed = bed("{}", |_, config| (config.rate, config.burst, config.body) = (1, 1_000, 1_000)).await;
    let body = format!("\"{}\"", "x".repeat(700));
    assert_eq!(bed.post("/v1/lines", "one", &body).await.status, 200);
    let answer = bed.post("/v1/lines", "one", &body).await;
    assert_eq!(answer.status, 429);
    let wait: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((300..=404).contains(&wait), "{wait}");
    // Packed, its length says nothing.
    let packed =
        bed.post_with("/v1/lines", "one", &[("content-encoding", "gzip")], gzip(body.as_bytes())).await;
    assert_eq!(packed.status, 429);
    assert_eq!(bed.post("/v1/lines", "two", &body).await.status, 200);
    assert_eq!((bed.lines("t-1").await.len(), bed.lines("t-2").await.len()), (1, 1));
}

#[tokio::test]
async fn requests_and_memory_are_bounded_for_all_together() {
    let bed = bed("{}", |_, config| {
        (config.requests, config.request_timeout) = (1, Duration::from_secs(60));
        (config.body, config.memory) = (1_024, 1_024);
    })
    .await;
    bed.store.is_stuck.store(true, Ordering::Relaxed);
    let head = "POST /v1/lines HTTP/1.1\r\nhost: x\r\nauthorization: Bearer one\r\n";
    let mut first = TcpStream::connect(bed.address).await.unwrap();
    first
        .write_all(format!("{head}expect: 100-continue\r\ncontent-length: 3\r\n\r\n").as_bytes())
        .await
        .unwrap();
    // Once it is asked to go on, it is in work.
    let mut begun = [0; 25];
    first.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun[..], b"HTTP/1.1 100 Continue\r\n\r\n");
    let answer = bed.post("/v1/lines", "two", "\"b\"").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    // Whoever goes away frees the room.
    drop(first);
    bed.store.is_stuck.store(false, Ordering::Relaxed);
    let taken = async { while bed.post("/v1/lines", "two", "\"b\"").await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(20), taken).await.unwrap();
}

#[tokio::test]
async fn a_request_in_work_ends_after_the_intake_is_stopped() {
    let bed = bed("{}", |_, _| {}).await;
    let bytes =
        request("POST /v1/lines", &[("authorization", "Bearer one"), ("expect", "100-continue")], b"\"a\"");
    let mut stream = TcpStream::connect(bed.address).await.unwrap();
    stream.write_all(&bytes[..bytes.len() - 3]).await.unwrap();
    let mut begun = [0; 25];
    stream.read_exact(&mut begun).await.unwrap();
    bed.stop();
    stream.write_all(b"\"a\"").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(parsed(&answer).status, 200);
    assert_eq!(bed.lines("t-1").await, ["a"]);
    let refused = async { while TcpStream::connect(bed.address).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), refused).await.unwrap();
}
