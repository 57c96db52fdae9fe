//! The engine's records as they are stored, read without the engine: what the rules are judged by.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use paas_core::model::{
    AppSpec, Digest, Epoch, Operation, OperationState, Record, Revision, RevisionNumber, ServiceId,
    ServiceName, ServiceSpec, Slot,
};
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Envelope<T> {
    value: T,
}

/// The value of a record.
pub(super) fn read<T: DeserializeOwned>(record: &[u8]) -> Option<T> {
    serde_json::from_slice::<Envelope<T>>(record).ok().map(|envelope| envelope.value)
}

/// An app's record.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Intent {
    pub(super) promoted: Option<RevisionNumber>,
    pub(super) revisions: Vec<KnownRevision>,
    pub(super) services: BTreeMap<ServiceName, ServiceIntent>,
    pub(super) operation: Option<Operation>,
    pub(super) ended: Vec<Operation>,
    pub(super) epoch: Epoch,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct KnownRevision {
    pub(super) number: RevisionNumber,
    pub(super) digest: Digest,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Build {
    pub(super) revision: RevisionNumber,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ServiceIntent {
    pub(super) id: ServiceId,
    pub(super) replicas: u32,
    pub(super) halted: bool,
    active: Slot,
    pub(super) slots: BTreeMap<Slot, Build>,
    pub(super) settled: Option<Build>,
    pub(super) rollout: Option<RolloutIntent>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct RolloutIntent {
    build: Build,
    direction: String,
    mode: Mode,
    phase: String,
    stage: u32,
    /// Without tasks: a return to what ran before, or a restart.
    pub(super) quick: bool,
}

impl fmt::Display for ServiceIntent {
    /// For people who look for the cause of a violation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let halted = if self.halted { " halted" } else { "" };
        write!(f, "{}x{}{halted} {}", self.id, self.replicas, self.active)?;
        self.slots.iter().try_for_each(|(slot, build)| write!(f, " {slot}={}", build.revision))?;
        if let Some(settled) = &self.settled {
            write!(f, " settled={}", settled.revision)?;
        }
        if let Some(rollout) = &self.rollout {
            let RolloutIntent { build, direction, mode, phase, stage, .. } = rollout;
            write!(f, " {direction} to {} {mode:?} {phase} {stage}", build.revision)?;
        }
        Ok(())
    }
}

impl fmt::Display for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operation = self.operation.as_ref().map(|operation| (&operation.kind, operation.state));
        write!(f, "{operation:?} promoted {:?}", self.promoted)?;
        self.services.iter().try_for_each(|(name, service)| write!(f, "\n      {name} {service}"))
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    SideBySide,
    Ordered,
    Native,
    Recreate,
}

/// The lease.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct LeaseIntent {
    pub(super) holder: String,
    pub(super) epoch: Epoch,
    pub(super) renewals: u64,
}

impl Intent {
    pub(super) fn service(&self, id: &ServiceId) -> Option<(&ServiceName, &ServiceIntent)> {
        self.services.iter().find(|(_, service)| service.id == *id)
    }

    /// The operations of the record.
    pub(super) fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.operation.iter().chain(&self.ended)
    }

    /// How many ready endpoints a service must keep: all its replicas, but for what its release says: one fewer where
    /// instances are exchanged in their places, none where all are stopped first.
    pub(super) fn floor(&self, id: &ServiceId, specs: &Specs) -> u32 {
        let Some((name, service)) = self.service(id) else { return 0 };
        if service.halted || service.settled.is_none() {
            return 0;
        }
        let goal =
            service.rollout.as_ref().and_then(|rollout| specs.service(self, rollout.build.revision, name));
        let has_volumes = goal.is_some_and(|spec| !spec.volumes.is_empty());
        if goal.is_some_and(|spec| spec.port.is_none()) {
            // What it becomes has no endpoints.
            return 0;
        }
        match service.rollout.as_ref().map(|rollout| rollout.mode) {
            Some(Mode::Recreate) => 0,
            Some(Mode::Ordered) => service.replicas.saturating_sub(1),
            Some(Mode::Native) if has_volumes => service.replicas.saturating_sub(1),
            Some(Mode::SideBySide | Mode::Native) => service.replicas,
            None if self.is_wanted(name, specs) => service.replicas,
            None => 0,
        }
    }

    fn is_wanted(&self, name: &ServiceName, specs: &Specs) -> bool {
        let running = self.operation.as_ref().filter(|operation| operation.state == OperationState::Running);
        let goal = running.and_then(|operation| operation.kind.revision());
        let mut goals = goal.into_iter().chain(self.promoted);
        goals.any(|goal| specs.service(self, goal, name).is_some())
    }
}

/// The apps behind the digests of revisions.
#[derive(Clone, Debug, Default)]
pub(super) struct Specs(BTreeMap<String, AppSpec>);

impl Specs {
    /// Takes in every revision among these records.
    pub(super) fn learn(&mut self, records: &[Record]) {
        for record in records.iter().filter(|record| record.key.kind.as_str() == "revision") {
            if let Some((_, digest)) = record.key.id.split_once('/')
                && !self.0.contains_key(digest)
                && let Some(revision) = read::<Revision>(&record.value)
            {
                self.0.insert(digest.to_owned(), revision.spec);
            }
        }
    }

    pub(super) fn app(&self, intent: &Intent, number: RevisionNumber) -> Option<&AppSpec> {
        let known = intent.revisions.iter().find(|known| known.number == number)?;
        self.0.get(known.digest.as_str())
    }

    pub(super) fn service(
        &self,
        intent: &Intent,
        number: RevisionNumber,
        name: &ServiceName,
    ) -> Option<&ServiceSpec> {
        self.app(intent, number)?.services.get(name)
    }

    /// Whether every revision that a record names can be read.
    pub(super) fn unknown(&self, intent: &Intent) -> BTreeSet<RevisionNumber> {
        let unknown = intent.revisions.iter().filter(|known| !self.0.contains_key(known.digest.as_str()));
        unknown.map(|known| known.number).collect()
    }
}
