//! Commands that people run in an instance.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::command::Command;
use super::limit;
use super::workload::Exit;
use crate::{Error, Result};

/// How large a terminal is, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::exhaustive_structs)] // A terminal has no third side.
pub struct TerminalSize {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// A command to run in an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecRequest {
    /// The program and its arguments, taken as they are: no shell sees them, and no variable is replaced.
    pub command: Command,
    /// Whether it gets input; without, its input is empty.
    pub input: bool,
    /// The terminal that it runs on, if any. Its errors then come with its output.
    pub terminal: Option<TerminalSize>,
    /// How long it may take; 10 minutes unless said otherwise, at most a day.
    pub deadline: Duration,
}

impl ExecRequest {
    /// A command without input and terminal.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self { command, input: false, terminal: None, deadline: Duration::from_secs(600) }
    }

    /// With input.
    #[must_use]
    pub fn with_input(self) -> Self {
        Self { input: true, ..self }
    }

    /// On a terminal of this size, with input.
    #[must_use]
    pub fn on_terminal(self, size: TerminalSize) -> Self {
        Self { input: true, terminal: Some(size), ..self }
    }

    /// Which may take this long.
    #[must_use]
    pub fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Refuses what no backend should be asked for.
    ///
    /// # Errors
    /// `Invalid` where the deadline is none, or longer than [`limit::EXEC`].
    pub fn check(&self) -> Result<()> {
        if self.deadline.is_zero() || self.deadline > limit::EXEC {
            return Err(Error::invalid("a command's deadline is more than nothing and at most a day")
                .with("seconds", self.deadline.as_secs()));
        }
        Ok(())
    }
}

/// What comes from a command. The last thing that comes is how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecOutput {
    /// Of its output.
    Stdout(Bytes),
    /// Of its errors.
    Stderr(Bytes),
    /// It has ended.
    Exit(Exit),
}

/// What goes to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExecInput {
    /// For its input.
    Stdin(Bytes),
    /// Its terminal has another size.
    Resize(TerminalSize),
}
