//! A platform on a Kubernetes cluster, composed in a few lines.
//!
//! `cargo run --example kubernetes --features kubernetes -- IMAGE PORT [DOMAIN]` deploys that image as an app of one service
//! with two instances, on the cluster that your kubeconfig names (`KUBECONFIG`, or `~/.kube/config`; kind, k3s, a cloud).
//! Run again with another image, it releases it; `-- --remove` removes the app. What it made is in namespaces that carry the
//! label `paas-sdk.dev/platform=example`, and in the namespace `example`.
//!
//! `-- --rbac` prints what the platform must be allowed to do there, for `kubectl apply -f -`.
//!
//! A domain needs a Gateway that lets routes of all namespaces attach: `PAAS_GATEWAY=NAMESPACE/NAME`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // A command talks.

use std::process::ExitCode;
use std::sync::Arc;

use paas::kubernetes::{BackendsConfig, Connection, ConnectionConfig, KubeBackends, Rbac};
use paas::memory::{MemoryAuditLog, MemoryAuthorizer};
use paas::model::{AppName, AppSpec, Principal, ServiceSpec, TenantName};
use paas::platform::Platform;
use paas::{Error, Result};

const USAGE: &str =
    "usage: cargo run --example kubernetes --features kubernetes -- IMAGE PORT [DOMAIN] | --remove | --rbac";

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        println!("{USAGE}");
        return ExitCode::SUCCESS;
    }
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::FAILURE
        }
    }
}

fn connection() -> ConnectionConfig {
    ConnectionConfig::default().platform("example")
}

fn backends() -> BackendsConfig {
    let mut config = BackendsConfig::default();
    if let Some((namespace, name)) =
        std::env::var("PAAS_GATEWAY").ok().as_deref().and_then(|it| it.split_once('/'))
    {
        config.router = config.router.gateway(namespace, name);
    }
    config
}

/// The cluster's backends, and what a company brings itself: here an audit log that forgets and an authoriser that allows
/// everything.
async fn compose() -> Result<Platform> {
    let connection = Connection::connect(connection()).await?;
    let backends = KubeBackends::open(&connection, backends()).await?;
    let builder = backends.builder().audit(Arc::new(MemoryAuditLog::new()));
    builder.authorizer(Arc::new(MemoryAuthorizer::allow_all())).build().await
}

async fn run(arguments: &[String]) -> Result<()> {
    if arguments == ["--rbac"] {
        print!("{}", Rbac::new(&connection(), &backends())?.to_yaml()?);
        return Ok(());
    }
    let platform = compose().await?;
    let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;
    let user = Principal::user("ann", tenant.id);
    let operation = match arguments {
        [flag] if flag == "--remove" => {
            platform.production(&user).await?.app(&AppName::new("hello")?).await?.remove().await?
        }
        [image, port, domain @ ..] if domain.len() <= 1 => {
            let mut web = ServiceSpec::image(image);
            let wrong = |cause| Error::invalid("the port is a number").with("port", port).with_source(cause);
            web.port = Some(port.parse::<u16>().map_err(wrong)?);
            web.replicas = 2;
            for domain in domain {
                web.domain.push(domain.parse()?);
            }
            platform.deploy(&user, &AppSpec::new("hello")?.with_service("web", &web)?).await?
        }
        _ => return Err(Error::invalid(USAGE)),
    };
    for event in operation.finished().await?.events {
        println!("{}", event.text);
    }
    platform.shutdown().await; // the app runs on
    Ok(())
}
