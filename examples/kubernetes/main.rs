//! A platform on a Kubernetes cluster, composed in a few lines.
//!
//! `cargo run --example kubernetes --features kubernetes -- IMAGE PORT [DOMAIN]` deploys that image as an app of one service
//! with two instances, on the cluster that your kubeconfig names (`KUBECONFIG`, or `~/.kube/config`; kind, k3s, a cloud).
//! Run again with another image, it releases it; `-- --remove` removes the app. What it made is in namespaces that carry the
//! label `paas-sdk.dev/platform=example`, and in the namespace `example`.
//!
//! `-- --export IMAGE PORT [DOMAIN]` prints what would be applied instead, as YAML, and needs no cluster. Its names are not
//! those of an app that is deployed already.
//!
//! `-- --rbac` prints what the platform must be allowed to do there, for `kubectl apply -f -`.
//!
//! `-- --run` is the platform alone, until it is asked to end: what a pod of `platform.yaml` does, next to this file. Where one
//! runs, the other commands say what they want, and it acts.
//!
//! `PAAS_PLATFORM=NAME` is another platform on the same cluster, in a namespace of that name.
//!
//! A domain needs a Gateway that lets routes of all namespaces attach: `PAAS_GATEWAY=NAMESPACE/NAME`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A command talks.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use paas::kubernetes::{BackendsConfig, Connection, ConnectionConfig, KubeBackends, KubeExport, Rbac};
use paas::memory::{MemoryAuditLog, MemoryAuthorizer};
use paas::model::{AppName, AppSpec, OperationEvent, Principal, ServiceSpec, TenantName};
use paas::platform::{OperationHandle, Platform};
use paas::{Error, PlatformBuilder, Result};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

const USAGE: &str = "usage: cargo run --example kubernetes --features kubernetes -- \
    [--export] IMAGE PORT [DOMAIN] | --remove | --rbac | --run";

/// The name of the platform, unless the environment gives another.
const NAME: &str = "example";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    // Where it runs on and on, its log is what an operator has; else it tells what goes wrong.
    let most = if arguments == ["--run"] { LevelFilter::INFO } else { LevelFilter::ERROR };
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_max_level(most).init();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn name() -> String {
    std::env::var("PAAS_PLATFORM").unwrap_or_else(|_| NAME.to_owned())
}

fn connection() -> ConnectionConfig {
    ConnectionConfig::default().platform(name())
}

fn config() -> Result<BackendsConfig> {
    let mut config = BackendsConfig::default();
    if let Ok(gateway) = std::env::var("PAAS_GATEWAY") {
        let wrong = || Error::invalid("PAAS_GATEWAY is NAMESPACE/NAME").with("found", &gateway);
        let (namespace, name) = gateway.split_once('/').ok_or_else(wrong)?;
        config.router = config.router.gateway(namespace, name);
    }
    Ok(config)
}

/// Shows what happens while it happens, whichever replica leads.
async fn show(operation: &OperationHandle) -> Result<()> {
    let mut shown = 0;
    let mut tell = |events: &[OperationEvent]| {
        events.iter().skip(shown).for_each(|event| println!("{}", event.text));
        shown = events.len().max(shown);
    };
    let mut finished = pin!(operation.finished());
    loop {
        tokio::select! {
            ended = &mut finished => return ended.map(|ended| tell(&ended.events)),
            () = tokio::time::sleep(Duration::from_millis(500)) => {
                tell(&operation.state().await.map(|now| now.events).unwrap_or_default());
            }
        }
    }
}

/// The cluster's backends, and what a company brings itself: here an audit log that forgets and an authoriser that allows
/// everything.
async fn compose(builder: PlatformBuilder) -> Result<Platform> {
    let builder = builder.audit(Arc::new(MemoryAuditLog::new()));
    builder.authorizer(Arc::new(MemoryAuthorizer::allow_all())).build().await
}

async fn run(arguments: &[String]) -> Result<()> {
    if arguments == ["--rbac"] {
        print!("{}", Rbac::new(&connection(), &config()?)?.to_yaml()?);
        return Ok(());
    }
    if let [flag, arguments @ ..] = arguments
        && flag == "--export"
    {
        let export = KubeExport::new(&name(), config()?)?;
        let (platform, user) = begin(export.builder()).await?;
        platform.deploy(&user, &app(arguments)?).await?.finished().await?;
        print!("{}", export.yaml());
        platform.shutdown().await;
        return Ok(());
    }
    if arguments == ["--run"] {
        return serve().await;
    }
    let connection = Connection::connect(connection()).await?;
    let (platform, user) = begin(KubeBackends::open(&connection, config()?).await?.builder()).await?;
    let operation = match arguments {
        [flag] if flag == "--remove" => {
            platform.production(&user).await?.app(&AppName::new("hello")?).await?.remove().await?
        }
        arguments => platform.deploy(&user, &app(arguments)?).await?,
    };
    show(&operation).await?;
    platform.shutdown().await; // the app runs on
    Ok(())
}

/// Leads where nobody else does, until it is asked to end.
async fn serve() -> Result<()> {
    let mut end = pin!(asked_to_end()?);
    let platform = tokio::select! {
        platform = start() => platform?,
        () = &mut end => return Ok(()),
    };
    println!("runs as {}", KubeBackends::engine().replica);
    end.await;
    platform.shutdown().await; // another need not wait until the term is over
    Ok(())
}

async fn start() -> Result<Platform> {
    let connection = Connection::connect(connection()).await?;
    compose(KubeBackends::open(&connection, config()?).await?.builder()).await
}

/// As the first process of a container, a program has to listen to this itself.
fn asked_to_end() -> Result<impl Future<Output = ()>> {
    let unheard = |cause| Error::unavailable("cannot listen to signals").with_source(cause);
    let mut term = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut int = signal(SignalKind::interrupt()).map_err(unheard)?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
    })
}

/// A platform, and somebody of its only tenant.
async fn begin(builder: PlatformBuilder) -> Result<(Platform, Principal)> {
    let platform = compose(builder).await?;
    let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
    Ok((platform, Principal::user("ann", tenant.id)))
}

fn app(arguments: &[String]) -> Result<AppSpec> {
    let [image, port, domain @ ..] = arguments else { return Err(Error::invalid(USAGE)) };
    if domain.len() > 1 {
        return Err(Error::invalid(USAGE));
    }
    let mut web = ServiceSpec::image(image);
    let wrong = |cause| Error::invalid("the port is a number").with("port", port).with_source(cause);
    web.port = Some(port.parse::<u16>().map_err(wrong)?);
    web.replicas = 2;
    for domain in domain {
        web.domain.push(domain.parse()?);
    }
    AppSpec::new("hello")?.with_service("web", &web)
}
