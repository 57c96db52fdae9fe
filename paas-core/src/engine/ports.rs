//! What the engine works with, and what it tells.

use std::sync::Arc;

use crate::model::{AppId, AppName, OperationEvent, OperationId, Resource, TenantId};
use crate::port::{LogStore, Router, Scheduler, StateStore, Tenancy, VolumeStore};

/// The backends that the engine works with.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Runs instances.
    pub scheduler: Arc<dyn Scheduler>,
    /// Brings requests to them.
    pub router: Arc<dyn Router>,
    /// Holds their data.
    pub volumes: Arc<dyn VolumeStore>,
    /// Keeps the records.
    pub state: Arc<dyn StateStore>,
    /// Keeps log lines, for releases that end early by what is in them.
    pub log_store: Option<Arc<dyn LogStore>>,
    /// Make room for tenants.
    pub tenancies: Vec<Arc<dyn Tenancy>>,
}

/// Something that happened, as the leader tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EngineEvent {
    /// An operation of an app went on.
    #[non_exhaustive]
    Operation {
        /// Whose app.
        tenant: TenantId,
        /// The app.
        app: AppId,
        /// Its name.
        name: AppName,
        /// The operation.
        operation: OperationId,
        /// What happened.
        event: OperationEvent,
    },
    /// A service at rest, or the room of a tenant or of an environment, is not as it was applied: somebody else has changed
    /// or removed a part of it. It is put back. Told each time that it is found; the backend's log says what was changed.
    Drift(Resource),
}
