#![doc = include_str!("../README.md")]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub use paas_core::*;

/// A Kubernetes cluster.
#[cfg(feature = "kubernetes")]
pub use paas_k8s as kubernetes;

/// One machine: keeper, processes, edge proxy, volumes, state and secrets.
#[cfg(feature = "embedded")]
pub use paas_local as local;

/// Log lines: what is done to them, who watches them, and where they are kept.
#[cfg(feature = "logs")]
pub use paas_logs as logs;

/// The book's programs are compiled with the tests.
#[cfg(all(doctest, feature = "embedded"))]
mod book {
    #[doc = include_str!("../docs/getting-started.md")]
    struct GettingStarted;
    #[doc = include_str!("../docs/backends.md")]
    struct Backends;
}
