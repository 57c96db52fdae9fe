//! A platform in a directory of its own, which takes everything down with it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::stream::BoxStream;
use paas::local::keeper::{Keeper, KeeperOptions, Phase};
use paas::local::{LocalConfig, LocalMachine};
use paas::model::{
    AppName, AppSpec, InstanceId, InstanceStatus, LogTail, Principal, Release, ServiceName, ServiceSpec,
    TailItem, TenantName, Timestamp,
};
use paas::platform::{AppHandle, AppStatus, EnvironmentHandle};
use paas::{Error, Platform, Result};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::load::Load;
use crate::program::Behaviour;

/// How long anything here may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// The app that every case deploys.
const APP: &str = "shop";

/// Asks again and again until there is an answer: the only way in which a case waits.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let until = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "it never came to this: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A platform that runs.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) machine: LocalMachine,
    pub(crate) platform: Platform,
    pub(crate) environment: EnvironmentHandle,
}

impl World {
    pub(crate) async fn open(home: &Home) -> Result<Self> {
        let machine = LocalMachine::open(home.config()).await?;
        Self::on(machine).await
    }

    pub(crate) async fn on(machine: LocalMachine) -> Result<Self> {
        let platform = machine.builder().build().await?;
        let operator = Principal::operator("ops");
        let tenant = platform.ensure_tenant(&operator, TenantName::new("acme")?).await?;
        let environment = platform.production(&Principal::user("ann", tenant.id)).await?;
        Ok(Self { machine, platform, environment })
    }

    /// Leaves everything running, as the end of the program would.
    pub(crate) async fn leave(self) {
        self.platform.shutdown().await;
        self.machine.shutdown(false).await.unwrap();
    }

    /// Stops everything.
    pub(crate) async fn end(self) {
        self.platform.shutdown().await;
        self.machine.shutdown(true).await.unwrap();
    }

    pub(crate) async fn app(&self) -> AppHandle {
        self.environment.app(&AppName::new(APP).unwrap()).await.unwrap()
    }

    pub(crate) async fn status(&self) -> AppStatus {
        self.app().await.status().await.unwrap()
    }

    /// Releases an app, and waits for its end.
    pub(crate) async fn deploy(&self, app: &AppSpec) -> Result<()> {
        self.environment.deploy(app).await?.finished_within(DEADLINE).await.map(drop)
    }

    /// Releases an app that must fail.
    pub(crate) async fn fails(&self, app: &AppSpec) -> Error {
        let error = self.deploy(app).await.expect_err("the release must fail");
        assert_eq!(error.kind(), paas::ErrorKind::Failed, "{error:?}");
        error
    }

    /// Requests to the service `web`, for as long as the load lives.
    pub(crate) fn load(&self) -> Load {
        Load::start(self.machine.public_address(), "web.test")
    }

    /// The instances of a service, in both slots, except those on their way out.
    pub(crate) async fn instances(&self, service: &str) -> Vec<InstanceStatus> {
        let status = self.status().await;
        let slots = status.service(service).map(|service| service.slots.clone()).unwrap_or_default();
        let living = |instance: &InstanceStatus| instance.state != paas::model::InstanceState::Stopping;
        slots.into_iter().flat_map(|slot| slot.instances).filter(living).collect()
    }

    /// The number of ready instances by service.
    pub(crate) async fn ready(&self) -> BTreeMap<String, u32> {
        let services = self.status().await.services;
        services.into_iter().map(|service| (service.name.to_string(), service.ready)).collect()
    }
}

/// A service `web`, reached as `web.test`, that answers with its label.
pub(crate) fn web(behaviour: Behaviour, label: &str) -> ServiceSpec {
    let mut spec = behaviour.service(label);
    spec.domain.push("web.test".parse().unwrap());
    spec
}

/// An app of the service `web` alone.
pub(crate) fn app(web: &ServiceSpec) -> AppSpec {
    AppSpec::new(APP).unwrap().with_service("web", web).unwrap()
}

/// What a service has written, and what comes.
pub(crate) async fn tail(app: &AppHandle, service: &str) -> BoxStream<'static, paas::Result<TailItem>> {
    let resource = app.log_tail(Some(&name(service))).await.unwrap().resource;
    app.tail(LogTail::since(resource, Timestamp(0)).and_on()).await.unwrap()
}

pub(crate) fn name(service: &str) -> ServiceName {
    ServiceName::new(service).unwrap()
}

/// A release whose instances must be ready within this time.
pub(crate) fn within(deadline: Duration) -> Release {
    let mut release = Release::default();
    release.deadline = deadline;
    release
}

/// A directory for a machine. When it is dropped, everything that runs there is ended.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    _root: Option<TempDir>,
}

impl Home {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        Self { path: root.path().join("data"), _root: Some(root) }
    }

    /// One that somebody else removes.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path, _root: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn config(&self) -> LocalConfig {
        LocalConfig::new(&self.path).with_public(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    pub(crate) async fn keeper(&self) -> Keeper {
        Keeper::open(&self.path, KeeperOptions::default()).await.unwrap()
    }

    /// The process id of an instance that runs.
    pub(crate) async fn pid(&self, instance: &InstanceId) -> Option<u32> {
        match self.keeper().await.status(instance.as_str()).await.ok()?.phase {
            Phase::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// The processes that bear the mark of this directory's keeper, which begins with what is stored.
    pub(crate) fn marked(&self) -> Vec<u32> {
        let identity = std::fs::read_to_string(self.path.join("keeper/identity")).unwrap_or_default();
        processes(&format!("PAAS_KEEPER={}", identity.trim()))
    }

    /// The keeper and the edge of this directory.
    pub(crate) fn roles(&self) -> Vec<u32> {
        processes(&format!("PAAS_LOCAL_DIR={}", self.path.display()))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.path.join("keeper").exists() {
            return;
        }
        // Told, not killed: else a handle that is still open would start another keeper.
        let dir = self.path.clone();
        let told = std::thread::spawn(move || shut_down(&dir));
        let _best_effort = told.join();
        self.marked().into_iter().for_each(kill);
    }
}

fn shut_down(dir: &Path) -> Option<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let keeper = Keeper::open(dir, KeeperOptions::default()).await.ok()?;
        tokio::time::timeout(DEADLINE, keeper.shutdown(true)).await.ok()?.ok()
    })
}

/// Kills a process; one that is gone needs no killing.
pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let _gone = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}

/// Whether a process is there and has not ended.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !matches!(rest.trim_start().get(..1), None | Some("Z" | "X")))
}

/// The processes with a variable that begins like this in their environment.
fn processes(variable: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|entry| entry.starts_with(variable.as_bytes()))
    })
    .collect()
}
