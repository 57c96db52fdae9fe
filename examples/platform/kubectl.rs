//! `kubectl`, for what a person would look at or do on a cluster beside the platform.

use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs it, and gives what it wrote.
///
/// # Errors
/// What went wrong, in its own words.
pub(crate) async fn kubectl(arguments: &[&str]) -> Result<String, String> {
    let command = || format!("kubectl {}", arguments.join(" "));
    let mut program = Command::new("kubectl");
    program.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, program.output())
        .await
        .map_err(|_| format!("{}: no end after {PATIENCE:?}", command()))?
        .map_err(|error| format!("cannot run kubectl, which must be in PATH: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", command(), said.trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The Gateway that domains are published on, as `namespace/name`: the one that was asked for, else the only one.
pub(crate) async fn gateway(asked: Option<&str>) -> Result<String, String> {
    let of_environment = std::env::var("PAAS_GATEWAY").ok().filter(|own| !own.is_empty());
    if let Some(named) = asked.map(str::to_owned).or(of_environment) {
        let is_whole =
            named.split_once('/').is_some_and(|(namespace, name)| !namespace.is_empty() && !name.is_empty());
        return if is_whole {
            Ok(named)
        } else {
            Err(format!("{named:?} is no Gateway like NAMESPACE/NAME"))
        };
    }
    const NAMES: &str = r#"jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}"#;
    let found =
        kubectl(&["get", "gateways.gateway.networking.k8s.io", "--all-namespaces", "-o", NAMES]).await?;
    match found.lines().collect::<Vec<_>>()[..] {
        [] => Err("the cluster has no Gateway to publish domains on".to_owned()),
        [only] => Ok(only.to_owned()),
        _ => {
            Err(format!("the cluster has more than one Gateway: say which, by --gateway:\n{}", found.trim()))
        }
    }
}

/// Where a Gateway says that it answers to plain HTTP.
pub(crate) async fn address(gateway: &str) -> Result<String, String> {
    let (namespace, name) = gateway.split_once('/').unwrap_or(("default", gateway));
    let get = ["get", "gateways.gateway.networking.k8s.io", "-n", namespace, name, "-o"];
    let first = kubectl(&[&get[..], &["jsonpath={.status.addresses[0].value}"]].concat()).await?;
    match first.trim() {
        "" => {
            Err(format!("the Gateway {gateway} does not say where it answers: say it by --address HOST:PORT"))
        }
        host => Ok(format!("{host}:80")),
    }
}
