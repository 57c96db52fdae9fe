//! How the instances of a memory scheduler behave.

use std::time::Duration;

use crate::model::{Exit, Timestamp, Workload};

/// How an instance behaves from its start to its end. A task that is told nothing else ends with code 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behaviour {
    pub(super) startup: Option<Duration>,
    pub(super) ends: Option<Ending>,
    pub(super) stop: Duration,
    pub(super) refused: Option<String>,
}

/// An end that comes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) after: Duration,
    pub(super) code: Option<i32>,
    pub(super) reason: Option<String>,
    pub(super) last_lines: Vec<String>,
}

impl Ending {
    pub(super) fn exit(&self, at: Timestamp) -> Exit {
        let mut exit = Exit { at, ..Exit::default() };
        exit.code = self.code;
        exit.reason.clone_from(&self.reason);
        exit.last_lines.clone_from(&self.last_lines);
        exit
    }
}

impl Default for Behaviour {
    fn default() -> Self {
        Self::healthy()
    }
}

impl Behaviour {
    /// Ready after 10 ms, stops within 5 ms, never ends by itself.
    #[must_use]
    pub fn healthy() -> Self {
        Self {
            startup: Some(Duration::from_millis(10)),
            ends: None,
            stop: Duration::from_millis(5),
            refused: None,
        }
    }

    /// Starts and never becomes ready. A task runs until it is stopped.
    #[must_use]
    pub fn never_ready() -> Self {
        Self { startup: None, ..Self::healthy() }
    }

    /// Ends with this code 1 ms after each start.
    #[must_use]
    pub fn exits(code: i32) -> Self {
        let after = Duration::from_millis(1);
        let ends = Ending { after, code: Some(code), reason: None, last_lines: Vec::new() };
        Self { ends: Some(ends), ..Self::healthy() }
    }

    /// Cannot be started at all, for this reason: it goes to `Exited` and stays there.
    #[must_use]
    pub fn cannot_start(reason: impl Into<String>) -> Self {
        let reason = Some(reason.into());
        let ends = Ending { after: Duration::ZERO, code: None, reason, last_lines: Vec::new() };
        Self { ends: Some(ends), ..Self::healthy() }
    }

    /// Cannot even be made, for this reason, as where a quota is used up: the workload has no instance.
    #[must_use]
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { refused: Some(reason.into()), ..Self::healthy() }
    }

    /// Becomes ready this long after its start.
    #[must_use]
    pub fn with_startup(self, startup: Duration) -> Self {
        Self { startup: Some(startup), ..self }
    }

    /// One that ends by itself does so this long after each start; after its startup, it has been ready before.
    #[must_use]
    pub fn with_exit_after(mut self, after: Duration) -> Self {
        if let Some(ends) = &mut self.ends {
            ends.after = after;
        }
        self
    }

    /// What one that ends by itself wrote last.
    #[must_use]
    pub fn with_last_lines<I: IntoIterator<Item: Into<String>>>(mut self, lines: I) -> Self {
        if let Some(ends) = &mut self.ends {
            ends.last_lines = lines.into_iter().map(Into::into).collect();
        }
        self
    }

    /// Takes this long to end once asked to; it is killed after the template's grace at the latest.
    #[must_use]
    pub fn with_stop(self, stop: Duration) -> Self {
        Self { stop, ..self }
    }

    /// A task ends by itself once it has done its work.
    pub(super) fn of(self, workload: &Workload) -> Self {
        match (self.startup, &self.ends) {
            (Some(startup), None) if workload.is_task() => {
                Self { stop: self.stop, ..Self::exits(0) }.with_startup(startup).with_exit_after(startup)
            }
            _ => self,
        }
    }
}
