//! What callers see of an app.

use crate::engine::observed::Observed;
use crate::engine::record::{AppRecord, Desired};
use crate::model::{
    Address, AppId, AppName, InstanceStatus, Operation, RevisionNumber, ServiceId, ServiceName, Slot,
    Timestamp,
};

/// An app and its services.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct AppStatus {
    /// Its id.
    pub id: AppId,
    /// Its name.
    pub name: AppName,
    /// Whether it is meant to run.
    pub running: bool,
    /// The revision that was last released as a whole.
    pub promoted: Option<RevisionNumber>,
    /// Its services by name.
    pub services: Vec<ServiceStatus>,
    /// The operation that goes on.
    pub operation: Option<Operation>,
}

impl AppStatus {
    /// One of its services.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceStatus> {
        self.services.iter().find(|service| service.name.as_str() == name)
    }
}

/// A service and its instances.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ServiceStatus {
    /// Its id.
    pub id: ServiceId,
    /// Its name.
    pub name: ServiceName,
    /// How many instances should serve.
    pub replicas: u32,
    /// How many instances of the active slot are ready.
    pub ready: u32,
    /// The revision that serves.
    pub revision: Option<RevisionNumber>,
    /// The slot that serves.
    pub active: Slot,
    /// Whether a release goes on.
    pub releasing: bool,
    /// Its stable address.
    pub address: Option<Address>,
    /// What runs in each slot.
    pub slots: Vec<SlotStatus>,
}

/// One slot of a service.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SlotStatus {
    /// Which.
    pub slot: Slot,
    /// The revision its instances should be of.
    pub revision: Option<RevisionNumber>,
    /// Its instances.
    pub instances: Vec<InstanceStatus>,
}

/// A kept revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RevisionSummary {
    /// Its number.
    pub number: RevisionNumber,
    /// When it was made.
    pub created: Timestamp,
    /// By whom.
    pub actor: String,
    /// Whether it is the one last released as a whole.
    pub promoted: bool,
    /// Whether it ever was.
    pub released: bool,
}

pub(super) fn status(app: &AppRecord, observed: &Observed) -> AppStatus {
    let services = app.services.iter().filter(|(_, service)| {
        service.settled.is_some() || service.rollout.is_some() || !observed.is_down(&service.id)
    });
    let services = services.map(|(name, service)| ServiceStatus {
        id: service.id.clone(),
        name: name.clone(),
        replicas: service.count(),
        ready: observed.ready(&service.id, service.active),
        revision: service.settled.map(|settled| settled.revision),
        active: service.active,
        releasing: service.rollout.is_some(),
        address: service.address.clone(),
        slots: Slot::BOTH
            .into_iter()
            .map(|slot| SlotStatus {
                slot,
                revision: service.slots.get(&slot).map(|build| build.revision),
                instances: observed.instances(&service.id, slot).to_vec(),
            })
            .collect(),
    });
    AppStatus {
        id: app.id.clone(),
        name: app.name.clone(),
        running: app.desired == Desired::Running,
        promoted: app.promoted,
        services: services.collect(),
        operation: app.operation.clone(),
    }
}
