//! What a scheduler runs, and what it says of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::address::{Endpoint, Protocol};
use super::command::Command;
use super::id::{AppId, EnvironmentId, InstanceId, OperationId, ServiceId, TenantId};
use super::name::{AppName, EnvironmentName, SecretName, ServiceName, TenantName, VolumeName};
use super::probe::Probe;
use super::quantity::{ByteSize, duration};
use super::revision::{Digest, RevisionNumber};
use super::scope::Resource;
use super::secret::SecretVersion;
use super::service::Limits;
use super::source::Source;
use super::time::Timestamp;

/// One of the two places in which a service's instances run; a release moves them from one to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The slot a service starts in.
    Blue,
    /// The other one.
    Green,
}

impl Slot {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Blue, Self::Green];

    /// The other slot.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Blue => Self::Green,
            Self::Green => Self::Blue,
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blue => "blue",
            Self::Green => "green",
        })
    }
}

/// What a workload is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Role {
    /// The instances of one slot.
    Slot(Slot),
    /// A task that runs once for this operation.
    Task(OperationId),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slot(slot) => slot.fmt(f),
            Self::Task(operation) => write!(f, "task {operation}"),
        }
    }
}

/// Names a workload.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkloadKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its app.
    pub app: AppId,
    /// Its service.
    pub service: ServiceId,
    /// What it is for.
    pub role: Role,
}

impl WorkloadKey {
    /// A key.
    #[must_use]
    pub fn new(
        tenant: TenantId,
        environment: EnvironmentId,
        app: AppId,
        service: ServiceId,
        role: Role,
    ) -> Self {
        Self { tenant, environment, app, service, role }
    }

    /// The service, as a resource.
    #[must_use]
    pub fn resource(&self) -> Resource {
        Resource::Service(
            self.tenant.clone(),
            self.environment.clone(),
            self.app.clone(),
            self.service.clone(),
        )
    }
}

/// The names people know, for labels, variables and messages; never for keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkloadLabels {
    /// Name of the tenant.
    pub tenant: TenantName,
    /// Name of the environment.
    pub environment: EnvironmentName,
    /// Name of the app.
    pub app: AppName,
    /// Name of the service.
    pub service: ServiceName,
}

impl WorkloadLabels {
    /// The four names.
    #[must_use]
    pub fn new(tenant: TenantName, environment: EnvironmentName, app: AppName, service: ServiceName) -> Self {
        Self { tenant, environment, app, service }
    }
}

/// Whether an instance that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Restart {
    /// Yes, with growing pauses.
    Always,
    /// No: it is a task.
    Never,
}

/// A secret that becomes an environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SecretRef {
    /// Which secret, and the variable's name.
    pub name: SecretName,
    /// Which version.
    pub version: SecretVersion,
}

/// A volume as an instance sees it. Which one it is follows from the instance's ordinal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Mount {
    /// Its name within the service.
    pub name: VolumeName,
    /// Where a container finds it.
    pub path: Option<String>,
    /// How much it should hold.
    pub size: ByteSize,
}

impl Mount {
    /// A mount.
    #[must_use]
    pub fn new(name: VolumeName, path: Option<String>, size: ByteSize) -> Self {
        Self { name, path, size }
    }
}

/// What each instance of a workload is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Template {
    /// The ways to run it; a scheduler takes the first that it supports.
    pub sources: Vec<Source>,
    /// Run this instead of the source's own command: a task beside the service.
    pub command: Option<Command>,
    /// Environment variables, with the addresses of what it needs.
    pub env: BTreeMap<String, String>,
    /// Secrets, as environment variables.
    pub secrets: Vec<SecretRef>,
    /// The port it listens on, if any.
    pub port: Option<u16>,
    /// What is spoken there.
    pub protocol: Protocol,
    /// How readiness is asked; without it, a connection to the port, or that the process runs.
    pub ready: Option<Probe>,
    /// How liveness is asked.
    pub live: Option<Probe>,
    /// How much an instance may use.
    pub limits: Limits,
    /// Its volumes.
    pub mounts: Vec<Mount>,
    /// Time between the request to end and the kill.
    #[serde(with = "duration")]
    pub grace: Duration,
    /// Whether an instance that ended is started again.
    pub restart: Restart,
    /// Counts the restarts people asked for, so that each makes a new digest.
    pub incarnation: u32,
}

impl Template {
    /// A template of these sources, and nothing else.
    #[must_use]
    pub fn new(sources: Vec<Source>) -> Self {
        Self {
            sources,
            command: None,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            port: None,
            protocol: Protocol::default(),
            ready: None,
            live: None,
            limits: Limits::default(),
            mounts: Vec::new(),
            grace: Duration::from_secs(10),
            restart: Restart::Always,
            incarnation: 0,
        }
    }

    /// Its digest: instances of equal digests are interchangeable.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}

/// The whole desired state of one workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Workload {
    /// Which one.
    pub key: WorkloadKey,
    /// What people call it.
    pub labels: WorkloadLabels,
    /// The revision it belongs to: a label, not part of what makes instances differ.
    pub revision: RevisionNumber,
    /// What each *new* instance is. Running instances of another template stay until they are retired.
    pub template: Template,
    /// How many instances to keep; `None` leaves it to the scheduler's own autoscaler.
    pub replicas: Option<u32>,
    /// Instances to stop. Each is replaced while there are fewer than `replicas` others.
    pub retire: Vec<InstanceId>,
}

impl Workload {
    /// A workload that retires nothing.
    #[must_use]
    pub fn new(
        key: WorkloadKey,
        labels: WorkloadLabels,
        revision: RevisionNumber,
        template: Template,
        replicas: u32,
    ) -> Self {
        Self { key, labels, revision, template, replicas: Some(replicas), retire: Vec::new() }
    }

    /// Whether its one instance runs to its end and is not started again.
    #[must_use]
    pub fn is_task(&self) -> bool {
        matches!(self.key.role, Role::Task(_)) || self.template.restart == Restart::Never
    }

    /// Its digest, which [`WorkloadStatus::applied`] repeats.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Exit {
    /// Its exit code, if it ended by itself and the code was seen.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: Timestamp,
    /// What it last wrote, oldest first; bounded, control characters as they were.
    pub last_lines: Vec<String>,
    /// Why, where the exit alone does not say: the program is missing, out of memory, …
    pub reason: Option<String>,
}

impl Exit {
    /// Ended by itself with this code.
    #[must_use]
    pub fn with_code(code: i32, at: Timestamp) -> Self {
        Self { code: Some(code), at, ..Self::default() }
    }

    /// Ended for a reason that no exit code tells.
    #[must_use]
    pub fn with_reason(reason: impl Into<String>, at: Timestamp) -> Self {
        Self { reason: Some(reason.into()), at, ..Self::default() }
    }

    /// Whether it is a task's success.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.code == Some(0) && self.signal.is_none()
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.reason, self.code, self.signal) {
            (Some(reason), ..) => f.write_str(reason),
            (None, Some(code), _) => write!(f, "exit code {code}"),
            (None, None, Some(signal)) => write!(f, "signal {signal}"),
            (None, None, None) => f.write_str("ended unseen"),
        }
    }
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum InstanceState {
    /// Started, not ready yet.
    Starting,
    /// Ready for traffic.
    Ready,
    /// Was ready, and fails its readiness check now.
    Unready,
    /// Ended, and will be started again.
    BackingOff,
    /// Asked to end.
    Stopping,
    /// Ended for good: a task, or one that cannot start.
    Exited,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceStatus {
    /// Its id; kept when a crashed process is started again in its place.
    pub id: InstanceId,
    /// Which replica it is, from 0: no two living instances of a workload share it.
    pub ordinal: u32,
    /// The revision it was started for.
    pub revision: RevisionNumber,
    /// The digest of the template it was started from.
    pub template: Digest,
    /// Where it is in its life.
    pub state: InstanceState,
    /// Where it listens, when it has a port.
    pub endpoint: Option<Endpoint>,
    /// How often it was started again after it ended.
    pub restarts: u32,
    /// How it ended last.
    pub last_exit: Option<Exit>,
    /// What a person should know: the probe's last answer, why it cannot start.
    pub message: Option<String>,
    /// When it was first started.
    pub started: Timestamp,
    /// By what else agents that collect its lines may know it, like the uid of a pod or the id of a container; none of them is
    /// another instance's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Box<str>>,
}

impl InstanceStatus {
    /// An instance that has just been started.
    #[must_use]
    pub fn new(
        id: InstanceId,
        ordinal: u32,
        revision: RevisionNumber,
        template: Digest,
        started: Timestamp,
    ) -> Self {
        Self {
            id,
            ordinal,
            revision,
            template,
            state: InstanceState::Starting,
            endpoint: None,
            restarts: 0,
            last_exit: None,
            message: None,
            started,
            aliases: Vec::new(),
        }
    }

    /// Whether it may get traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state == InstanceState::Ready
    }
}

/// A workload as its scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WorkloadStatus {
    /// Which one.
    pub key: WorkloadKey,
    /// The digest of the workload that was applied last; `None` once it was removed and its instances are on their
    /// way out, and where the scheduler found instances after a restart and nothing has been applied since. Of one that
    /// is not as it was applied, as somebody has changed or removed a part of it, a digest that no workload has: a
    /// new one after each such change, where the scheduler can tell.
    pub applied: Option<Digest>,
    /// Its instances, those that are stopping included, by ordinal.
    pub instances: Vec<InstanceStatus>,
    /// Why instances that it asks for cannot even be made, where that is known: a quota, a refused admission.
    #[serde(default)]
    pub message: Option<String>,
}

impl WorkloadStatus {
    /// A workload without instances.
    #[must_use]
    pub fn new(key: WorkloadKey, applied: Option<Digest>) -> Self {
        Self { key, applied, instances: Vec::new(), message: None }
    }

    /// The instances that may get traffic.
    pub fn ready(&self) -> impl Iterator<Item = &InstanceStatus> {
        self.instances.iter().filter(|instance| instance.is_ready())
    }
}
