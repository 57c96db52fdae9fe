//! The first process of the cluster's sandbox: starts its programs in order, and ends with any of them.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::node::{FIRST, own_folders};
use super::{NODE_ADDRESS, SERVICES, cgroup, kubeconfig, programs, sandbox};
use crate::command::run;
use crate::sandbox::{Sandbox, until};
use crate::{Result, step::step};

/// How long a program may take for what others wait for.
const LIMIT: Duration = Duration::from_secs(60);

pub(super) struct Cluster {
    pub(super) sandbox: Sandbox,
    programs: PathBuf,
    pub(super) running: Vec<(&'static str, Child)>,
}

/// Runs until one of its programs ends, or it is killed.
pub(crate) fn inside() -> Result<()> {
    let mut cluster = Cluster::new()?;
    step("network and mounts", || prepare(&cgroup(&cluster.sandbox)))?;
    step("control plane", || cluster.control_plane())?;
    step("node", || cluster.node(FIRST))?;
    cluster.join_second()?;
    cluster.fake_nodes()?;
    step("cluster DNS", || cluster.dns())?;
    step("gateway", || cluster.gateway())?;
    step("volumes", || cluster.volumes())?;
    fs::write(cluster.sandbox.folder().join("ready"), "")?;
    cluster.watch()
}

pub(super) fn sh(program: &str, arguments: &[&str]) -> Result<()> {
    run(Command::new(program).args(arguments))
}

fn prepare(cgroup: &str) -> Result<()> {
    own_folders()?;
    sh("ip", &["link", "set", "lo", "up"])?;
    // A node needs an address that is no loopback one; nobody is at the other end before the second node is.
    sh("ip", &["link", "add", "node0", "type", "veth", "peer", "name", "nobody0"])?;
    sh("ip", &["address", "add", &format!("{NODE_ADDRESS}/24"), "dev", "node0"])?;
    sh("ip", &["link", "set", "node0", "up"])?;
    sh("ip", &["link", "set", "nobody0", "up"])?;
    sh("ip", &["route", "add", "default", "dev", "node0"])?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    for controller in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        if controller.path().join("tasks").exists() {
            for group in [cgroup.to_owned(), format!("{cgroup}/node-1"), format!("{cgroup}/node-2")] {
                let group = controller.path().join(group);
                fs::create_dir_all(&group)?;
                copy_cpuset(&group)?;
            }
        }
    }
    Ok(())
}

/// A new group takes no processes before it was told which processors and memory it has, if it is for those.
fn copy_cpuset(group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if group.join(file).exists() {
            let all = fs::read_to_string(Path::new("/sys/fs/cgroup/cpuset").join(file))?;
            fs::write(group.join(file), all)?;
        }
    }
    Ok(())
}

impl Cluster {
    pub(super) fn new() -> Result<Self> {
        Ok(Self { sandbox: sandbox()?, programs: programs()?, running: Vec::new() })
    }

    pub(super) fn file(&self, name: &str) -> String {
        self.sandbox.folder().join(name).to_string_lossy().into_owned()
    }

    fn pki(&self, name: &str) -> String {
        self.file(&format!("pki/{name}"))
    }

    pub(super) fn start(&mut self, name: &'static str, program: &Path, arguments: &[String]) -> Result<()> {
        let log = File::create(self.file(&format!("log/{name}.log")))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        self.running.push((name, child));
        Ok(())
    }

    /// What is built here.
    pub(super) fn start_own(
        &mut self,
        name: &'static str,
        program: &str,
        arguments: &[String],
    ) -> Result<()> {
        let program = self.programs.join(program);
        self.start(name, &program, arguments)
    }

    pub(super) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl.arg(format!("--kubeconfig={}", kubeconfig(&self.sandbox).display())).args(arguments);
        let output = kubectl.stdin(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Makes objects.
    pub(super) fn create(&self, name: &str, objects: &[serde_json::Value]) -> Result<()> {
        let list = serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": objects });
        let file = self.file(&format!("config/{name}.json"));
        fs::write(&file, list.to_string())?;
        self.create_from(&file)
    }

    /// Makes the objects of a file, or of the files in a folder.
    pub(super) fn create_from(&self, file: &str) -> Result<()> {
        self.order(&["create", "-f", file])
    }

    /// Tells the cluster to do something; where it does not, its words are the error.
    pub(super) fn order(&self, arguments: &[&str]) -> Result<()> {
        let mut kubectl = Command::new(self.programs.join("kubectl"));
        kubectl.arg(format!("--kubeconfig={}", kubeconfig(&self.sandbox).display()));
        run(kubectl.args(arguments))
    }

    /// The last lines of the program that has ended. That it did is said after them: they may be another error of this kind,
    /// of the second node.
    fn check(&mut self) -> Result<()> {
        for (name, child) in &mut self.running {
            let ended = match child.try_wait() {
                Ok(None) => continue,
                Ok(Some(status)) => format!("{name} ended with {status}"),
                // Others were looked for just then, and it was among them.
                Err(_) => format!("{name} ended"),
            };
            let name = *name;
            return Err(format!("{}\n{ended}", self.last_lines(name)).into());
        }
        Ok(())
    }

    fn last_lines(&self, program: &str) -> String {
        let log = fs::read_to_string(self.file(&format!("log/{program}.log"))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!("the last lines of {program}:\n{}", lines[lines.len().saturating_sub(10)..].join("\n"))
    }

    /// Waits for something that a program is to bring about.
    pub(super) fn wait(
        &mut self,
        program: &str,
        what: &str,
        look: impl Fn(&Self) -> Result<bool>,
    ) -> Result<()> {
        let outcome = until(LIMIT, what, || match self.check() {
            Ok(()) => Ok(look(self)?.then_some(Ok(()))),
            ended => Ok(Some(ended)),
        });
        outcome.unwrap_or_else(|late| Err(format!("{}\n{late}", self.last_lines(program)).into()))
    }

    fn control_plane(&mut self) -> Result<()> {
        let etcd = [
            format!("--data-dir={}", self.file("etcd")),
            "--listen-client-urls=http://127.0.0.1:2379".into(),
            "--advertise-client-urls=http://127.0.0.1:2379".into(),
            "--listen-peer-urls=http://127.0.0.1:2380".into(),
            // Each start is a new cluster: what is lost with the machine was to go anyway.
            "--unsafe-no-fsync".into(),
        ];
        self.start("etcd", Path::new("etcd"), &etcd)?;
        self.start_own("kube-apiserver", "kube-apiserver", &self.api_server())?;
        self.wait("kube-apiserver", "the API server", |own| {
            Ok(own.kubectl(&["get", "--raw", "/readyz"])? == "ok")
        })?;
        let mut manager = vec![
            format!("--kubeconfig={}", self.file("config/controller-manager.kubeconfig")),
            format!("--service-account-private-key-file={}", self.pki("accounts.key")),
            format!("--root-ca-file={}", self.pki("ca.crt")),
            format!("--cluster-signing-cert-file={}", self.pki("ca.crt")),
            format!("--cluster-signing-key-file={}", self.pki("ca.key")),
            "--use-service-account-credentials".into(),
            "--leader-elect=false".into(),
            // Suites make and delete more at once than a cluster of this size usually sees: at its own 20 calls a second it
            // would tell of endpoints seconds late.
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ];
        manager.extend(self.patience_with_nodes());
        self.start_own("kube-controller-manager", "kube-controller-manager", &manager)?;
        let scheduler = [
            format!("--kubeconfig={}", self.file("config/scheduler.kubeconfig")),
            "--leader-elect=false".into(),
            "--kube-api-qps=500".into(),
            "--kube-api-burst=1000".into(),
        ];
        self.start_own("kube-scheduler", "kube-scheduler", &scheduler)
    }

    fn api_server(&self) -> Vec<String> {
        let pki = |name: &str| self.pki(name);
        vec![
            "--etcd-servers=http://127.0.0.1:2379".into(),
            format!("--advertise-address={NODE_ADDRESS}"),
            format!("--service-cluster-ip-range={SERVICES}"),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--client-ca-file={}", pki("ca.crt")),
            "--authorization-mode=Node,RBAC".into(),
            "--enable-admission-plugins=NodeRestriction".into(),
            "--kubelet-preferred-address-types=InternalIP".into(),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
            format!("--kubelet-client-certificate={}", pki("apiserver-kubelet.crt")),
            format!("--kubelet-client-key={}", pki("apiserver-kubelet.key")),
            "--service-account-issuer=https://kubernetes.default.svc".into(),
            format!("--service-account-key-file={}", pki("accounts.pub")),
            format!("--service-account-signing-key-file={}", pki("accounts.key")),
            "--allow-privileged=false".into(),
            // Debian's etcd lacks what it needs. Refused at once, clients list as they used to; else they keep trying.
            "--feature-gates=WatchList=false".into(),
        ]
    }

    /// As the first process of its namespace it is the parent of whatever loses its own: those are reaped, too.
    pub(super) fn watch(&mut self) -> Result<()> {
        loop {
            self.check()?;
            while let Ok(Some(_)) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {}
            #[expect(clippy::disallowed_methods, reason = "nothing asynchronous runs here")]
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}
