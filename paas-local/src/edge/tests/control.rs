//! The control socket, the routes file and the edge's life.

use std::sync::Arc;
use std::time::Duration;

use paas_core::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::kit::*;
use crate::edge::*;

fn at(epoch: u64, generation: u64) -> Stamp {
    Stamp { epoch, generation }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_edge_starts_from_its_file_alone() {
    let (mut rig, one) = (Rig::new().await, Instance::start("one").await);
    rig.apply(&blue(&[&one])).await;
    let first = rig.edge.hello().await.unwrap();
    rig.running = None;
    // The holder still listens: this client waits in the queue instead of being refused.
    let mut waiting = rig.client().await;
    let answer = tokio::spawn(async move { waiting.get("/").await.text });
    rig.restart().await;
    assert_eq!(answer.await.unwrap(), "one");
    let second = rig.edge.hello().await.unwrap();
    assert_ne!(first.start, second.start, "counters began anew, and that can be told");
    assert_eq!(second.epoch, 1);
    let usage = rig.edge.observe("app").await.unwrap();
    assert_eq!(usage.stamp, Some(at(1, 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn older_writers_are_refused_and_repeats_are_not() {
    let (mut rig, one, two) = (Rig::new().await, Instance::start("one").await, Instance::start("two").await);
    let (first, second) = (blue(&[&one]), blue(&[&two]));
    rig.edge.apply(at(5, 2), &first).await.unwrap();
    rig.edge.apply(at(5, 2), &first).await.unwrap();
    for (stamp, route) in [(at(4, 9), &second), (at(5, 1), &second), (at(5, 2), &second), (at(4, 2), &first)]
    {
        let error = rig.edge.apply(stamp, route).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict, "{stamp:?}");
        assert_eq!(error.context("service"), Some("app"));
        assert_eq!(error.context("known_epoch"), Some("5"));
    }
    rig.restart().await;
    assert_eq!(rig.edge.apply(at(4, 9), &second).await.unwrap_err().kind(), ErrorKind::Conflict);
    rig.edge.apply(at(6, 1), &second).await.unwrap();
    assert_eq!(rig.client().await.get("/").await.text, "two");

    assert_eq!(rig.edge.remove(at(5, 9), "app").await.unwrap_err().kind(), ErrorKind::Conflict);
    rig.edge.remove(at(6, 2), "app").await.unwrap();
    rig.edge.remove(at(6, 2), "app").await.unwrap();
    rig.edge.remove(at(6, 1), "never").await.unwrap();
    assert_eq!(rig.client().await.get("/").await.status(), 404);
    rig.restart().await;
    let late = rig.edge.apply(at(6, 1), &first).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict, "a late write does not bring a removed service back");
    assert_eq!(rig.edge.observe("app").await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_routes_are_refused_by_field_and_nothing_changes() {
    let (rig, one) = (Rig::new().await, Instance::start("one").await);
    let good = blue(&[&one]);
    rig.apply(&good).await;
    type Spoil = fn(&mut Route);
    let cases: [(&str, Spoil); 12] = [
        ("service", |r| r.service.clear()),
        ("hosts[0].domain", |r| r.hosts[0].domain = "a b".into()),
        ("hosts[0].domain", |r| r.hosts[0].domain = "*".repeat(3)),
        ("hosts[0].path", |r| r.hosts[0].path = "api".into()),
        ("slots[0].weight", |r| r.slots[0].weight = 10_001),
        ("slots[0].endpoints[0].addr", |r| r.slots[0].endpoints[0].addr.set_port(0)),
        ("slots[0].endpoints[1].id", |r| {
            let again = r.slots[0].endpoints[0].clone();
            r.slots[0].endpoints.push(again);
        }),
        ("slots[1].slot", |r| r.slots.push(r.slots[0].clone())),
        ("header.name", |r| {
            r.header = Some(HeaderRule { name: "a b".into(), value: String::new(), slot: SlotName::Blue });
        }),
        ("header.slot", |r| {
            r.header = Some(HeaderRule { name: "x".into(), value: String::new(), slot: SlotName::Green });
        }),
        ("sticky", |r| r.sticky = Some("a=b".into())),
        ("hosts", |r| r.protocol = Protocol::Tcp),
    ];
    for (field, spoil) in cases {
        let mut wrong = good.clone();
        spoil(&mut wrong);
        let error = rig.edge.apply(rig.stamp(), &wrong).await.unwrap_err();
        assert_eq!((error.kind(), error.context("field")), (ErrorKind::Invalid, Some(field)), "{error}");
    }
    let mut second = good.clone();
    second.service = "thief".into();
    let error = rig.edge.apply(rig.stamp(), &second).await.unwrap_err();
    assert_eq!((error.kind(), error.context("services")), (ErrorKind::Conflict, Some("app, thief")));
    second.hosts.clear();
    second.listen.push("nobody-holds-this".into());
    let error = rig.edge.apply(rig.stamp(), &second).await.unwrap_err();
    assert_eq!((error.kind(), error.context("listener")), (ErrorKind::NotFound, Some("nobody-holds-this")));
    second.listen[0] = PUBLIC.into();
    assert_eq!(rig.edge.apply(rig.stamp(), &second).await.unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(rig.edge.observe_all().await.unwrap().len(), 1);
    assert_eq!(rig.client().await.get("/").await.text, "one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_cannot_be_stored_is_not_in_force() {
    let (rig, one, two) = (Rig::new().await, Instance::start("one").await, Instance::start("two").await);
    rig.apply(&blue(&[&one])).await;
    // Whoever runs as root can write anywhere, but nobody can create a file over a directory.
    let draft = rig.dir.path().join("edge/routes.json.new");
    std::fs::create_dir(&draft).unwrap();
    let error = rig.edge.apply(rig.stamp(), &blue(&[&two])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.context("cause").is_some());
    assert_eq!(rig.client().await.get("/").await.text, "one");
    std::fs::remove_dir(&draft).unwrap();
    // The same, at the last moment: the traffic had moved and comes back.
    let routes = rig.dir.path().join("edge/routes.json");
    std::fs::remove_file(&routes).unwrap();
    std::fs::create_dir(&routes).unwrap();
    rig.edge.apply(rig.stamp(), &blue(&[&two])).await.unwrap_err();
    assert_eq!(rig.client().await.get("/").await.text, "one");
    std::fs::remove_dir(&routes).unwrap();
    rig.apply(&blue(&[&two])).await;
    assert_eq!(rig.client().await.get("/").await.text, "two");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_edge_per_directory_and_no_newer_file() {
    let rig = Rig::new().await;
    let config = EdgeConfig::new(rig.dir.path());
    let error = Running::start(config, rig.holder.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    let other = tempfile::tempdir().unwrap();
    std::fs::create_dir(other.path().join("edge")).unwrap();
    std::fs::write(other.path().join("edge/routes.json"), r#"{"version":2,"new":[]}"#).unwrap();
    let error = Running::start(EdgeConfig::new(other.path()), rig.holder.clone()).await.unwrap_err();
    assert_eq!((error.kind(), error.context("version")), (ErrorKind::Unsupported, Some("2")));
    assert!(error.context("path").unwrap().ends_with("edge/routes.json"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_directory_is_no_trouble_and_the_socket_is_its_owners() {
    use std::os::unix::fs::PermissionsExt;
    let base = tempfile::tempdir().unwrap();
    let dir = base.path().join("long".repeat(40)).join("longer".repeat(30));
    let holder = Arc::new(Holder::default());
    holder.bind(PUBLIC);
    let _running = Running::start(EdgeConfig::new(&dir), holder).await.unwrap();
    let edge = Edge::new(&dir);
    assert_eq!(edge.hello().await.unwrap().pid, std::process::id());
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(dir.join("edge/edge.sock")), 0o600);
    assert_eq!(mode(dir.join("edge")), 0o700);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_on_the_control_socket_hurts_nobody() {
    let rig = Rig::new().await;
    let path = rig.dir.path().join("edge/edge.sock");
    for bytes in [&b"\xff\xff\xff\xffx"[..], b"\0\0\0\x02{}", b"\0\0\0\x05\"abc\"", b"GET / HTTP/1.1\r\n\r\n"]
    {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let length = stream.read_u32().await.unwrap();
        let mut answer = vec![0; length as usize];
        stream.read_exact(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).contains(r#""kind":"invalid""#), "{bytes:?}");
    }
    rig.edge.hello().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_have_a_deadline_and_find_a_restarted_edge() {
    let mut rig = Rig::new().await;
    rig.edge.hello().await.unwrap();
    rig.restart().await;
    rig.edge.hello().await.unwrap();
    rig.running = None;
    let error = Edge::with_deadline(rig.dir.path(), Duration::from_millis(50)).hello().await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopping_edge_finishes_what_is_open_and_says_goodbye() {
    let mut rig = Rig::with(|config| config.linger = Duration::from_secs(10)).await;
    let one = Instance::start("one").await;
    rig.apply(&blue(&[&one])).await;
    let mut client = rig.client().await;
    assert_eq!(client.get("/").await.header("connection"), None);
    let running = rig.running.take().unwrap();
    let stopping = tokio::spawn(running.stop());
    let mut last = client.get("/").await;
    while last.header("connection").is_none() {
        last = client.get("/").await;
    }
    assert_eq!((last.text.as_str(), last.header("connection")), ("one", Some("close")));
    tokio::time::timeout(Duration::from_secs(5), stopping)
        .await
        .expect("it ends with its last client")
        .unwrap();
}
