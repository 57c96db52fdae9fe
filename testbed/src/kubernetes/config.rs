//! The files that the cluster's programs read.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::dns::{DNS_ADDRESS, DOMAIN};
use super::node::{FIRST, Node, SECOND};
use super::shape::{FAKE_NODES, TWO_NODES};
use super::{NODE_ADDRESS, PAUSE, Shape, cgroup, kwok};
use crate::Result;
use crate::sandbox::Sandbox;

/// Where containerd listens, in the sandbox.
pub(super) const RUNTIME: &str = "/run/containerd/containerd.sock";

/// Writes them all. JSON is YAML, too.
pub(super) fn write(sandbox: &Sandbox, shape: &Shape) -> Result<()> {
    let folder = sandbox.folder();
    let (pki, config) = (folder.join("pki"), folder.join("config"));
    for name in ["etcd", "config", "log"] {
        fs::create_dir_all(folder.join(name))?;
    }
    let fake = shape.has(FAKE_NODES).then_some(kwok::NAME);
    for holder in
        ["admin", "controller-manager", "scheduler", "proxy", "dns", "gateway"].into_iter().chain(fake)
    {
        let to = if holder == "admin" { folder } else { &config };
        fs::write(to.join(format!("{holder}.kubeconfig")), kubeconfig(&pki, holder).to_string())?;
    }
    fs::write(config.join("resolv.conf"), "")?;
    for node in [FIRST].into_iter().chain(shape.has(TWO_NODES).then_some(SECOND)) {
        let own = folder.join(node.name);
        for name in ["containerd", "kubelet", "cni", "pod-logs"] {
            fs::create_dir_all(own.join(name))?;
        }
        let holder = format!("kubelet-{}", node.name);
        fs::write(own.join("kubelet.kubeconfig"), kubeconfig(&pki, &holder).to_string())?;
        fs::write(own.join("kubelet.json"), kubelet(sandbox, node).to_string())?;
        fs::write(own.join("containerd.toml"), containerd(&own))?;
        fs::write(own.join("cni/10-testbed.conflist"), network(node).to_string())?;
    }
    Ok(())
}

fn kubeconfig(pki: &Path, holder: &str) -> serde_json::Value {
    let file = |name: String| pki.join(name);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{ "name": "testbed", "cluster": {
            "server": format!("https://{NODE_ADDRESS}:6443"), "certificate-authority": file("ca.crt".into()),
        } }],
        "users": [{ "name": holder, "user": {
            "client-certificate": file(format!("{holder}.crt")), "client-key": file(format!("{holder}.key")),
        } }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": holder } }],
    })
}

fn kubelet(sandbox: &Sandbox, node: Node) -> serde_json::Value {
    let (pki, config) = (sandbox.folder().join("pki"), sandbox.folder().join("config"));
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true },
            "x509": { "clientCAFile": pki.join("ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{}/{}", cgroup(sandbox), node.name),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        "clusterDomain": DOMAIN,
        "clusterDNS": [DNS_ADDRESS],
        // The machine's own servers cannot be reached from the sandbox.
        "resolvConf": config.join("resolv.conf"),
        // Its folder elsewhere is the machine's: a second kubelet there would remove the logs of this one's pods.
        "podLogsDir": sandbox.folder().join(node.name).join("pod-logs"),
        "containerRuntimeEndpoint": format!("unix://{RUNTIME}"),
        "tlsCertFile": pki.join(format!("server-{}.crt", node.name)),
        "tlsPrivateKeyFile": pki.join(format!("server-{}.key", node.name)),
        // The disk belongs to the machine, and is none of the cluster's business.
        "evictionHard": { "memory.available": "50Mi" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "5s",
        // So that a test which fills more than one file takes seconds.
        "containerLogMaxSize": "1Mi",
        "containerLogMonitorInterval": "3s",
    })
}

fn containerd(folder: &Path) -> String {
    let (root, cni) = (folder.join("containerd"), folder.join("cni"));
    format!(
        r#"version = 2
root = {root:?}
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
address = "{RUNTIME}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
disable_apparmor = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = {cni:?}
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
"#
    )
}

fn network(node: Node) -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "testbed",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "hairpinMode": true,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": node.pods }]], "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": "/run/cni" },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// What a user may do: groups of the API, their resources, and verbs.
pub(super) type Rule<'a> = (&'a [&'a str], &'a [&'a str], &'a [&'a str]);

/// The objects by which a user may do something in the whole cluster.
pub(super) fn may(user: &str, rules: &[Rule<'_>]) -> [serde_json::Value; 2] {
    let rule = |(groups, resources, verbs): &Rule<'_>| json!({ "apiGroups": groups, "resources": resources, "verbs": verbs });
    let group = "rbac.authorization.k8s.io";
    [
        json!({
            "apiVersion": format!("{group}/v1"),
            "kind": "ClusterRole",
            "metadata": { "name": user },
            "rules": rules.iter().map(rule).collect::<Vec<_>>(),
        }),
        json!({
            "apiVersion": format!("{group}/v1"),
            "kind": "ClusterRoleBinding",
            "metadata": { "name": user },
            "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": user },
            "subjects": [{ "apiGroup": group, "kind": "User", "name": user }],
        }),
    ]
}
