//! One process as an instance of a workload.

use paas_core::model::{
    Digest, Endpoint, Exit, InstanceId, InstanceState, InstanceStatus, Probe, Restart, RevisionNumber, Role,
    Slot, Timestamp, WorkloadKey,
};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::task::AbortHandle;

use super::port::address;

/// What is kept with the process, and makes an instance of it again after a restart of the platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) key: WorkloadKey,
    pub(super) ordinal: u32,
    pub(super) revision: RevisionNumber,
    pub(super) template: Digest,
    pub(super) port: Option<u16>,
    pub(super) ready: Option<Probe>,
    pub(super) live: Option<Probe>,
    pub(super) restart: Restart,
    pub(super) grace_ms: u64,
    pub(super) started: Timestamp,
}

impl Note {
    pub(super) fn grace(&self) -> Duration {
        Duration::from_millis(self.grace_ms)
    }
}

/// An instance.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) id: InstanceId,
    pub(super) note: Note,
    /// Of the keeper's process; grows when it is started anew because it did not live.
    pub(super) generation: u64,
    /// The run that `state` speaks of.
    pub(super) run: u64,
    pub(super) state: InstanceState,
    /// It was asked to end.
    pub(super) leaving: bool,
    pub(super) restarts: u32,
    pub(super) last_exit: Option<Exit>,
    pub(super) message: Option<String>,
    /// Asks whether it is ready and alive.
    pub(super) probing: Option<AbortHandle>,
}

impl Instance {
    pub(super) fn new(id: InstanceId, note: Note) -> Self {
        Self {
            id,
            note,
            generation: 1,
            run: 0,
            state: InstanceState::Starting,
            leaving: false,
            restarts: 0,
            last_exit: None,
            message: None,
            probing: None,
        }
    }

    pub(super) fn is_living(&self) -> bool {
        !self.leaving && self.state != InstanceState::Exited
    }

    pub(super) fn stop_probing(&mut self) {
        if let Some(task) = self.probing.take() {
            task.abort();
        }
    }

    pub(super) fn status(&self) -> InstanceStatus {
        let note = &self.note;
        let mut status = InstanceStatus::new(
            self.id.clone(),
            note.ordinal,
            note.revision,
            note.template.clone(),
            note.started,
        );
        status.state = if self.leaving { InstanceState::Stopping } else { self.state };
        status.endpoint = note.port.zip(self.slot()).map(|(port, slot)| Endpoint {
            instance: self.id.clone(),
            slot,
            address: address(port),
        });
        status.restarts = self.restarts;
        status.last_exit = self.last_exit.clone();
        status.message = self.message.clone();
        status
    }

    fn slot(&self) -> Option<Slot> {
        match self.note.key.role {
            Role::Slot(slot) => Some(slot),
            _ => None,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.stop_probing();
    }
}
