//! The record of an app: everything durable about it in one key, so that one compare-and-swap moves it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::service::Kind;
use crate::model::{
    Address, AppId, Digest, Domain, EnvironmentId, Epoch, Operation, Resource, RevisionNumber, Role,
    ServiceId, ServiceName, ServiceSpec, Slot, SlotTraffic, TenantId, Timestamp, WorkloadKey, WorkloadLabels,
};
use crate::model::{AppName, EnvironmentName, TenantName};

/// The version of the records' format. Release N reads N-1.
pub(crate) const SCHEMA: u32 = 1;

/// Whether an app should run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Desired {
    Running,
    Stopped,
    Removed,
}

/// A kept revision; its content is a record of its own, under its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RevisionRef {
    pub(crate) number: RevisionNumber,
    pub(crate) digest: Digest,
    pub(crate) created: Timestamp,
    pub(crate) actor: String,
    /// Whether it was ever released as a whole.
    #[serde(default)]
    pub(crate) released: bool,
    /// The domains that it claims, so that they are known without its content.
    #[serde(default)]
    pub(crate) domains: Vec<Domain>,
}

/// An app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AppRecord {
    pub(crate) schema: u32,
    pub(crate) id: AppId,
    pub(crate) tenant: TenantId,
    pub(crate) environment: EnvironmentId,
    pub(crate) tenant_name: TenantName,
    pub(crate) environment_name: EnvironmentName,
    pub(crate) name: AppName,
    pub(crate) desired: Desired,
    /// Kept revisions, oldest first.
    pub(crate) revisions: Vec<RevisionRef>,
    pub(crate) last_revision: RevisionNumber,
    /// The revision that was last released as a whole, which any failure returns to.
    pub(crate) promoted: Option<RevisionNumber>,
    pub(crate) services: BTreeMap<ServiceName, ServiceState>,
    /// The operation that goes on.
    pub(crate) operation: Option<Operation>,
    /// When the operation last got further.
    pub(crate) progressed: Timestamp,
    /// Operations that ended and have no records of their own yet, but for a crash.
    pub(crate) ended: Vec<Operation>,
    /// The term of the leader that wrote last.
    pub(crate) epoch: Epoch,
}

/// What makes two instances of a service differ, beside the addresses of what it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Build {
    pub(crate) revision: RevisionNumber,
    /// Counts the restarts that people asked for.
    pub(crate) incarnation: u32,
}

/// A service of an app.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServiceState {
    pub(crate) id: ServiceId,
    /// A task has no instances beside its run, so it counts none.
    #[serde(default)]
    pub(crate) kind: Kind,
    /// How many instances people want.
    pub(crate) replicas: u32,
    /// The incarnation that people want.
    pub(crate) incarnation: u32,
    /// Stopped, though its replicas are remembered.
    pub(crate) halted: bool,
    pub(crate) active: Slot,
    /// What each slot in use runs.
    pub(crate) slots: BTreeMap<Slot, Build>,
    /// What it last ran as a whole.
    pub(crate) settled: Option<Build>,
    /// Until when the slot that is not active stays ready.
    pub(crate) warm_until: Option<Timestamp>,
    pub(crate) rollout: Option<Rollout>,
    pub(crate) address: Option<Address>,
}

impl ServiceState {
    pub(crate) fn new(id: ServiceId, spec: &ServiceSpec) -> Self {
        Self {
            id,
            kind: spec.kind,
            replicas: if spec.kind == Kind::Task { 0 } else { spec.replicas },
            incarnation: 0,
            halted: false,
            active: Slot::Blue,
            slots: BTreeMap::new(),
            settled: None,
            warm_until: None,
            rollout: None,
            address: None,
        }
    }

    /// Whether anything of it runs, or may come back.
    pub(crate) fn is_in_use(&self) -> bool {
        self.settled.is_some() || self.rollout.is_some() || !self.slots.is_empty()
    }

    /// How many instances should serve now.
    pub(crate) fn count(&self) -> u32 {
        if self.halted { 0 } else { self.replicas }
    }
}

/// Which way a rollout goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    Forward,
    Back,
}

/// What the current stage of a rollout waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Other instances in the candidate's slot to end.
    Emptying,
    /// The task before the release to succeed.
    Task,
    /// New instances to become ready.
    Filling,
    /// Requests to have moved, and old instances to have drained and ended.
    Shifting,
    /// The hold: time or approval.
    Holding,
}

/// How old and new instances take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// The candidate fills the slot that is not active.
    SideBySide,
    /// The one slot exchanges its instances one at a time.
    Ordered,
    /// The scheduler exchanges the instances of the one slot by itself.
    Native,
    /// The one slot is emptied, then filled again.
    Recreate,
}

/// A release of one service that goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rollout {
    pub(crate) build: Build,
    pub(crate) direction: Direction,
    /// Decided when it begins: the way back is the way it came.
    pub(crate) mode: Mode,
    /// Without holds or tasks: a return to what ran before, or a restart.
    pub(crate) quick: bool,
    pub(crate) stage: u32,
    pub(crate) phase: Phase,
    /// When it began.
    #[serde(default)]
    pub(crate) begun: Timestamp,
    /// When the phase began.
    pub(crate) since: Timestamp,
    pub(crate) approved: bool,
    /// The candidate's counters when the stage's weights came into force.
    pub(crate) baseline: Option<SlotTraffic>,
}

impl AppRecord {
    pub(crate) fn resource(&self) -> Resource {
        Resource::App(self.tenant.clone(), self.environment.clone(), self.id.clone())
    }

    pub(crate) fn service_resource(&self, service: &ServiceId) -> Resource {
        Resource::Service(self.tenant.clone(), self.environment.clone(), self.id.clone(), service.clone())
    }

    pub(crate) fn key(&self, service: &ServiceId, role: Role) -> WorkloadKey {
        WorkloadKey::new(
            self.tenant.clone(),
            self.environment.clone(),
            self.id.clone(),
            service.clone(),
            role,
        )
    }

    pub(crate) fn labels(&self, service: &ServiceName) -> WorkloadLabels {
        let (tenant, environment) = (self.tenant_name.clone(), self.environment_name.clone());
        WorkloadLabels::new(tenant, environment, self.name.clone(), service.clone())
    }

    pub(crate) fn revision_ref(&self, number: RevisionNumber) -> Option<&RevisionRef> {
        self.revisions.iter().find(|known| known.number == number)
    }

    /// The revisions that something of this app still runs or may return to.
    pub(crate) fn revisions_in_use(&self) -> impl Iterator<Item = RevisionNumber> {
        let services = self.services.values().flat_map(|service| {
            let builds = service.slots.values().chain(&service.settled);
            builds.chain(service.rollout.iter().map(|rollout| &rollout.build)).map(|build| build.revision)
        });
        let operation = self.operation.iter().filter_map(|operation| operation.kind.revision());
        self.promoted.into_iter().chain(operation).chain(services)
    }
}
