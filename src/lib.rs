//! An embeddable SDK for building PaaS platforms.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub use paas_core::*;

/// One machine: keeper, processes, edge proxy, volumes, state and secrets.
#[cfg(feature = "embedded")]
pub use paas_local as local;
