//! One backend per port that lives in memory: the reference of what a port means, and a company's test double.
//!
//! They pass the conformance suites of `paas-testkit`, keep everything in sorted maps, start no threads, and take
//! their time from tokio's clock, so that a test with a paused clock repeats exactly. Every type is a handle: a
//! clone shares the state, so a test can hand one to the platform and turn the knobs of the other.

mod audit_log;
mod authorizer;
mod cluster;
mod exec;
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

pub use audit_log::MemoryAuditLog;
pub use authorizer::MemoryAuthorizer;
pub use cluster::{MemoryCluster, Placement};
pub use exec::{MemoryExec, Reply};
pub use log_queue::MemoryLogQueue;
pub use log_source::MemoryLogSource;
pub use log_store::MemoryLogStore;
pub use notifier::MemoryNotifier;
pub use router::{MemoryRouter, OpenRequest};
pub use scheduler::{Behaviour, MemoryScheduler, VolumeConflict};
pub use secret_store::MemorySecretStore;
pub use state_store::MemoryStateStore;
pub use tenancy::MemoryTenancy;
pub use volume_store::MemoryVolumeStore;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks what no panic can leave half changed for longer than its test.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The `n`th of the loopback addresses that begin at `from`: 50,000 ports of each host, one host after the other.
fn loopback(from: u16, n: u32) -> SocketAddr {
    const FIRST: u32 = 10_000;
    const PORTS: u32 = 50_000;
    let host = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + n / PORTS);
    let port = FIRST + (u32::from(from).saturating_sub(FIRST) + n) % PORTS;
    SocketAddr::from((host, u16::try_from(port).unwrap_or(u16::MAX)))
}

/// Implements [`Backend`](crate::port::Backend) for handles that are always there.
macro_rules! backends {
    ($($name:ident),*) => {$(
        #[async_trait::async_trait]
        impl crate::port::Backend for $name {
            fn name(&self) -> &'static str {
                "memory"
            }
            async fn check(&self) -> crate::Result<()> {
                Ok(())
            }
        }
    )*};
}

backends!(
    MemoryAuditLog,
    MemoryAuthorizer,
    MemoryCluster,
    MemoryExec,
    MemoryLogQueue,
    MemoryLogSource,
    MemoryLogStore,
    MemoryNotifier,
    MemoryRouter,
    MemoryScheduler,
    MemorySecretStore,
    MemoryStateStore,
    MemoryTenancy,
    MemoryVolumeStore
);

#[cfg(test)]
mod tests {
    use super::loopback;

    #[test]
    fn loopback_addresses_are_unique() {
        let addresses: std::collections::BTreeSet<_> = (0..120_000).map(|n| loopback(20_000, n)).collect();
        assert_eq!(addresses.len(), 120_000);
    }
}
