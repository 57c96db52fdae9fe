//! Fixtures of the memory backends: what proves them, and an example of how fixtures are written.

mod cluster;
mod exec;
mod logs;
mod notifier;
mod router;
mod scheduler;
mod stores;

pub use cluster::Clusters;
pub use exec::Execs;
pub use logs::{LogQueues, LogSources};
pub use notifier::Notifiers;
pub use router::Routers;
pub use scheduler::Schedulers;
pub use stores::{AuditLogs, Authorizers, LogStores, SecretStores, StateStores, Tenancies, VolumeStores};

use crate::{Suite, suite};

/// The suite of every port on its memory backend.
#[must_use]
pub fn suites() -> Vec<Suite> {
    vec![
        suite::audit_log::suite("memory", AuditLogs::default),
        suite::authorizer::suite("memory", Authorizers::default),
        suite::cluster::suite("memory", Clusters::default),
        suite::exec::suite("memory", Execs::default),
        suite::log_queue::suite("memory", LogQueues::default),
        suite::log_source::suite("memory", LogSources::default),
        suite::log_store::suite("memory", LogStores::default),
        suite::notifier::suite("memory", Notifiers::default),
        suite::router::suite("memory", Routers::default),
        suite::scheduler::suite("memory", Schedulers::default),
        suite::secret_store::suite("memory", SecretStores::default),
        suite::state_store::suite("memory", StateStores::default),
        suite::tenancy::suite("memory", Tenancies::default),
        suite::volume_store::suite("memory", VolumeStores::default),
    ]
}
