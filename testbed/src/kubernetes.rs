//! A cluster of one node or two: control plane, kubelet and container runtime, in a sandbox.

mod certificate;
mod config;
mod dns;
mod gateway;
mod inside;
mod kwok;
mod node;
pub(crate) mod shape;
mod volume;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

pub(crate) use inside::inside;
pub(crate) use node::second;

use crate::golang::Module;
use crate::image::Image;
use crate::sandbox::{Sandbox, until};
use crate::step::{say, step};
use crate::{Result, cache, command, image, interrupt, live, machine, package};
use shape::Shape;

/// The release. From 1.35 on the kubelet refuses cgroup v1 and wants containerd 2.
const VERSION: &str = "v1.34.4";
/// The address of the first node in the sandbox, where everything but the second node's own is.
const NODE_ADDRESS: &str = "172.30.0.1";
const PODS: &str = "10.244.0.0/16";
const SERVICES: &str = "10.96.0.0/16";
/// The first address of the services is the API server's.
const API_ADDRESS: &str = "10.96.0.1";
const PAUSE: &str = "testbed.local/pause:1";
/// The images of our own, by the package whose program they run.
const IMAGES: [(&str, &[Image]); 3] = [
    ("pause", &[Image { name: PAUSE, arguments: &[], env: &[] }]),
    ("instance", &[Image { name: "testbed.local/instance:1", arguments: &[], env: &[] }]),
    ("shop", &[shop("shop-db:1", &["db"]), shop("shop-api:1", &["api"]), shop("shop-web:1", &["web"])]),
];

/// A service of the sample app. Alone in its container, it listens to everybody who reaches that.
const fn shop(name: &'static str, arguments: &'static [&'static str]) -> Image {
    Image { name, arguments, env: &["BIND=0.0.0.0"] }
}

/// The image of a platform, by the example whose program it runs.
const PLATFORM: (&str, Image) =
    ("kubernetes", Image { name: "testbed.local/platform:1", arguments: &[], env: &[] });

const PACKAGES: [(&str, &str); 9] = [
    ("etcd-server", "etcd"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("containernetworking-plugins", "../lib/cni/bridge"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("iproute2", "ip"),
    ("util-linux", "unshare"),
    ("python3-pip", "pip3"),
];

/// Where the first process of the sandbox finds which images to take in.
const ARCHIVES: &str = "images.txt";

/// What is built from the module.
const PROGRAMS: [(&str, &str); 6] = [
    ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
    ("k8s.io/kubernetes/cmd/kube-controller-manager", "kube-controller-manager"),
    ("k8s.io/kubernetes/cmd/kube-scheduler", "kube-scheduler"),
    ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
    ("k8s.io/kubernetes/cmd/kube-proxy", "kube-proxy"),
    ("k8s.io/kubernetes/cmd/kubectl", "kubectl"),
];

fn programs() -> Result<PathBuf> {
    let module = Module {
        path: "k8s.io/kubernetes",
        version: VERSION,
        programs: &PROGRAMS,
        linked: "-X k8s.io/component-base/version.gitVersion=v1.34.4 -X k8s.io/component-base/version.gitMajor=1 \
                 -X k8s.io/component-base/version.gitMinor=34",
        sources: &[],
        staging: Some("v0.34.4"),
    };
    module.build()
}

fn sandbox() -> Result<Sandbox> {
    Sandbox::new("kubernetes")
}

/// The control group that holds all pods of this cluster: another cache may have a cluster, too.
fn cgroup(sandbox: &Sandbox) -> String {
    let folder = sandbox.folder().as_os_str().as_encoded_bytes();
    format!("paas-testbed-{}", &image::digest(folder)[..8])
}

/// How one reaches it.
fn kubeconfig(sandbox: &Sandbox) -> PathBuf {
    sandbox.folder().join("admin.kubeconfig")
}

/// Provisions the cluster and starts it; where it runs, does nothing. Tells whether it started it.
///
/// # Errors
/// That one runs which lacks what is asked for, among others.
pub(crate) fn up(shape: &Shape, consent: bool) -> Result<bool> {
    if let Some(lack) = machine::lacks_for_kubernetes() {
        return Err(format!("no cluster can be had here: {lack}").into());
    }
    let sandbox = sandbox()?;
    if serves(shape)? {
        say!("the cluster runs already");
        return Ok(false);
    }
    package::install(&PACKAGES, consent)?;
    let programs = programs()?;
    dns::program()?;
    gateway::program()?;
    gateway::resources()?;
    if shape.has(shape::FAKE_NODES) {
        kwok::program()?;
    }
    let mut archives = images()?;
    if shape.has(shape::PLATFORM) {
        archives.push(platform()?);
    }
    let archives: Vec<_> = archives.iter().map(|archive| archive.display().to_string()).collect();
    clean(&sandbox)?;
    certificate::write(&sandbox.folder().join("pki"))?;
    config::write(&sandbox, shape)?;
    shape.write(sandbox.folder())?;
    fs::write(sandbox.folder().join(ARCHIVES), archives.join("\n"))?;
    let start = || {
        sandbox.start()?;
        until(Duration::from_secs(180), "the cluster", || {
            interrupt::check()?;
            if sandbox.init().is_none() {
                let log = fs::read_to_string(sandbox.folder().join("init.log"))?;
                return Err(format!("the cluster has ended:\n{log}").into());
            }
            Ok(sandbox.folder().join("ready").exists().then_some(()))
        })
    };
    step("start the cluster", start).inspect_err(|_| give_up(&sandbox))?;
    say!("KUBECONFIG={} {}", kubeconfig(&sandbox).display(), programs.join("kubectl").display());
    say!("its network is its own: cargo run -p testbed -- exec kubectl get pods -A");
    Ok(true)
}

/// What has not started in time is not left to start later; its logs stay, unless nobody waits for it any more.
fn give_up(sandbox: &Sandbox) {
    match interrupt::check() {
        Ok(()) => drop(sandbox.stop()),
        Err(_) => drop(down()),
    }
}

/// Whether one runs that has all of this.
///
/// # Errors
/// What the one that runs lacks.
pub(crate) fn serves(shape: &Shape) -> Result<bool> {
    let sandbox = sandbox()?;
    let runs = sandbox.init().is_some();
    if runs {
        Shape::read(sandbox.folder())?.serves(shape)?;
    }
    Ok(runs)
}

/// Stops it. What it stored goes, too: each start is a new cluster.
pub(crate) fn down() -> Result<()> {
    let sandbox = sandbox()?;
    let stopped = step("stop the cluster", || sandbox.stop())?;
    clean(&sandbox)?;
    say!("{}", if stopped { "the cluster is gone" } else { "no cluster was running" });
    Ok(())
}

/// Whether it runs.
pub(crate) fn state() -> Result<&'static str> {
    let sandbox = sandbox()?;
    Ok(match sandbox.init() {
        Some(_) if sandbox.folder().join("ready").exists() => "runs",
        Some(_) => "starts",
        None => "does not run",
    })
}

/// Runs a program in its network.
pub(crate) fn exec(program: &str, arguments: &[&str], environment: &[(&str, &Path)]) -> Result<ExitCode> {
    let sandbox = sandbox()?;
    let own = programs()?.join(program);
    let program = if own.exists() { own.to_string_lossy().into_owned() } else { program.to_owned() };
    let kubeconfig = kubeconfig(&sandbox);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path: PathBuf =
        std::env::join_paths([programs()?].into_iter().chain(std::env::split_paths(&path)))?.into();
    let own: [(&str, &Path); 3] = [
        ("KUBECONFIG", &kubeconfig),
        ("PATH", &path),
        // Where examples publish their domains.
        ("PAAS_GATEWAY", Path::new(gateway::PUBLIC)),
    ];
    sandbox.exec(&program, arguments, &[&own, environment].concat())
}

/// Forgets what a cluster that is gone has left.
fn clean(sandbox: &Sandbox) -> Result<()> {
    for group in fs::read_dir("/sys/fs/cgroup")?.flatten() {
        remove_group(&group.path().join(cgroup(sandbox)));
    }
    for name in ["etcd", "node-1", "node-2", "pki", "config", "log", "volumes"] {
        let folder = sandbox.folder().join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        }
    }
    drop(fs::remove_file(sandbox.folder().join("ready")));
    Ok(())
}

/// Control groups are removed from the innermost on; one that still has processes stays, and so do those around it.
fn remove_group(group: &Path) {
    for inner in fs::read_dir(group).into_iter().flatten().flatten() {
        if inner.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&inner.path());
        }
    }
    drop(fs::remove_dir(group));
}

/// The archives of our own images, made anew where what they hold has changed.
fn images() -> Result<Vec<PathBuf>> {
    let folder = cache::folder("images")?;
    let archive = |(package, images): &(&str, &[Image])| {
        let program = static_program(package)?;
        let stamp = image::digest(format!("{images:?}{}", image::digest(&fs::read(&program)?)).as_bytes());
        let archive = folder.join(format!("{package}-{stamp}.tar"));
        if !archive.exists() {
            // In place at once: one that was cut short would never be made anew.
            let draft = archive.with_extension("new");
            image::archive(&draft, &program, &[], images)?;
            fs::rename(&draft, &archive)?;
        }
        Ok(archive)
    };
    step("images", || IMAGES.iter().map(archive).collect())
}

/// The archive of a platform's image: the example as it is built for everybody else, and the libraries that it loads. Built
/// statically, all that it is made of would be built once more.
fn platform() -> Result<PathBuf> {
    let (example, image) = PLATFORM;
    let archive = cache::folder("images")?.join("platform.tar");
    step("image of a platform", || {
        let program =
            live::built(&["build", "--example", example, "--features", "kubernetes"], "example", example)?;
        let draft = archive.with_extension("new");
        image::archive(&draft, &program, &image::libraries(&program)?, &[image])?;
        fs::rename(&draft, &archive)?;
        Ok(())
    })?;
    Ok(archive)
}

/// Builds the program of a package of this workspace so that it needs no file beside it.
fn static_program(package: &str) -> Result<PathBuf> {
    const TARGET: &str = "x86_64-unknown-linux-gnu";
    let target = cache::folder("static")?;
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--quiet", "--target", TARGET, "-p", package]);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    command::run(cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").env("CARGO_TARGET_DIR", &target))?;
    Ok(target.join(TARGET).join("release").join(package))
}
