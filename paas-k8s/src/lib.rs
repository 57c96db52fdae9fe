//! Kubernetes backends: the same platform, on a cluster.
//!
//! Everything goes through one [`Connection`] to an API server; it needs no custom resource definition and no agent in
//! the cluster. What belongs to the platform itself lives in one namespace, what belongs to a tenant in namespaces of
//! that tenant; every object carries labels that say whose it is.
#![forbid(unsafe_code)]

mod answer;
mod apply;
mod backends;
mod cluster;
mod connection;
mod error;
mod export;
mod follow;
#[cfg(test)]
mod golden;
mod index;
mod label;
mod list;
mod log;
mod patience;
mod pause;
pub mod policy;
mod quantity;
mod rbac;
mod router;
mod scheduler;
mod secret;
mod state;
mod tenancy;
mod volume;
mod watch;
mod yaml;

pub use backends::{BackendsConfig, KubeBackends};
pub use cluster::KubeCluster;
pub use connection::{Connection, ConnectionConfig};
pub use export::KubeExport;
pub use label::namespace;
pub use log::{KubeLogSource, LogsConfig};
pub use rbac::Rbac;
pub use router::{GatewayRouter, IngressClass, RouterConfig};
pub use scheduler::{KubeScheduler, SchedulerConfig};
pub use secret::KubeSecretStore;
pub use state::KubeStateStore;
pub use tenancy::{Destination, Dns, KubeTenancy, TenancyConfig};
pub use volume::{KubeVolumes, VolumesConfig};
