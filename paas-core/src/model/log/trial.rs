//! What rules do, and what they would do.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::filter::Level;
use crate::model::time::Timestamp;

/// What a rule does with lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogRuleKind {
    /// It reads the fields of lines.
    Parse,
    /// It gives fields other names.
    Rename,
    /// It adds fields to lines.
    Add,
    /// It leaves lines out.
    Drop,
    /// It leaves all but a share of some lines out.
    Sample,
    /// It has lines stored elsewhere.
    Route,
    /// It takes something out of lines.
    Redact,
    /// It cuts lines that are too long.
    Cut,
}

/// What a rule has done to the stored lines of a service since this process began to take them in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogRuleCount {
    /// What it does.
    pub kind: LogRuleKind,
    /// Its query, or its name.
    pub rule: String,
    /// Lines that it read, changed, left out, cut or sent elsewhere, or parts of lines that it took out.
    pub count: u64,
    /// How long it took to look through all lines, as measured on some; zero for queries, which are looked for together.
    pub cost: Duration,
}

/// What becomes of a line by some rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LogTrial {
    /// The event: a line, or several that the rules join.
    pub before: String,
    /// What is left of it; nothing where it is left out.
    pub after: Option<String>,
    /// How grave it is taken to be.
    pub level: Option<Level>,
    /// When it is taken to be written, where it says so.
    pub time: Option<Timestamp>,
    /// What is known of it beside its bytes, by name.
    pub fields: BTreeMap<String, String>,
    /// Where it is stored, unless that is the platform's log store.
    pub to: Option<String>,
}

impl LogRuleCount {
    /// What a rule has done.
    #[must_use]
    pub fn new(kind: LogRuleKind, rule: String, count: u64, cost: Duration) -> Self {
        Self { kind, rule, count, cost }
    }
}

impl LogTrial {
    /// What becomes of a line.
    #[must_use]
    pub fn new(before: String, after: Option<String>, level: Option<Level>) -> Self {
        Self { before, after, level, time: None, fields: BTreeMap::new(), to: None }
    }
}
