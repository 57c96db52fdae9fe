//! A company's own backend: a scheduler that runs services as functions of the company's program, handed to the builder
//! where `LocalScheduler` would be. Router, state and all the rest stay those of this machine.
//!
//! `cargo run --example own_backend` shows it at work, `cargo test --example own_backend` runs its conformance suite.
#![expect(clippy::print_stdout, reason = "an example talks")]

#[path = "own_backend/conformance.rs"]
mod conformance;
#[path = "own_backend/instance.rs"]
mod instance;
#[path = "own_backend/scheduler.rs"]
mod scheduler;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use instance::{Instance, function};
use paas::local::{LocalConfig, LocalMachine};
use paas::model::{AppSpec, Principal, ServiceSpec, TenantName};
use paas::{Error, Platform, Result};
use scheduler::FunctionScheduler;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

fn main() -> ExitCode {
    if cfg!(test) {
        return conformance::run();
    }
    paas::local::main(|| async {
        let dir = std::env::temp_dir().join(format!("paas-own-backend-{}", std::process::id()));
        let machine =
            LocalMachine::open(LocalConfig::new(&dir).with_public(([127, 0, 0, 1], 0).into())).await?;
        let scheduler = FunctionScheduler::new([("greet", function(greet))]);
        let platform = machine.builder().scheduler(Arc::new(scheduler.clone())).build().await?;
        let shown = show(&platform, &scheduler, machine.public_address()).await;
        platform.shutdown().await;
        machine.shutdown(true).await?;
        drop(machine);
        let _ = std::fs::remove_dir_all(dir);
        shown
    })
}

/// A service of the company: greets whoever asks.
async fn greet(mut instance: Instance) -> i32 {
    let Ok(listener) = instance.listen() else { return 1 };
    let greeting = format!("{} from {}\n", instance.arguments.join(" "), instance.place.id);
    instance.say("listening");
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => drop(open.spawn(answer(stream, greeting.clone()))),
            Some(_) = open.join_next() => {}
            () = instance.stopped() => break,
        }
    }
    while open.join_next().await.is_some() {}
    0
}

async fn answer(stream: TcpStream, greeting: String) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 2 {
        line.clear();
    }
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", greeting.len());
    stream.write_all((head + &greeting).as_bytes()).await?;
    stream.shutdown().await
}

/// Deploys, releases again, kills an instance; and asks the service through the edge proxy after each.
async fn show(platform: &Platform, scheduler: &FunctionScheduler, edge: SocketAddr) -> Result<()> {
    let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
    let ann = Principal::user("ann", tenant.id);
    for greeting in ["hello", "good day"] {
        let mut service = ServiceSpec::run(["greet", greeting])?;
        service.port = Some(80);
        service.replicas = 2;
        service.domain.push("greet.localhost".parse()?);
        let app = AppSpec::new("greetings")?.with_service("greet", &service)?;
        platform.deploy(&ann, &app).await?.finished().await?;
        println!("released `greet {greeting}` as two functions of this process: {}", ask(edge).await?);
    }
    let id = ask(edge).await?.rsplit(' ').next().unwrap_or_default().parse()?;
    scheduler.kill(&id)?;
    for _ in 0..100 {
        ask(edge).await?;
    }
    println!("killed {id}; the next 100 requests were answered all the same");
    Ok(())
}

/// Asks for the service as any client does.
async fn ask(edge: SocketAddr) -> Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(edge).await?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: greet.localhost\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange.await.map_err(|cause| Error::unavailable("no answer").with_source(cause))?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.trim_end().to_owned()),
        _ => Err(Error::unavailable("not the answer of the service").with("answer", answer)),
    }
}
