//! Bugs on purpose: a simulation is trusted only if it catches them.
//!
//! Each is a place in the engine that asks [`has`]. Without the feature `testing` the answer is a constant, and the
//! compiler drops the bug.

/// A bug that can be switched on for the engines of one thread, with the feature `testing`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(not(feature = "testing"), expect(unreachable_pub, reason = "the feature exports it"))]
pub enum Defect {
    /// Calls carry no term, so that nobody can refuse those of a leader whose term is over.
    FencingSkipped,
    /// A new leader takes over the term of the one before.
    TermReused,
    /// Actions come before the decision behind them is stored.
    IntentStoredLate,
    /// Instances are stopped while requests are open on them.
    DrainSkipped,
    /// Instances are stopped while requests still reach them.
    StoppedWhileRouted,
    /// More instances are taken away at once than a release promises.
    FloorIgnored,
    /// Requests are sent to instances that are not ready.
    RoutedBeforeReady,
    /// A revision is promoted each time that somebody looks.
    PromotedTwice,
    /// A failed release returns only the service that failed.
    PartialRollback,
    /// Stopping an app forgets how many replicas it had.
    ReplicasForgotten,
    /// The task before a release is passed over.
    TaskSkipped,
    /// Both slots of a service get its volume.
    VolumeShared,
    /// Services are stopped whether others need them or not.
    OrderIgnored,
    /// A release that failed is recorded as one that succeeded.
    OutcomeMisstated,
    /// An operation that has ended leaves the app's record before it is archived.
    OperationLost,
}

#[cfg(feature = "testing")]
mod switch {
    use std::cell::Cell;

    use super::Defect;

    thread_local!(static SEEDED: Cell<Option<Defect>> = const { Cell::new(None) });

    impl Defect {
        /// All of them.
        pub const ALL: [Self; 15] = [
            Self::FencingSkipped,
            Self::TermReused,
            Self::IntentStoredLate,
            Self::DrainSkipped,
            Self::StoppedWhileRouted,
            Self::FloorIgnored,
            Self::RoutedBeforeReady,
            Self::PromotedTwice,
            Self::PartialRollback,
            Self::ReplicasForgotten,
            Self::TaskSkipped,
            Self::VolumeShared,
            Self::OrderIgnored,
            Self::OutcomeMisstated,
            Self::OperationLost,
        ];

        /// Runs `work` with this bug in every engine of the current thread.
        pub fn during<T>(self, work: impl FnOnce() -> T) -> T {
            /// Takes the bug out again, whatever becomes of the work.
            struct Mended;
            impl Drop for Mended {
                fn drop(&mut self) {
                    SEEDED.set(None);
                }
            }
            let _mended = Mended;
            SEEDED.set(Some(self));
            work()
        }
    }

    pub(crate) fn has(defect: Defect) -> bool {
        SEEDED.get() == Some(defect)
    }
}

#[cfg(feature = "testing")]
pub(crate) use switch::has;

/// Whether a bug is switched on.
#[cfg(not(feature = "testing"))]
pub(crate) const fn has(_: Defect) -> bool {
    false
}
