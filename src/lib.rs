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

/// The book's programs are compiled with the tests.
#[cfg(all(doctest, feature = "embedded"))]
mod book {
    #[doc = include_str!("../docs/getting-started.md")]
    struct GettingStarted;
    #[doc = include_str!("../docs/backends.md")]
    struct Backends;
}
