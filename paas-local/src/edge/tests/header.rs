//! What is passed on, what is not, and what is refused.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Response};
use tokio::io::AsyncWriteExt;

use super::kit::*;
use crate::edge::{EndpointRule, HostRule, Route, SlotName, SlotRule};

const BYE: &str = "Connection: close\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hop_by_hop_headers_end_here_in_both_directions() {
    let rig = Rig::new().await;
    let one = Instance::serving("one", |_| async {
        Response::builder()
            .header("connection", "x-secret")
            .header("x-secret", "1")
            .header("keep-alive", "timeout=9")
            .header("proxy-authenticate", "Basic")
            .header("x-kept", "yes")
            .body(Full::new(Bytes::from_static(b"ok")))
            .unwrap()
    })
    .await;
    rig.apply(&blue(&[&one])).await;
    let mut ask = request("GET", "/");
    for (name, value) in [
        ("connection", "close, X-Hop, Host, X-Forwarded-For"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic eA=="),
        ("te", "trailers, gzip"),
        ("upgrade", "websocket"),
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("forwarded", "for=6.6.6.6"),
        ("x-end", "to-end"),
    ] {
        ask.headers_mut().append(name, value.parse().unwrap());
    }
    let answer = rig.client().await.ask(ask).await;
    assert_eq!(answer.header("x-kept"), Some("yes"));
    for gone in ["x-secret", "keep-alive", "proxy-authenticate"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    let asked = one.last().head.headers;
    let gone = [
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "upgrade",
        "connection",
        "forwarded",
    ];
    for gone in gone {
        assert!(!asked.contains_key(gone), "{gone} was passed on");
    }
    assert_eq!(asked["te"], "trailers");
    assert_eq!(asked["x-end"], "to-end");
    assert_eq!(asked["host"], "app.test");
    assert_eq!(asked["x-forwarded-for"], "127.0.0.1");
    assert_eq!(asked["x-forwarded-proto"], "http");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_could_be_read_in_two_ways_are_refused() {
    let (rig, one) = (Rig::new().await, Instance::start("one").await);
    rig.apply(&blue(&[&one])).await;
    let cases = [
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"),
        ("Content-Length: +5\r\n", "hello"),
        ("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
        ("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
        ("Host: other.test\r\n", ""),
        ("X: a\r\n b\r\n", ""),
        ("X: a\0b\r\n", ""),
    ];
    for (headers, body) in cases {
        let answer = rig.raw(&format!("POST / HTTP/1.1\r\nHost: app.test\r\n{headers}{BYE}{body}")).await;
        let status: u16 =
            answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{answer}"));
        assert!((400..=501).contains(&status), "{headers:?} was answered {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{headers:?} was read as two requests: {answer}");
    }
    assert_eq!(one.asked(), 0);
    // Hyper drops a length beside a chunked coding, so there is one reading only, here and at the instance.
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    let smuggled = "0\r\n\r\nGET /x HTTP/1.1\r\nHost: app.test\r\n\r\n";
    let answer = rig.raw(&format!("POST / HTTP/1.1\r\nHost: app.test\r\n{both}{BYE}{smuggled}")).await;
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    assert_eq!(one.asked(), 1);
    let asked = one.last();
    assert!(asked.body.is_empty() && !asked.head.headers.contains_key("content-length"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_and_oversized_requests_are_refused() {
    let (rig, one) = (Rig::new().await, Instance::start("one").await);
    rig.apply(&blue(&[&one])).await;
    let many: String = (0..101).map(|i| format!("X-{i}: 1\r\n")).collect();
    let large = format!("X-Large: {}\r\n", "x".repeat(70_000));
    let long = format!("GET /{} HTTP/1.1\r\nHost: app.test\r\n{BYE}", "x".repeat(70_000));
    let head = "GET / HTTP/1.1\r\nHost: app.test\r\n";
    let cases = [
        ("\x16\x03\x01 tls?\r\n\r\n".to_owned(), 400),
        (format!("GET / HTTP/1.1\r\n{BYE}"), 400),
        (format!("CONNECT app.test:443 HTTP/1.1\r\nHost: app.test\r\n{BYE}"), 405),
        (format!("GET / HTTP/3.0\r\nHost: app.test\r\n{BYE}"), 400),
        (format!("{head}{many}{BYE}"), 431),
        (format!("{head}{large}{BYE}"), 431),
        (long, 431),
    ];
    for (bytes, status) in cases {
        let answer = rig.raw(&bytes).await;
        let shown = &bytes[..bytes.len().min(60)];
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{shown:?}: {answer}");
    }
    assert_eq!(one.asked(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_clients_absolute_targets_and_head_are_served() {
    let (rig, one) = (Rig::new().await, Instance::start("one").await);
    rig.apply(&blue(&[&one])).await;
    let old = rig.raw("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200") && old.ends_with("one"), "{old}");
    assert!(!old.contains("transfer-encoding"), "{old}");
    let absolute = rig.raw(&format!("GET http://APP.test:99/x?y HTTP/1.1\r\nHost: evil.test\r\n{BYE}")).await;
    assert!(absolute.starts_with("HTTP/1.1 200"), "{absolute}");
    assert_eq!(one.last().head.uri, "/x?y");
    assert_eq!(one.last().head.headers["host"], "APP.test:99");
    let head = rig.raw(&format!("HEAD / HTTP/1.1\r\nHost: app.test\r\n{BYE}")).await;
    assert!(head.contains("content-length: 3\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    assert_eq!(one.last().head.method, Method::HEAD);
    let pipelined = rig
        .raw(&format!("GET /1 HTTP/1.1\r\nHost: app.test\r\n\r\nGET /2 HTTP/1.1\r\nHost: app.test\r\n{BYE}"))
        .await;
    assert_eq!(pipelined.matches("HTTP/1.1 200").count(), 2, "{pipelined}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chunked_body_stays_a_body_and_trailers_pass() {
    let rig = Rig::new().await;
    let one = Instance::scripted("one", |_, mut stream| async move {
        let Some(head) = read_head(&mut stream).await else { return };
        assert!(head.contains("transfer-encoding: chunked"), "{head}");
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                      5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let _ = read_head(&mut stream).await;
    })
    .await;
    rig.apply(&blue(&[&one])).await;
    let chunked = "Transfer-Encoding: chunked\r\nTE: trailers\r\n";
    let answer =
        rig.raw(&format!("POST / HTTP/1.1\r\nHost: app.test\r\n{chunked}{BYE}3\r\nabc\r\n0\r\n\r\n")).await;
    assert!(answer.contains("5\r\nhello\r\n0\r\nx-sum: 42\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_expects_100_gets_it_before_it_sends() {
    let (rig, one) = (Rig::new().await, Instance::start("one").await);
    rig.apply(&blue(&[&one])).await;
    let mut stream = tokio::net::TcpStream::connect(rig.public).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let interim = read_head(&mut stream).await.unwrap();
    assert!(interim.starts_with("HTTP/1.1 100"), "{interim}");
    stream.write_all(b"body").await.unwrap();
    let answer = read_head(&mut stream).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(one.last().body, "body");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_and_paths_find_their_service_and_others_get_404() {
    let rig = Rig::new().await;
    let names = ["root", "api", "deep", "wild", "inner"];
    let mut instances = Vec::new();
    let internal = rig.holder.bind("inner-1");
    for name in names {
        let instance = Instance::start(name).await;
        let mut route = Route::new(name);
        let host = |domain: &str, path: &str| HostRule { path: path.into(), ..HostRule::new(domain) };
        match name {
            "root" => route.hosts.push(host("app.test", "/")),
            "api" => route.hosts.push(host("App.Test", "/api")),
            "deep" => route.hosts.push(host("app.test", "/api/deep/")),
            "wild" => route.hosts.push(host("*.app.test", "/")),
            _ => route.listen.push("inner-1".into()),
        }
        let endpoints = vec![EndpointRule { id: "i".into(), addr: instance.addr }];
        route.slots.push(SlotRule { slot: SlotName::Blue, revision: 1, weight: 1, endpoints });
        rig.apply(&route).await;
        instances.push(instance);
    }
    let cases = [
        ("app.test", "/", "root"),
        ("APP.TEST:8080", "/apis", "root"),
        ("app.test.", "/api", "api"),
        ("app.test", "/api?x=/api/deep", "api"),
        ("app.test", "/api/deeper", "api"),
        ("app.test", "/api/deep", "deep"),
        ("app.test", "/api/deep/er", "deep"),
        ("a.app.test", "/api", "wild"),
        ("a.b.app.test", "/", "wild"),
    ];
    let mut client = rig.client().await;
    for (host, path, service) in cases {
        let mut ask = request("GET", path);
        ask.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(client.ask(ask).await.text, service, "{host}{path}");
    }
    let mut ask = request("GET", "/");
    ask.headers_mut().insert("host", "nobody<.test".parse().unwrap());
    let answer = client.ask(ask).await;
    assert_eq!(answer.status(), 404);
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(answer.text, "no service is routed here for nobody?.test\n");
    let mut inner = Client::connect(internal).await;
    assert_eq!(inner.get("/any/path").await.text, "inner");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_can_decline_a_body_before_it_is_sent() {
    let rig = Rig::new().await;
    let one = Instance::scripted("one", |_, mut stream| async move {
        let Some(head) = read_head(&mut stream).await else { return };
        assert!(head.contains("expect: 100-continue"), "{head}");
        let answer = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno";
        stream.write_all(answer.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
        assert!(rest.is_empty(), "the body was sent all the same");
    })
    .await;
    rig.apply(&blue(&[&one])).await;
    let head = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n";
    let answer = rig.raw(&format!("{head}{BYE}")).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.ends_with("no"), "{answer}");
    assert!(rig.edge.drained("app", DEADLINE).await.unwrap());
}
