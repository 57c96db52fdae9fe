//! Turns intent into running services: pure decisions in a thin shell.
//!
//! `decide` and `desire` are pure functions of what is stored, what is observed and the time. The shell
//! (`reconcile`) loads, observes, decides, stores, and then acts; a crash between any two of these is just another
//! observation for the next pass. Events are hints to look again: a lost one costs a resync period, never correctness.

pub(crate) mod decide;
pub(crate) mod defect;
pub(crate) mod desire;
mod drift;
pub(crate) mod explain;
pub(crate) mod gate;
pub(crate) mod gc;
pub(crate) mod known;
pub(crate) mod leader;
pub(crate) mod lease;
pub(crate) mod observed;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod queue;
pub(crate) mod reconcile;
pub(crate) mod record;
mod report;
pub(crate) mod rollout;
mod room;
pub(crate) mod run;
pub(crate) mod stage;
pub(crate) mod store;
pub(crate) mod template;
mod trouble;

#[cfg(feature = "testing")]
pub use defect::Defect;
pub use explain::{Explanation, ServiceExplanation};
pub use plan::{Plan, PlanStep, Warning};
pub use ports::{EngineEvent, Ports};
pub use run::{Engine, EngineConfig};
