//! What the engine works with, and what it tells.

use std::sync::Arc;

use crate::model::{AppId, AppName, OperationEvent, OperationId, TenantId};
use crate::port::{Router, Scheduler, StateStore, Tenancy, VolumeStore};

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
    /// Make room for tenants.
    pub tenancies: Vec<Arc<dyn Tenancy>>,
}

/// Something that happened in an operation, as the leader tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineEvent {
    /// Whose app.
    pub tenant: TenantId,
    /// The app.
    pub app: AppId,
    /// Its name.
    pub name: AppName,
    /// The operation.
    pub operation: OperationId,
    /// What happened.
    pub event: OperationEvent,
}
