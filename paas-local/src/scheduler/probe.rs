//! Asks one run of an instance whether it is ready and alive, until it ends.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http_body_util::Empty;
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use paas_core::model::{Check, InstanceId, InstanceState, Probe, Restart};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::instance::Note;
use super::port::address;
use super::{Inner, reap};

/// Before an instance is first ready it is asked more often: after this time, doubling up to the probe's own pause.
const EAGER: Duration = Duration::from_millis(5);
/// The longest pause of an eager check.
const LEAST_EAGER: Duration = Duration::from_millis(100);
/// Without a port and a probe, an instance that has run for so long counts as ready.
const STEADY: Duration = Duration::from_millis(500);

/// What a check found.
type Answer = Result<(), String>;

/// Watches one run.
pub(super) async fn watch(inner: Weak<Inner>, id: InstanceId, note: Note) {
    if note.restart == Restart::Never {
        return;
    }
    let Some(probe) = readiness(&note) else {
        tokio::time::sleep(STEADY).await;
        return settle(&inner, &id, &Ok(()), true);
    };
    let started = Instant::now();
    let mut pause = EAGER;
    loop {
        let answer = ask(&inner, &id, &note, &probe).await;
        settle(&inner, &id, &answer, false);
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(pause).await;
        // A slow starter is asked at the probe's own pace in the end.
        let slow = started.elapsed() > Duration::from_secs(10);
        pause = (pause * 2).min(if slow { probe.every } else { LEAST_EAGER.min(probe.every) });
    }
    let alive = note.live.clone().map(|live| live_on(inner.clone(), id.clone(), note.clone(), live));
    tokio::join!(keep_ready(&inner, &id, &note, &probe), async {
        if let Some(alive) = alive {
            alive.await;
        }
    });
}

/// The probe that says whether it is ready: its own, or a connection to its port.
fn readiness(note: &Note) -> Option<Probe> {
    note.ready.clone().or_else(|| note.port.and_then(|_| Probe::new(Check::Tcp).ok()))
}

async fn keep_ready(inner: &Weak<Inner>, id: &InstanceId, note: &Note, probe: &Probe) {
    let mut failures = 0;
    loop {
        tokio::time::sleep(probe.every).await;
        let answer = ask(inner, id, note, probe).await;
        failures = if answer.is_ok() { 0 } else { failures + 1 };
        if failures == 0 || failures >= probe.failures {
            settle(inner, id, &answer, false);
        }
        if inner.strong_count() == 0 {
            return;
        }
    }
}

async fn live_on(inner: Weak<Inner>, id: InstanceId, note: Note, live: Probe) {
    let mut failures = 0;
    loop {
        tokio::time::sleep(live.every).await;
        let answer = ask(&inner, &id, &note, &live).await;
        failures = if answer.is_ok() { 0 } else { failures + 1 };
        if let (Err(why), true) = (&answer, failures >= live.failures) {
            let Some(inner) = inner.upgrade() else { return };
            return renew(&inner, &id, &format!("not alive: {why}"));
        }
    }
}

/// Starts an instance anew in its place.
fn renew(inner: &Arc<Inner>, id: &InstanceId, why: &str) {
    tracing::info!(instance = %id, why, "starts an instance anew");
    let (spec, key) = {
        let mut pool = inner.pool();
        let launch = pool.launch(id).cloned();
        let Some(instance) = pool.instance(id).filter(|instance| !instance.leaving) else { return };
        let Some(launch) = launch else { return };
        let Ok(spec) = launch.spec(inner, &instance.note, id, instance.generation + 1) else { return };
        instance.generation += 1;
        instance.restarts += 1;
        instance.state = InstanceState::Starting;
        instance.message = Some(why.to_owned());
        (spec, instance.note.key.clone())
    };
    inner.tell(&key);
    tokio::spawn(reap::start(Arc::clone(inner), id.clone(), spec));
}

/// Takes in what a readiness check found.
fn settle(inner: &Weak<Inner>, id: &InstanceId, answer: &Answer, steady: bool) {
    let Some(inner) = inner.upgrade() else { return };
    let key = {
        let mut pool = inner.pool();
        let Some(instance) = pool.instance(id).filter(|instance| !instance.leaving) else { return };
        let next = match (answer, instance.state) {
            (Ok(()), _) => InstanceState::Ready,
            (Err(_), InstanceState::Ready | InstanceState::Unready) => InstanceState::Unready,
            (Err(_), other) => other,
        };
        let message = answer.as_ref().err().map(|why| format!("not ready: {why}"));
        if steady && instance.state != InstanceState::Starting {
            return;
        }
        if next == instance.state && message == instance.message {
            return;
        }
        instance.message = message;
        let changed = next != instance.state;
        instance.state = next;
        if !changed {
            return;
        }
        instance.note.key.clone()
    };
    inner.tell(&key);
}

async fn ask(inner: &Weak<Inner>, id: &InstanceId, note: &Note, probe: &Probe) -> Answer {
    let check = async {
        match (&probe.check, note.port) {
            (Check::Http(path), Some(port)) => http(address(port), path).await,
            (Check::Tcp, Some(port)) => tcp(address(port)).await.map(drop),
            (Check::Command(command), _) => {
                let Some(inner) = inner.upgrade() else { return Err("the platform is leaving".to_owned()) };
                // What was found after a restart and not applied again yet was ready before.
                let Some(launch) = inner.pool().launch(id).cloned() else { return Ok(()) };
                let beside = launch.beside(&inner, note, id, command).map_err(|error| error.to_string())?;
                drop(inner);
                run(beside).await
            }
            _ => Err("it has no port to ask".to_owned()),
        }
    };
    let late = |_| Err(format!("{probe}: no answer within {}", humantime::format_duration(probe.timeout)));
    timeout(probe.timeout, check).await.unwrap_or_else(late).map_err(|why| format!("{probe}: {why}"))
}

async fn tcp(at: SocketAddr) -> Result<TcpStream, String> {
    TcpStream::connect(at).await.map_err(|error| error.to_string())
}

async fn http(at: SocketAddr, path: &str) -> Answer {
    let stream = tcp(at).await?;
    let broken = |error: hyper::Error| error.to_string();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let request = Request::get(path).header("host", "localhost").header("connection", "close");
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            Ok(())
        } else {
            Err(format!("answered {status}"))
        }
    };
    // The connection only moves while it is polled. It may end in the same moment as the answer comes, which counts; if
    // it ends without one, the request says so itself.
    let drive = async {
        let _ended = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = drive => match never {},
    }
}

async fn run(mut command: tokio::process::Command) -> Answer {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let status = command.status().await.map_err(|error| error.to_string())?;
    if status.success() { Ok(()) } else { Err(format!("ended with {status}")) }
}
