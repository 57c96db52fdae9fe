//! The engine on memory backends with a paused clock, under random people and random trouble.
//!
//! A seed makes an app, a sequence of what people do to it, clients that send requests, and trouble: calls that fail
//! before or after they took effect, come late or never answer; hints that are lost, doubled, late or out of order;
//! instances that crash; a scheduler that forgets; and two replicas of the platform, each of which dies between any two
//! calls, or in one that arrives long after its death, or is suspended and goes on as if nothing had happened. At every
//! call that takes effect each [`Rule`] is checked. Once trouble stops, exactly what was promoted last must run, and the
//! next sound release must succeed.

mod app;
mod client;
mod intent;
mod oracle;
mod people;
mod replica;
mod rng;
mod rule;
mod trouble;
mod wire;
mod world;

use paas_core::engine::Defect;
pub use rule::{Rule, Violation};
use world::World;

/// One seed's run.
#[derive(Clone, Copy, Debug)]
pub struct Simulation {
    seed: u64,
    defect: Option<Defect>,
    native: bool,
    trace: bool,
}

/// What a seed came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Faults that struck.
    pub faults: u64,
    /// Replicas that died.
    pub crashes: u64,
    /// Replicas that were suspended.
    pub suspensions: u64,
    /// Releases that people asked for.
    pub deploys: u64,
    /// Processes that were started.
    pub started: u64,
    /// Calls of the engine, in all.
    pub calls: u64,
    /// Calls from the end of trouble to rest.
    pub calls_to_rest: u64,
}

impl Simulation {
    /// The run of a seed: the same each time.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, defect: None, native: false, trace: false }
    }

    /// The same with a bug in the engine, which some seed must find.
    #[must_use]
    pub fn with_defect(self, defect: Defect) -> Self {
        Self { defect: Some(defect), ..self }
    }

    /// The same on a scheduler that rolls by itself. What it stops it also drains, so [`Rule::Drained`] and
    /// [`Rule::Answered`] are its own to keep.
    #[must_use]
    pub fn natively(self) -> Self {
        Self { native: true, ..self }
    }

    /// The same, remembering the calls that led to a violation.
    #[must_use]
    pub fn traced(self) -> Self {
        Self { trace: true, ..self }
    }

    /// Runs it, on a clock of its own: minutes take milliseconds.
    ///
    /// # Errors
    /// The first rule that did not hold.
    pub fn run(self) -> Result<Outcome, Violation> {
        match self.defect {
            Some(defect) => defect.during(|| self.live()),
            None => self.live(),
        }
    }

    fn live(self) -> Result<Outcome, Violation> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let broken = |error: &dyn std::fmt::Display| Violation::new(Rule::Rest, error.to_string());
        let runtime = runtime.map_err(|error| broken(&error))?;
        runtime.block_on(async {
            let mut world = World::new(self).await.map_err(|error| broken(&error))?;
            world.live().await?;
            world.rest().await
        })
    }
}
