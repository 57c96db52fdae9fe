//! Nodes that are there in name only: KWOK answers for those that carry its mark, and for the pods on them.

use std::path::PathBuf;

use super::NODE_ADDRESS;
use super::config::may;
use super::inside::Cluster;
use crate::Result;
use crate::golang::Module;

/// Who it is to the API server, and the name of its files.
pub(super) const NAME: &str = "kwok";

/// How a node says that it is one of these.
const MARK: &str = "kwok.x-k8s.io/node=fake";

/// A node renews its lease after a quarter of this. A thousand of them keep a small machine busy at the 10 s of a real node; and
/// when it is busy with ten thousand pods, too, leases come minutes late.
const LEASE_SECONDS: u32 = 3600;

/// Builds it once.
pub(super) fn program() -> Result<PathBuf> {
    let module = Module {
        path: "sigs.k8s.io/kwok",
        version: "v0.7.0",
        programs: &[("sigs.k8s.io/kwok/cmd/kwok", NAME)],
        sources: &[],
        linked: "",
        staging: None,
    };
    Ok(module.build()?.join(NAME))
}

impl Cluster {
    /// How it talks to the API server, if there are to be such nodes.
    fn kubeconfig_of_fake_nodes(&self) -> Option<PathBuf> {
        let kubeconfig = self.sandbox.folder().join("config").join(format!("{NAME}.kubeconfig"));
        kubeconfig.exists().then_some(kubeconfig)
    }

    /// How long a node may say nothing before it counts as lost, if that is to be longer than usual: all of a busy machine's
    /// pods would be made anew elsewhere, and never be ready.
    pub(super) fn patience_with_nodes(&self) -> Option<String> {
        let seconds = self.kubeconfig_of_fake_nodes().map(|_| LEASE_SECONDS)?;
        Some(format!("--node-monitor-grace-period={seconds}s"))
    }

    /// Starts it, if there are to be such nodes; whoever wants one makes it as an object.
    pub(super) fn fake_nodes(&mut self) -> Result<()> {
        let Some(kubeconfig) = self.kubeconfig_of_fake_nodes() else { return Ok(()) };
        const SEE: &[&str] = &["get", "list", "watch"];
        const CHANGE: &[&str] = &["update", "patch"];
        let rules = may(
            NAME,
            &[
                (&[""], &["nodes", "pods"], SEE),
                (&[""], &["nodes", "nodes/status", "pods", "pods/status"], CHANGE),
                (&[""], &["pods"], &["delete"]),
                (&["", "events.k8s.io"], &["events"], &["create", "patch"]),
                (
                    &["coordination.k8s.io"],
                    &["leases"],
                    &["get", "list", "watch", "create", "update", "patch"],
                ),
            ],
        );
        self.create(NAME, &rules)?;
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--manage-nodes-with-annotation-selector={MARK}"),
            format!("--node-lease-duration-seconds={LEASE_SECONDS}"),
            format!("--node-ip={NODE_ADDRESS}"),
            // No address of a pod here is reachable; none is one of a real pod's.
            "--cidr=10.128.0.1/9".into(),
        ];
        self.start(NAME, &program()?, &arguments)
    }
}
