//! The edge as a process of its own: killed, started again, and asked to end.

use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use paas_core::Result;
use rustix::process::{Pid, Signal, kill_process};

use super::kit::*;
use crate::edge::{Edge, EdgeConfig, ListenerSource, Stamp, run};

const DIR: &str = "PAAS_TEST_EDGE_DIR";

/// The listener is this process's standard input.
struct Inherited;

#[async_trait]
impl ListenerSource for Inherited {
    async fn take(&self, _: &str) -> Result<TcpListener> {
        let fd: OwnedFd = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        Ok(TcpListener::from(fd))
    }
}

/// Not a test by itself: what the child processes of this module run.
#[test]
fn child() {
    if let Some(dir) = std::env::var_os(DIR) {
        run(EdgeConfig::new(dir), Arc::new(Inherited)).unwrap();
    }
}

fn start(dir: &std::path::Path, listener: &TcpListener) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "edge::tests::process::child", "--test-threads=1"])
        .env(DIR, dir)
        .stdin(Stdio::from(OwnedFd::from(listener.try_clone().unwrap())))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_costs_a_moment_and_an_ended_one_no_request() {
    let (dir, one) = (tempfile::tempdir().unwrap(), Instance::start("one").await);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut child = start(dir.path(), &listener);
    let edge = Edge::with_deadline(dir.path(), DEADLINE);
    edge.apply(Stamp { epoch: 1, generation: 1 }, &blue(&[&one])).await.unwrap();
    assert_eq!(Client::connect(addr).await.get("/").await.text, "one");

    child.kill().unwrap();
    child.wait().unwrap();
    let began = Instant::now();
    let mut queued = Client::connect(addr).await;
    let mut child = start(dir.path(), &listener);
    assert_eq!(queued.get("/").await.text, "one", "who connected meanwhile was not refused");
    assert!(began.elapsed() < Duration::from_secs(1), "the gap was {:?}", began.elapsed());

    // Ten times: a new edge takes over while clients, who do as `Connection: close` says, go on.
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut clients = Vec::new();
    for i in 0..16 {
        let (stop, served) = (stop.clone(), served.clone());
        clients.push(tokio::spawn(async move {
            let mut client = Client::connect(addr).await;
            while !stop.load(Ordering::Relaxed) {
                let ask = if i % 2 == 0 { request("GET", "/") } else { post("/", "body") };
                let answer = client.ask(ask).await;
                assert_eq!(answer.text, "one");
                served.fetch_add(1, Ordering::Relaxed);
                if answer.header("connection") == Some("close") {
                    client = Client::connect(addr).await;
                }
            }
        }));
    }
    for _ in 0..10 {
        let before = served.load(Ordering::Relaxed);
        let more = || async { (served.load(Ordering::Relaxed) > before + 100).then_some(()) };
        eventually("some are served", more).await;
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap();
        assert!(ended.success(), "{ended}");
        child = start(dir.path(), &listener);
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}
