//! The files that the cluster's programs read.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{CGROUP, PAUSE, PODS};
use crate::Result;
use crate::sandbox::Sandbox;

/// Where containerd listens, in the sandbox.
pub(super) const RUNTIME: &str = "/run/containerd/containerd.sock";

/// Writes them all. JSON is YAML, too.
pub(super) fn write(sandbox: &Sandbox) -> Result<()> {
    let folder = sandbox.folder();
    let (pki, config) = (folder.join("pki"), folder.join("config"));
    for name in ["etcd", "containerd", "kubelet", "cni", "config", "log"] {
        fs::create_dir_all(folder.join(name))?;
    }
    for holder in ["admin", "controller-manager", "scheduler", "proxy", "kubelet"] {
        let to = if holder == "admin" { folder } else { &config };
        fs::write(to.join(format!("{holder}.kubeconfig")), kubeconfig(&pki, holder).to_string())?;
    }
    fs::write(config.join("kubelet.json"), kubelet(&pki).to_string())?;
    fs::write(config.join("containerd.toml"), containerd(folder))?;
    fs::write(config.join("resolv.conf"), "")?;
    fs::write(folder.join("cni/10-testbed.conflist"), network().to_string())?;
    Ok(())
}

fn kubeconfig(pki: &Path, holder: &str) -> serde_json::Value {
    let file = |name: String| pki.join(name);
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{ "name": "testbed", "cluster": {
            "server": "https://127.0.0.1:6443", "certificate-authority": file("ca.crt".into()),
        } }],
        "users": [{ "name": holder, "user": {
            "client-certificate": file(format!("{holder}.crt")), "client-key": file(format!("{holder}.key")),
        } }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": holder } }],
    })
}

fn kubelet(pki: &Path) -> serde_json::Value {
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
        "cgroupRoot": format!("/{CGROUP}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "enforceNodeAllocatable": [],
        "localStorageCapacityIsolation": false,
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": format!("unix://{RUNTIME}"),
        "tlsCertFile": pki.join("kubelet-server.crt"),
        "tlsPrivateKeyFile": pki.join("kubelet-server.key"),
        // The disk belongs to the machine, and is none of the cluster's business.
        "evictionHard": { "memory.available": "50Mi" },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "nodeStatusUpdateFrequency": "5s",
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

fn network() -> serde_json::Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "testbed",
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipMasq": true,
                "hairpinMode": true,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": PODS }]], "routes": [{ "dst": "0.0.0.0/0" }], "dataDir": "/run/cni" },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

/// The class of a claim that names none.
pub(super) fn storage_class() -> serde_json::Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "annotations": { "storageclass.kubernetes.io/is-default-class": "true" },
        },
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

const CLASS: &str = "pool";

/// A volume of the pool.
pub(super) fn volume(number: u32, folder: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": { "name": format!("pool-{number}") },
        "spec": {
            "storageClassName": CLASS,
            "capacity": { "storage": "10Gi" },
            "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": { "path": folder, "type": "Directory" },
        },
    })
}
