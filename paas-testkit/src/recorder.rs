//! Remembers calls, for tests that ask what was called, in which order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use paas_core::guard::{Call, Interceptor};
use paas_core::{Error, ErrorKind};

/// A call that ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recorded {
    /// Who called what.
    pub call: Call,
    /// The kind of its error, if it failed.
    pub error: Option<ErrorKind>,
    /// How long it took, retries included.
    pub elapsed: Duration,
}

impl Recorded {
    /// Port and method, like `scheduler.apply`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.call.port, self.call.op)
    }
}

/// An interceptor that remembers every call once it has ended. A clone shares the memory: give one to the guard.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    calls: Arc<Mutex<Vec<Recorded>>>,
}

impl Recorder {
    /// Nothing recorded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every call, in the order of their ends.
    #[must_use]
    pub fn calls(&self) -> Vec<Recorded> {
        self.lock().clone()
    }

    /// The names of the calls, like `scheduler.apply`.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().iter().map(Recorded::name).collect()
    }

    /// How often a method was called.
    #[must_use]
    pub fn count(&self, name: &str) -> usize {
        self.lock().iter().filter(|call| call.name() == name).count()
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.lock().clear();
    }

    /// Asserts that these calls were made in this order, whatever else was called in between.
    ///
    /// # Panics
    /// Where they were not.
    #[track_caller]
    pub fn assert_in_order(&self, expected: &[&str]) {
        let names = self.names();
        let mut wanted = expected.iter().peekable();
        for name in &names {
            wanted.next_if(|wanted| **wanted == name);
        }
        assert!(wanted.peek().is_none(), "expected {expected:?} in order, recorded {names:?}");
    }

    /// Asserts that a method was never called.
    ///
    /// # Panics
    /// Where it was.
    #[track_caller]
    pub fn assert_never(&self, name: &str) {
        assert_eq!(self.count(name), 0, "{name} was called: {:?}", self.names());
    }
}

impl Interceptor for Recorder {
    fn after(&self, call: &Call, elapsed: Duration, outcome: Result<(), &Error>) {
        let error = outcome.err().map(Error::kind);
        self.lock().push(Recorded { call: call.clone(), error, elapsed });
    }
}

#[cfg(test)]
mod tests {
    use paas_core::memory::MemoryTenancy;
    use paas_core::model::{Action, Resource, Scope};
    use paas_core::port::Tenancy;
    use paas_core::{Guard, Guarded};

    use super::*;
    use crate::World;

    #[tokio::test]
    async fn calls_are_recorded_in_order_with_their_outcome() {
        let (recorder, world) = (Recorder::new(), World::new());
        let guard = Guard::default().interceptor(recorder.clone());
        let tenancy = Guarded::new(guard, Arc::new(MemoryTenancy::new()));
        tenancy.list(&world.platform()).await.unwrap();
        tenancy.remove(&world.platform(), &world.tenant).await.unwrap();
        let reader = Scope::testing_only(Resource::Platform, &[Action::Read]);
        tenancy.remove(&reader, &world.tenant).await.unwrap_err();
        assert_eq!(recorder.names(), ["tenancy.list", "tenancy.remove"]);
        recorder.assert_in_order(&["tenancy.list", "tenancy.remove"]);
        recorder.assert_never("scheduler.apply");
        assert!(
            std::panic::catch_unwind(|| recorder.assert_in_order(&["tenancy.remove", "tenancy.list"]))
                .is_err()
        );
    }
}
