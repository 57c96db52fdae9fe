//! Conformance suites, faults and the engine simulation of the paas SDK.
#![deny(missing_docs)]
#![forbid(unsafe_code)]
