//! What must hold, whatever happens.

use std::fmt;

/// A promise of the engine. Each is checked at every call that takes effect, unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Rule {
    /// No route is applied that leaves fewer ready endpoints than the stated floor, where there were more.
    Floor,
    /// Routes name only instances that were ready when the engine last looked.
    Ready,
    /// An instance is stopped only when no request reaches it and none is open on it.
    Drained,
    /// A request that was let in is answered, unless its instance crashed.
    Answered,
    /// No backend takes a write of a leader after one of a later term was heard of, or one without a term.
    Fenced,
    /// Every change of the leader begins a later term.
    Term,
    /// What an action serves was stored before it.
    Intent,
    /// The task before a release succeeded before the release starts instances.
    Task,
    /// A volume has one writer.
    Writer,
    /// No data goes unasked.
    Data,
    /// A revision is promoted once an operation, when every service is at it, and none that cannot run is.
    Promotion,
    /// A service stops once nothing that needs it runs, and starts once what it needs is ready.
    Order,
    /// An operation is recorded as what it came to.
    Outcome,
    /// Only people change how many replicas a service has.
    Replicas,
    /// No operation is forgotten before it is archived.
    Kept,
    /// A bounded number of calls at one moment: nobody asks again and again for nothing.
    Pace,
    /// Once trouble stops, exactly what was promoted last runs, within a bounded time and number of calls; and a sound
    /// release then succeeds.
    Rest,
    /// At rest nothing is written but the lease.
    Quiet,
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// What happened, and where it was asked for the calls that led there.
    pub text: String,
}

impl Violation {
    pub(super) fn new(rule: Rule, text: impl Into<String>) -> Self {
        Self { rule, text: text.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.text)
    }
}

impl std::error::Error for Violation {}
