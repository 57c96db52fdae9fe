//! A release as people write it.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error as _, IntoDeserializer, MapAccess};
use serde::{Deserialize, Deserializer, Serialize};

use super::{AbortRule, HeaderMatch, Release, Strategy};
use crate::model::filter::LogFilter;
use crate::model::quantity::{Percent, TextVisitor, duration};
use crate::{Error, Result};

/// `> 1%`: the condition that something is above a bound.
struct Above<T>(T);

/// What can stand in an [`Above`].
trait Bound: Sized {
    const EXPECTED: &'static str;
    fn read(text: &str) -> Result<Self>;
    fn written(&self) -> String;
}

impl Bound for Percent {
    const EXPECTED: &'static str = "a bound like `> 1%`";
    fn read(text: &str) -> Result<Self> {
        text.parse()
    }
    fn written(&self) -> String {
        self.to_string()
    }
}

impl Bound for Duration {
    const EXPECTED: &'static str = "a bound like `> 300ms`";
    fn read(text: &str) -> Result<Self> {
        duration::parse(text)
    }
    fn written(&self) -> String {
        humantime::format_duration(*self).to_string()
    }
}

impl<T: Bound> FromStr for Above<T> {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let bound = text.trim().strip_prefix('>').map(|rest| T::read(rest.trim()));
        bound.and_then(Result::ok).map(Self).ok_or_else(|| Error::invalid(T::EXPECTED))
    }
}

impl<'de, T: Bound> Deserialize<'de> for Above<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextVisitor(T::EXPECTED, PhantomData))
    }
}

impl<T: Bound> Serialize for Above<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("> {}", self.0.written()))
    }
}

impl<T: Bound> schemars::JsonSchema for Above<T> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Above".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^ *>", "description": T::EXPECTED })
    }
}

/// A rule as people write it: `errors: "> 1%"` or `latency: "> 300ms"`.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct RuleForm {
    /// Share of failed requests, like `> 1%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<Above<Percent>>,
    /// Median latency, like `> 300ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Above<Duration>>,
    /// A query for log lines of the new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    log: Option<LogFilter>,
    /// How many of them end the release; 1 where nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    count: Option<u32>,
    /// In which length of time; a minute where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    within: Option<Length>,
}

impl TryFrom<RuleForm> for AbortRule {
    type Error = Error;
    fn try_from(form: RuleForm) -> Result<Self> {
        match form {
            RuleForm { errors: Some(errors), latency: None, log: None, count: None, within: None } => {
                Ok(Self::Errors(errors.0))
            }
            RuleForm { errors: None, latency: Some(latency), log: None, count: None, within: None } => {
                Ok(Self::Latency(latency.0))
            }
            RuleForm { errors: None, latency: None, log: Some(filter), count, within } => {
                let within = within.map_or(Duration::from_secs(60), |length| length.0);
                Self::log(filter, count.unwrap_or(1), within)
            }
            _ => Err(Error::invalid(
                "an abort rule has one of `errors`, `latency` and `log` (with `count` and `within`); write several as several items",
            )),
        }
    }
}

impl From<AbortRule> for RuleForm {
    fn from(rule: AbortRule) -> Self {
        let none = Self { errors: None, latency: None, log: None, count: None, within: None };
        match rule {
            AbortRule::Errors(share) => Self { errors: Some(Above(share)), ..none },
            AbortRule::Latency(limit) => Self { latency: Some(Above(limit)), ..none },
            AbortRule::Log { filter, count, within } => {
                Self { log: Some(filter), count: Some(count), within: Some(Length(within)), ..none }
            }
        }
    }
}

/// The word of a strategy.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(inline)]
enum Word {
    Rolling,
    Recreate,
    Ordered,
    BlueGreen,
    Canary,
}

impl Word {
    fn strategy(self, steps: Option<Vec<Percent>>) -> Result<Strategy> {
        match (self, steps) {
            (Self::Canary, Some(steps)) => Ok(Strategy::Canary { steps }),
            (Self::Canary, None) => {
                Err(Error::invalid("a canary needs its steps: `release: { canary: [5%, 25%, 50%] }`"))
            }
            (_, Some(_)) => {
                Err(Error::invalid("only the strategy `canary` has `canary` steps; give one of the two"))
            }
            (Self::Rolling, None) => Ok(Strategy::Rolling),
            (Self::Recreate, None) => Ok(Strategy::Recreate),
            (Self::Ordered, None) => Ok(Strategy::Ordered),
            (Self::BlueGreen, None) => Ok(Strategy::BlueGreen),
        }
    }
}

/// The map in an app file.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct ReleaseForm {
    /// `rolling`, `recreate`, `ordered` or `blue-green`; for a canary give `canary` instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    strategy: Option<Word>,
    /// The steps of a canary, like `[5%, 25%, 50%]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    canary: Option<Vec<Percent>>,
    /// How long each step is held.
    #[serde(default, with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    every: Duration,
    /// Whether each step waits for an approval.
    #[serde(default)]
    approve: bool,
    /// Requests with this header reach the new revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    header: Option<HeaderMatch>,
    /// `cookie`, or a cookie's name: keeps a client on one slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<String>,
    /// What ends the release early.
    #[serde(default)]
    #[schemars(with = "Vec<RuleForm>")]
    abort_if: Vec<AbortRule>,
    /// How long the old slot stays ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    warm: Option<Length>,
    /// How many instances more a rolling release may run.
    #[serde(skip_serializing_if = "Option::is_none")]
    surge: Option<Percent>,
    /// How long new instances may take to become ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Length>,
}

#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
struct Length(
    #[serde(with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    Duration,
);

impl TryFrom<ReleaseForm> for Release {
    type Error = Error;
    fn try_from(form: ReleaseForm) -> Result<Self> {
        let word = form.strategy.unwrap_or(if form.canary.is_some() { Word::Canary } else { Word::Rolling });
        let shape = word.strategy(form.canary)?;
        let base = Self::new(shape)?;
        Self {
            every: form.every,
            approve: form.approve,
            header: form.header,
            sticky: form.sticky.map(|name| if name == "cookie" { "paas-slot".to_owned() } else { name }),
            abort_if: form.abort_if,
            warm: form.warm.map_or(base.warm, |warm| warm.0),
            surge: form.surge.unwrap_or(base.surge),
            deadline: form.deadline.map_or(base.deadline, |deadline| deadline.0),
            ..base
        }
        .checked()
    }
}

impl FromStr for Release {
    type Err = Error;
    fn from_str(word: &str) -> Result<Self> {
        let word: StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
        let word = Word::deserialize(word).map_err(|error| Error::invalid(error.to_string()))?;
        Self::new(word.strategy(None)?)
    }
}

impl From<Release> for ReleaseForm {
    fn from(release: Release) -> Self {
        let (strategy, canary) = match release.strategy {
            Strategy::Canary { steps } => (None, Some(steps)),
            Strategy::Rolling => (Some(Word::Rolling), None),
            Strategy::Recreate => (Some(Word::Recreate), None),
            Strategy::Ordered => (Some(Word::Ordered), None),
            Strategy::BlueGreen => (Some(Word::BlueGreen), None),
        };
        Self {
            strategy,
            canary,
            every: release.every,
            approve: release.approve,
            header: release.header,
            sticky: release.sticky,
            abort_if: release.abort_if,
            warm: Some(Length(release.warm)),
            surge: Some(release.surge),
            deadline: Some(Length(release.deadline)),
        }
    }
}

impl<'de> Deserialize<'de> for Release {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Release;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the word of a strategy, or a map")
            }
            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Release, E> {
                let strategy = Word::deserialize(word.into_deserializer())?.strategy(None);
                strategy.and_then(Release::new).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Release, A::Error> {
                ReleaseForm::deserialize(MapAccessDeserializer::new(map))?
                    .try_into()
                    .map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl schemars::JsonSchema for Release {
    fn schema_name() -> Cow<'static, str> {
        "Release".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let form = ReleaseForm::json_schema(generator);
        schemars::json_schema!({
            "description": "how a new revision takes over: the word of a strategy, or a map",
            "oneOf": [{ "enum": ["rolling", "recreate", "ordered", "blue-green"] }, form],
        })
    }
}
