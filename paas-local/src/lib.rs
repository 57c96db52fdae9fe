//! One machine as a PaaS: keeper, processes, edge proxy, volumes, redb state, encrypted secrets.
#![deny(missing_docs)]
#![forbid(unsafe_code)]

pub mod edge;
pub mod keeper;
