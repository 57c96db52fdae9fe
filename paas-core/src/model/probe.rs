//! How the platform asks an instance whether it is ready, and whether it lives.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use super::command::Command;
use super::name::excerpt;
use super::quantity::duration;
use crate::{Error, Result};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// `GET` of this path on the service's port answers 200 to 399.
    Http(String),
    /// The service's port accepts a connection.
    Tcp,
    /// This command, run beside the instance with its environment, exits 0.
    Command(Command),
}

/// A check and how often it is made. In an app file a text that begins with `/` is an HTTP check of that path, and
/// `tcp` is a TCP check.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(into = "ProbeForm")]
#[non_exhaustive]
pub struct Probe {
    /// What is asked.
    pub check: Check,
    /// Time between two checks.
    pub every: Duration,
    /// How long one check may take.
    pub timeout: Duration,
    /// How many checks in a row must fail before the instance counts as unready (or, for liveness, is restarted).
    pub failures: u32,
}

impl Probe {
    /// A check made each second, with a second to answer; three failures in a row count.
    ///
    /// # Errors
    /// `Invalid` where an HTTP path does not begin with `/` or holds white space or control characters.
    pub fn new(check: Check) -> Result<Self> {
        let second = Duration::from_secs(1);
        Self { check, every: second, timeout: second, failures: 3 }.checked()
    }

    fn checked(self) -> Result<Self> {
        const LEAST: Duration = Duration::from_millis(50);
        const MOST: Duration = Duration::from_secs(3_600);
        if let Check::Http(path) = &self.check
            && (!path.starts_with('/') || path.len() > 1_024 || !path.bytes().all(|b| b.is_ascii_graphic()))
        {
            return Err(Error::invalid(
                "a probe's path begins with `/` and is printable ASCII without spaces",
            )
            .with("path", excerpt(path)));
        }
        if !(LEAST..=MOST).contains(&self.every) || !(LEAST..=MOST).contains(&self.timeout) {
            return Err(Error::invalid("`every` and `timeout` of a probe are between 50ms and 1h"));
        }
        if !(1..=100).contains(&self.failures) {
            return Err(Error::invalid("`failures` of a probe is between 1 and 100"));
        }
        Ok(self)
    }
}

/// The map in an app file.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
struct ProbeForm {
    /// Path of an HTTP check.
    #[serde(skip_serializing_if = "Option::is_none")]
    http: Option<String>,
    /// `true` for a TCP check.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tcp: bool,
    /// Command of a command check.
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<Command>,
    /// Time between two checks; 1s.
    #[serde(default = "second", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    every: Duration,
    /// How long one check may take; 1s.
    #[serde(default = "second", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    timeout: Duration,
    /// How many checks in a row must fail; 3.
    #[serde(default = "three", deserialize_with = "super::form::failures")]
    #[schemars(range(min = 1, max = 100))]
    failures: u32,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

fn three() -> u32 {
    3
}

impl TryFrom<ProbeForm> for Probe {
    type Error = Error;
    fn try_from(form: ProbeForm) -> Result<Self> {
        let mut checks =
            [form.http.map(Check::Http), form.tcp.then_some(Check::Tcp), form.command.map(Check::Command)]
                .into_iter()
                .flatten();
        match (checks.next(), checks.next()) {
            (Some(check), None) => {
                Probe { check, every: form.every, timeout: form.timeout, failures: form.failures }.checked()
            }
            _ => Err(Error::invalid("a probe has exactly one of `http`, `tcp` and `command`")),
        }
    }
}

impl From<Probe> for ProbeForm {
    fn from(probe: Probe) -> Self {
        let (http, tcp, command) = match probe.check {
            Check::Http(path) => (Some(path), false, None),
            Check::Tcp => (None, true, None),
            Check::Command(command) => (None, false, Some(command)),
        };
        Self { http, tcp, command, every: probe.every, timeout: probe.timeout, failures: probe.failures }
    }
}

impl std::str::FromStr for Probe {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "tcp" => Self::new(Check::Tcp),
            path if path.starts_with('/') => Self::new(Check::Http(path.to_owned())),
            other => Err(Error::invalid("a probe is a path that begins with `/`, the word `tcp`, or a map")
                .with("found", excerpt(other))),
        }
    }
}

impl<'de> Deserialize<'de> for Probe {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        super::form::text_or_map::<ProbeForm, Self, D>(
            deserializer,
            "a path that begins with `/` (printable ASCII, no spaces), the word `tcp`, or a map",
        )
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.check {
            Check::Http(path) => write!(f, "GET {path}"),
            Check::Tcp => f.write_str("a TCP connection"),
            Check::Command(command) => write!(f, "command {:?}", command.arguments()),
        }
    }
}

impl schemars::JsonSchema for Probe {
    fn schema_name() -> Cow<'static, str> {
        "Probe".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let form = ProbeForm::json_schema(generator);
        schemars::json_schema!({
            "description": "a path for an HTTP check, the word `tcp`, or the long form",
            "oneOf": [{ "type": "string", "pattern": "^(/.*|tcp)$" }, form],
        })
    }
}
