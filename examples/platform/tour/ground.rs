//! What differs between the places where the tour's platform can be.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;

use super::Outcome;
use crate::load::{Service, Target, Trouble};

/// A service of the shop, as a status names it.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) name: String,
    pub(super) id: String,
}

/// What can be expected of a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// The service that is released by canaries.
    pub(super) canary: Service,
    /// Whether a release can be given up by the errors of its requests.
    pub(super) counts_errors: bool,
    /// The services of which an instance is killed, and what may go wrong then.
    pub(super) victims: &'static [&'static str],
    pub(super) lost: Trouble,
    /// The least requests of a step, and of the tour.
    pub(super) step: u64,
    pub(super) total: u64,
    /// Over how many answers the share of a canary is measured.
    pub(super) measured: u64,
    /// How long the tour may take.
    pub(super) tour: Duration,
    /// For how long nobody else must have answered until a change of routes counts as seen by everybody.
    pub(super) quiet: Duration,
    /// How long a platform may take to be ready, and a route to be changed.
    pub(super) ready: Duration,
    pub(super) route: Duration,
}

/// The place where the platform runs its apps.
#[async_trait(?Send)]
pub(super) trait Ground {
    fn bounds(&self) -> Bounds;

    /// What it is called at the beginning.
    fn describe(&self) -> String;

    /// What the platform is started with.
    fn arguments(&self) -> Vec<String>;

    /// Where the shop's requests go; the platform says an address where it has one.
    fn target(&self, address: Option<&str>) -> Outcome<Target>;

    /// What runs of a service and has not been asked to end, each by a name that no other ever has.
    async fn instances(&self, service: &Known) -> Outcome<BTreeSet<String>>;

    /// Ends an instance without asking the platform.
    async fn kill(&self, instance: &str) -> Outcome;

    /// Whatever is left of the platform and its apps.
    async fn leftovers(&self) -> Outcome<BTreeSet<String>>;

    /// Removes what a platform that has ended leaves on purpose.
    async fn clear(&self) -> Outcome;

    /// What a person would look at where something went wrong.
    async fn picture(&self) -> Vec<String>;
}
