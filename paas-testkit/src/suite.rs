//! One suite per port. Each case is a sentence of the port's documentation.

pub mod audit_log;
pub mod authorizer;
pub mod cluster;
pub mod exec;
pub mod log_queue;
pub mod log_source;
pub mod log_store;
pub mod notifier;
pub mod router;
pub mod scheduler;
pub mod secret_store;
pub mod state_store;
pub mod tenancy;
pub mod volume_store;

/// What the stores that have no capabilities of their own are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durability {
    /// Whether what was acknowledged is still there when the same data is opened again.
    pub durable: bool,
}
