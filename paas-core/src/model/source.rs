//! What runs.

use serde::{Deserialize, Serialize};

use super::command::Command;

/// One way to run a service. A service may give several; a scheduler takes one that it supports.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Source {
    /// A program on the host.
    Run(Command),
    /// A container image, started with its own entry point.
    Image(String),
    /// A folder that is built into an image first.
    Build(String),
}

impl Source {
    /// The word that stands for it in an app file.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Image(_) => "image",
            Self::Build(_) => "build",
        }
    }
}
