//! What a pod says of an instance.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodCondition,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use paas_core::model::{
    Digest, Endpoint, Exit, InstanceId, InstanceState, InstanceStatus, RevisionNumber, Role, Timestamp,
    WorkloadKey,
};

use super::manifest::{CONTAINER, TEMPLATE};
use crate::error::brief;
use crate::index::Entry;
use crate::label;

/// How many of its last lines an instance that ended is remembered by.
const LAST_LINES: usize = 20;

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instance {
    pub(super) key: WorkloadKey,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) uid: String,
    pub(super) version: u64,
    /// The ordinal that the cluster gives; instances of a Deployment have none there.
    pub(super) index: Option<u32>,
    /// What its container writes.
    pub(super) output: Output,
    /// Its revision and ordinal are set by whoever knows the others.
    pub(super) status: InstanceStatus,
}

/// Whether a container writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// Nothing was started so far.
    None,
    /// One runs, after so many that ended.
    Open(u32),
    /// As many have ended as were started: this one more than ended before.
    Ended(u32),
}

impl Instance {
    /// The instance of a pod of ours, unless another pod has taken its place.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let meta = &pod.metadata;
        let labels = meta.labels.as_ref()?;
        let key = label::workload(labels).filter(|_| label::is_in_its_place(meta))?;
        let name = meta.name.clone()?;
        let uid = meta.uid.clone()?;
        let note = |name: &str| meta.annotations.as_ref().and_then(|own| own.get(name));
        let template: Digest = serde_json::from_value(note(TEMPLATE)?.as_str().into()).ok()?;
        let index = match &key.role {
            Role::Task(_) => Some(0),
            Role::Slot(_) => labels.get("apps.kubernetes.io/pod-index").and_then(|text| text.parse().ok()),
            _ => None,
        };
        let in_place = matches!(key.role, Role::Slot(_)) && index.is_some();
        // The pods of a StatefulSet follow each other under one name.
        let id = if in_place { format!("{name}-{}", uid.get(..8)?) } else { name.clone() };
        let id = InstanceId::new(id).ok()?;
        let started = meta.creation_timestamp.as_ref().map(at).unwrap_or_default();
        let mut status = InstanceStatus::new(id, index.unwrap_or(0), RevisionNumber(0), template, started);
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if matches!(key.role, Role::Slot(_)) && index.is_none() && phase == Some("Failed") {
            return None;
        }
        describe(pod, &key, &mut status);
        let version = meta.resource_version.as_ref()?.parse().ok()?;
        let output = container(pod).map_or(Output::None, output);
        Some(Self { key, namespace: meta.namespace.clone()?, pod: name, uid, version, index, output, status })
    }

    /// Whether the next pod has the same name, so that only the uid tells whose output or command something is.
    pub(super) fn shares_name(&self) -> bool {
        self.status.id.as_str() != self.pod
    }
}

impl Entry for Instance {
    fn uid(&self) -> &str {
        &self.uid
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn at(self, version: u64) -> Self {
        Self { version, ..self }
    }

    /// It is told of until it has ended.
    fn is_ending(&self) -> bool {
        false
    }
}

/// When somebody asked it to end.
fn asked_to_end(pod: &Pod) -> Option<Timestamp> {
    let until = at(pod.metadata.deletion_timestamp.as_ref()?);
    let grace = u64::try_from(pod.metadata.deletion_grace_period_seconds.unwrap_or(0)).unwrap_or(0);
    Some(Timestamp(until.0.saturating_sub(grace.saturating_mul(1_000))))
}

/// When, to the second.
pub(super) fn at(time: &Time) -> Timestamp {
    Timestamp(u64::try_from(time.0.as_millisecond()).unwrap_or(0))
}

/// The container that runs the service.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let containers = pod.status.as_ref()?.container_statuses.as_deref().unwrap_or_default();
    containers.iter().find(|container| container.name == CONTAINER)
}

/// While it waits for its next start, the last one's output is the newest there is.
fn output(container: &ContainerStatus) -> Output {
    let restarts = u32::try_from(container.restart_count).unwrap_or(0);
    let ended = |state: &Option<ContainerState>| {
        let ended = state.as_ref().and_then(|state| state.terminated.as_ref());
        ended.is_some_and(|ended| ended.container_id.as_ref().is_some_and(|id| !id.is_empty()))
    };
    match &container.state {
        Some(ContainerState { running: Some(_), .. }) => Output::Open(restarts),
        state if ended(state) || ended(&container.last_state) => Output::Ended(restarts),
        _ => Output::None,
    }
}

fn describe(pod: &Pod, key: &WorkloadKey, instance: &mut InstanceStatus) {
    let status = pod.status.as_ref();
    let container = container(pod);
    let conditions = status.and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    instance.restarts = container.map_or(0, |container| u32::try_from(container.restart_count).unwrap_or(0));
    instance.last_exit = container.and_then(last_exit);
    if let (Role::Task(_), Some(exit)) = (&key.role, &mut instance.last_exit)
        && asked_to_end(pod).is_some_and(|asked| asked <= exit.at)
    {
        // Whatever code it ended with then, it may not have done its work.
        (exit.code, exit.reason) = (None, Some("it was told to end before it was done".into()));
    }
    instance.endpoint = endpoint(pod, key, &instance.id);
    instance.state = state(pod, container, conditions);
    instance.message = message(pod, container, conditions).as_deref().map(brief);
    // The runtime stands before the id: `containerd://`.
    let container_id = container.and_then(|container| container.container_id.as_deref()?.rsplit('/').next());
    let ids = [pod.metadata.uid.as_deref(), container_id];
    instance.aliases = ids.into_iter().flatten().filter(|id| !id.is_empty()).map(Box::from).collect();
}

fn condition<'a>(conditions: &'a [PodCondition], name: &str) -> Option<&'a PodCondition> {
    conditions.iter().find(|condition| condition.type_ == name)
}

fn is_true(conditions: &[PodCondition], name: &str) -> bool {
    condition(conditions, name).is_some_and(|condition| condition.status == "True")
}

fn state(pod: &Pod, container: Option<&ContainerStatus>, conditions: &[PodCondition]) -> InstanceState {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return InstanceState::Exited;
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return InstanceState::Stopping;
    }
    let state = container.and_then(|container| container.state.as_ref());
    match state {
        Some(ContainerState { terminated: Some(_), .. }) => InstanceState::BackingOff,
        Some(ContainerState { waiting: Some(waiting), .. }) => {
            let reason = waiting.reason.as_deref().unwrap_or_default();
            let begins = matches!(reason, "" | "ContainerCreating" | "PodInitializing");
            if begins { InstanceState::Starting } else { InstanceState::BackingOff }
        }
        _ if is_true(conditions, "Ready") => InstanceState::Ready,
        Some(ContainerState { running: Some(running), .. }) => {
            // It was not ready when it was started; a change after that was away from ready.
            let since = condition(conditions, "Ready").and_then(|ready| ready.last_transition_time.as_ref());
            let was_ready =
                since.zip(running.started_at.as_ref()).is_some_and(|(since, start)| since.0 > start.0);
            if was_ready { InstanceState::Unready } else { InstanceState::Starting }
        }
        _ => InstanceState::Starting,
    }
}

/// What a person should know.
fn message(pod: &Pod, container: Option<&ContainerStatus>, conditions: &[PodCondition]) -> Option<String> {
    let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref());
    if let Some(waiting) = waiting {
        let reason = waiting.reason.as_deref().unwrap_or_default();
        // The pause before the next start says nothing that the exit does not.
        if !matches!(reason, "" | "ContainerCreating" | "PodInitializing" | "CrashLoopBackOff") {
            let why = text(&waiting.message).map_or_else(String::new, |why| format!(": {why}"));
            return Some(format!("{reason}{why}"));
        }
    }
    if let Some(scheduled) = condition(conditions, "PodScheduled")
        && scheduled.status == "False"
    {
        return text(&scheduled.message).map(|why| format!("no node takes it: {why}"));
    }
    let status = pod.status.as_ref()?;
    let why = text(&status.message)?;
    Some(text(&status.reason).map_or_else(|| why.clone(), |reason| format!("{reason}: {why}")))
}

fn endpoint(pod: &Pod, key: &WorkloadKey, instance: &InstanceId) -> Option<Endpoint> {
    let Role::Slot(slot) = key.role else { return None };
    let container = pod.spec.as_ref()?.containers.iter().find(|container| container.name == CONTAINER)?;
    let port = container.ports.as_ref()?.first()?.container_port;
    let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_ref()?.parse().ok()?;
    let address = SocketAddr::new(ip, u16::try_from(port).ok()?);
    Some(Endpoint { instance: instance.clone(), slot, address })
}

fn last_exit(container: &ContainerStatus) -> Option<Exit> {
    let terminated =
        |state: &Option<ContainerState>| state.as_ref().and_then(|state| state.terminated.clone());
    terminated(&container.state).or_else(|| terminated(&container.last_state)).map(|ended| exit(&ended))
}

fn exit(ended: &ContainerStateTerminated) -> Exit {
    let when = ended.finished_at.as_ref().map(at).unwrap_or_default();
    let mut exit = Exit::with_code(ended.exit_code, when);
    exit.signal = ended.signal;
    let message = ended.message.as_deref().unwrap_or_default();
    match ended.reason.as_deref() {
        Some("OOMKilled") => exit.reason = Some("it ran out of the memory that its limit allows".into()),
        Some(
            reason @ ("ContainerCannotRun" | "StartError" | "DeadlineExceeded" | "ContainerStatusUnknown"),
        ) => {
            exit.reason = Some(brief(&format!("{reason}: {message}")));
            return exit;
        }
        _ => {}
    }
    let lines: Vec<&str> = message.lines().collect();
    exit.last_lines =
        lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect();
    exit
}

/// Whether a message of an instance says that its image was not pulled.
pub(super) fn is_about_pulling(message: &str) -> bool {
    ["ErrImagePull", "ImagePullBackOff"].iter().any(|reason| message.starts_with(reason))
}

#[cfg(test)]
mod tests;
