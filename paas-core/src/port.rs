//! The ports: what the platform needs of its backends, one trait each.
//!
//! Each method takes a [`Scope`](crate::model::Scope) and says in its documentation whether it is idempotent, what a
//! missing object gives and what `Ok` guarantees; the conformance suites in `paas-testkit` prove those sentences.
//! `apply` and `remove` are for desired state, `get`, `put` and `delete` for versioned bytes.

use std::fmt::Debug;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use crate::Result;
use crate::guard::Guarded;
use crate::model::{AppId, EnvironmentId, LogBatch, Resource, TenantId};

mod audit_log;
mod authorizer;
mod cluster;
mod exec;
mod log_pipeline;
mod log_queue;
mod log_source;
mod log_store;
mod notifier;
mod router;
mod scheduler;
mod secret_store;
mod state_store;
mod tenancy;
mod volume_store;

pub use audit_log::AuditLog;
pub use authorizer::{Authorizer, Decision};
pub use cluster::Cluster;
pub use exec::{EXEC_PIECE, Exec, ExecCapabilities, ExecReader, ExecResult, ExecSession, ExecWriter};
pub use log_pipeline::{LogDirectory, LogPipeline, LogPorts, LogService, LogSink};
pub use log_queue::{LogConsumer, LogQueue};
pub use log_source::LogSource;
pub use log_store::LogStore;
pub use notifier::Notifier;
pub use router::{Router, RouterCapabilities, Tls};
pub use scheduler::{Scheduler, SchedulerCapabilities};
pub use secret_store::SecretStore;
pub use state_store::{Expected, StateStore};
pub use tenancy::Tenancy;
pub use volume_store::{VolumeStore, VolumeStoreCapabilities};

#[cfg(feature = "mock")]
pub use {
    audit_log::MockAuditLog, authorizer::MockAuthorizer, cluster::MockCluster, exec::MockExec,
    log_pipeline::MockLogPipeline, log_queue::MockLogConsumer, log_queue::MockLogQueue,
    log_source::MockLogSource, log_store::MockLogStore, notifier::MockNotifier, router::MockRouter,
    scheduler::MockScheduler, secret_store::MockSecretStore, state_store::MockStateStore,
    tenancy::MockTenancy, volume_store::MockVolumeStore,
};

/// What every backend can say of itself.
#[async_trait]
pub trait Backend: Debug + Send + Sync + 'static {
    /// A short word for errors and metrics, like `memory` or `local`.
    fn name(&self) -> &'static str;

    /// Whether it can do its work now. Idempotent; changes nothing.
    ///
    /// # Errors
    /// `Unavailable` with what is missing.
    async fn check(&self) -> Result<()>;
}

/// Tells that something of an app changed, so that whoever cares looks again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// Something of this app changed.
    App(AppId),
    /// Hints may have been missed: look at everything.
    Reset,
}

/// A stream of hints. It ends when the backend goes away; readers then open it again and look at everything.
pub type Hints = BoxStream<'static, Hint>;

/// What part of all apps a call is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// Everything.
    All,
    /// One app.
    App(TenantId, EnvironmentId, AppId),
}

impl Selector {
    /// What must be covered.
    #[must_use]
    pub fn resource(&self) -> Resource {
        match self {
            Self::All => Resource::Platform,
            Self::App(tenant, environment, app) => {
                Resource::App(tenant.clone(), environment.clone(), app.clone())
            }
        }
    }

    /// Whether an app is part of it.
    #[must_use]
    pub fn selects(&self, app: &AppId) -> bool {
        match self {
            Self::All => true,
            Self::App(.., own) => own == app,
        }
    }
}

/// What all of these batches are of.
fn owner(batches: &[LogBatch]) -> Resource {
    let mut tenants = batches.iter().map(|batch| &batch.origin.tenant);
    match tenants.next() {
        Some(first) if tenants.all(|tenant| tenant == first) => Resource::Tenant(first.clone()),
        _ => Resource::Platform,
    }
}

#[async_trait]
impl<B: Backend + ?Sized> Backend for Guarded<B> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn check(&self) -> Result<()> {
        self.inner.check().await
    }
}

#[cfg(feature = "mock")]
mod mock {
    use super::{Backend, Result};

    /// What every mock says of itself, so that a test states expectations only for the port it is about.
    macro_rules! backends {
        ($($mock:ident),*) => {$(
            #[async_trait::async_trait]
            impl Backend for super::$mock {
                fn name(&self) -> &'static str {
                    "mock"
                }
                async fn check(&self) -> Result<()> {
                    Ok(())
                }
            }
        )*};
    }

    backends!(
        MockAuditLog,
        MockAuthorizer,
        MockCluster,
        MockExec,
        MockLogQueue,
        MockLogSource,
        MockLogPipeline,
        MockLogStore,
        MockNotifier,
        MockRouter,
        MockScheduler,
        MockSecretStore,
        MockStateStore,
        MockTenancy,
        MockVolumeStore
    );
}
