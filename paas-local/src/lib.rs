//! One machine as a PaaS: keeper, processes, edge proxy, volumes, redb state, encrypted secrets.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod audit;
mod batch;
mod data_dir;
mod database;
mod error;
mod fence;
mod file;
mod secret;
mod state;
mod tenancy;
#[cfg(test)]
mod testing;
mod volume;

pub use audit::FileAuditLog;
pub use data_dir::DataDir;
pub use secret::EncryptedSecretStore;
pub use state::RedbStateStore;
pub use tenancy::DirectoryTenancy;
pub use volume::DirectoryVolumeStore;
