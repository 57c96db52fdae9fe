//! Conformance suites, faults and records for backends of the paas SDK.
//!
//! A [`Suite`] holds the cases of one port for one backend; [`run`] shows each as a test of its own, and one whose
//! capability the backend lacks as ignored. A backend's author writes a fixture and a `tests/conformance.rs`:
//!
//! ```no_run
//! use std::process::ExitCode;
//! use paas_testkit::{memory, run, suite};
//!
//! fn main() -> ExitCode {
//!     run([
//!         suite::state_store::suite("memory", memory::StateStores::default),
//!         suite::state_store::guarded("memory", memory::StateStores::default),
//!     ])
//! }
//! ```
#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod bench;
mod case;
mod conformance;
pub mod fault;
pub mod memory;
mod recorder;
pub mod simulation;
pub mod suite;
mod table;
mod world;

pub use bench::{Bench, Fixture, Pace};
pub use case::{Case, Proof, Suite, is_live};
pub use conformance::{Conformance, run};
pub use fault::{Fault, FaultPlan, Faults, Faulty};
pub use recorder::{Recorded, Recorder};
pub use world::World;
