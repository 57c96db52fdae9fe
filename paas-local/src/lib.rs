//! One machine as a PaaS: keeper, processes, edge proxy, volumes, redb state, encrypted secrets.
//!
//! Three roles of one program: the platform decides, the [`keeper`] holds processes and sockets, the [`edge`] carries
//! requests. [`main`] runs the company's own program in the role it was started for; [`LocalMachine`] starts or
//! re-joins the other two and hands out a backend for every port.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod edge;
pub mod keeper;

mod audit;
mod batch;
mod data_dir;
mod database;
mod error;
mod file;
mod log_source;
mod machine;
mod role;
mod router;
mod scheduler;
mod secret;
mod state;
mod tenancy;
#[cfg(test)]
mod testing;
mod volume;

pub use audit::FileAuditLog;
pub use data_dir::DataDir;
pub use log_source::LocalLogSource;
pub use machine::{LocalConfig, LocalMachine};
pub use role::{main, run_if_asked};
pub use router::LocalRouter;
pub use scheduler::LocalScheduler;
pub use secret::EncryptedSecretStore;
pub use state::RedbStateStore;
pub use tenancy::DirectoryTenancy;
pub use volume::DirectoryVolumeStore;
