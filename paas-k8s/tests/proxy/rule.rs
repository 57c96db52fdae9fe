//! What goes wrong, and with which calls.

use std::time::Duration;

use super::Call;

/// What happens to a call instead of what should.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is passed on so much later.
    Delay(Duration),
    /// It is never passed on; this is the answer: status, seconds of `Retry-After`, message.
    Answer(u16, Option<u32>, &'static str),
    /// It is passed on, and its answer is lost with the connection.
    Lose,
    /// It is kept until it is let go, and passed on then, whether or not anybody still waits for the answer.
    Hold,
    /// It is never answered, and the connection stays.
    Silence,
    /// The answer, which is a watch, breaks off after so many events.
    Cut(usize),
    /// The answer breaks off after so many bytes.
    Tear(usize),
    /// The answer, which is a watch, is let begin, and then nothing comes any more, not even a bookmark.
    Hang,
    /// The answer, which is a watch, ends after so many events because what it goes on from is forgotten.
    Forget(usize),
}

/// Which calls, what happens to them, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    verbs: &'static [&'static str],
    /// Empty for all.
    resources: &'static [&'static str],
    pub(super) fault: Fault,
    /// How many calls more, where there is an end to it.
    pub(super) left: Option<usize>,
    /// Of so many calls, the last.
    every: usize,
    /// How many calls it covers were let through since.
    passed: usize,
}

pub(crate) const ALL: &[&str] = &[];
pub(crate) const WRITES: &[&str] = &["create", "update", "patch", "delete", "deletecollection"];
pub(crate) const WATCHES: &[&str] = &["watch"];

impl Rule {
    pub(crate) fn new(verbs: &'static [&'static str], fault: Fault) -> Self {
        Self { verbs, resources: ALL, fault, left: None, every: 1, passed: 0 }
    }

    /// Of calls about these resources only.
    pub(crate) fn about(self, resources: &'static [&'static str]) -> Self {
        Self { resources, ..self }
    }

    /// Of so many calls only.
    pub(crate) fn times(self, times: usize) -> Self {
        Self { left: Some(times), ..self }
    }

    /// Of each so many calls the last only.
    pub(crate) fn every(self, every: usize) -> Self {
        Self { every, ..self }
    }

    /// Whether this call is one that it strikes; counts it.
    pub(super) fn strikes(&mut self, call: &Call) -> bool {
        if !self.covers(call) {
            return false;
        }
        self.passed = (self.passed + 1) % self.every;
        let strikes = self.passed == 0;
        self.left = self.left.map(|left| left - usize::from(strikes));
        strikes
    }

    fn covers(&self, call: &Call) -> bool {
        let within = |all: &[&str], word: &str| all.is_empty() || all.contains(&word);
        within(self.verbs, call.verb) && within(self.resources, &call.resource) && self.left != Some(0)
    }
}
