//! The nodes: a container runtime, a kubelet and a proxy each. The first shares its network with the control plane; the
//! second has a network and mounts of its own, at the other end of a cable.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::config::RUNTIME;
use super::inside::{Cluster, sh};
use super::{ARCHIVES, NODE_ADDRESS, PODS};
use crate::sandbox::until;
use crate::{Result, command, step::step};

/// A node, its address, the range of its pods, and the names of its programs' logs.
#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) address: &'static str,
    pub(super) pods: &'static str,
    logs: [&'static str; 3],
}

pub(super) const FIRST: Node = Node {
    name: "node-1",
    address: NODE_ADDRESS,
    pods: "10.244.1.0/24",
    logs: ["containerd", "kubelet", "kube-proxy"],
};
pub(super) const SECOND: Node = Node {
    name: "node-2",
    address: "172.30.0.2",
    pods: "10.244.2.0/24",
    logs: ["containerd-2", "kubelet-2", "kube-proxy-2"],
};

/// The end of the cable that is the second node's.
const CABLE: &str = "nobody0";

/// What programs keep in folders that they cannot be told: another node's, and another cluster's, must be others.
const OWN: [&str; 4] = ["/run", "/var/lib/kubelet", "/var/lib/cni", "/var/log/containers"];

/// Gives this mount namespace folders of its own.
pub(super) fn own_folders() -> Result<()> {
    // Pods' volumes are mounted from here into containers: shared inside, invisible outside.
    sh("mount", &["--make-rshared", "/"])?;
    for folder in OWN {
        fs::create_dir_all(folder)?;
        sh("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", folder])?;
    }
    Ok(())
}

/// Runs as the second node, in namespaces that were made for it.
pub(crate) fn second() -> Result<()> {
    let mut cluster = Cluster::new()?;
    own_folders()?;
    until(Duration::from_secs(20), "the cable to the first node", || {
        Ok(command::run(std::process::Command::new("ip").args(["link", "show", CABLE])).ok())
    })?;
    sh("ip", &["link", "set", "lo", "up"])?;
    sh("ip", &["address", "add", &format!("{}/24", SECOND.address), "dev", CABLE])?;
    sh("ip", &["link", "set", CABLE, "up"])?;
    // Everything that is not here is at the first node: its pods, and cluster DNS.
    sh("ip", &["route", "add", "default", "via", FIRST.address])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    cluster.node(SECOND)?;
    cluster.watch()
}

impl Cluster {
    /// Starts the second node, if there is to be one, and waits for it.
    pub(super) fn join_second(&mut self) -> Result<()> {
        if !self.sandbox.folder().join(SECOND.name).exists() {
            return Ok(());
        }
        step("second node", || {
            let own = std::env::current_exe()?.to_string_lossy().into_owned();
            let arguments = ["--net", "--mount", &own, "in-sandbox", "second-node"].map(str::to_owned);
            self.start(SECOND.name, Path::new("unshare"), &arguments)?;
            let pid = self.running.last().map_or(0, |(_, child)| child.id());
            let here = fs::read_link("/proc/self/ns/net")?;
            until(Duration::from_secs(10), "the network of the second node", || {
                Ok((fs::read_link(format!("/proc/{pid}/ns/net"))? != here).then_some(()))
            })?;
            sh("ip", &["link", "set", CABLE, "netns", &pid.to_string()])?;
            sh("ip", &["route", "add", SECOND.pods, "via", SECOND.address, "onlink", "dev", "node0"])?;
            self.wait(SECOND.name, "the second node", |own| {
                let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
                Ok(own.kubectl(&["get", "node", SECOND.name, "-o", ready])? == "True")
            })
        })
    }

    /// Starts a node where it is called.
    pub(super) fn node(&mut self, node: Node) -> Result<()> {
        let own = |name: &str| self.file(&format!("{}/{name}", node.name));
        let (containerd, config) = (own("containerd.toml"), own("kubelet.json"));
        let (kubeconfig, root) = (own("kubelet.kubeconfig"), own("kubelet"));
        let [runtime, kubelet, proxy] = node.logs;
        self.start(runtime, Path::new("containerd"), &["--config".into(), containerd])?;
        let images = |arguments: &[&str]| {
            let common = ["--address", RUNTIME, "--namespace", "k8s.io", "images"];
            sh("ctr", &[&common, arguments].concat())
        };
        self.wait(runtime, "containerd", |_| Ok(images(&["list"]).is_ok()))?;
        for archive in fs::read_to_string(self.sandbox.folder().join(ARCHIVES))?.lines() {
            images(&["import", archive])?;
        }
        let arguments = [
            format!("--config={config}"),
            format!("--kubeconfig={kubeconfig}"),
            format!("--root-dir={root}"),
            format!("--node-ip={}", node.address),
            format!("--hostname-override={}", node.name),
        ];
        self.start_own(kubelet, "kubelet", &arguments)?;
        let arguments = [
            format!("--kubeconfig={}", self.file("config/proxy.kubeconfig")),
            format!("--hostname-override={}", node.name),
            format!("--cluster-cidr={PODS}"),
            "--proxy-mode=iptables".into(),
            // The limits of connection tracking belong to the machine.
            "--conntrack-max-per-core=0".into(),
            "--conntrack-tcp-timeout-established=0".into(),
            "--conntrack-tcp-timeout-close-wait=0".into(),
        ];
        self.start_own(proxy, "kube-proxy", &arguments)?;
        self.wait(kubelet, node.name, |own| {
            let ready = r#"jsonpath={.status.conditions[?(@.type=="Ready")].status}"#;
            Ok(own.kubectl(&["get", "node", node.name, "-o", ready])? == "True")
        })
    }
}
