//! How a new revision of a service takes over from the old one.

mod form;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::filter::LogFilter;
use super::limit;
use super::name::excerpt;
use super::quantity::Percent;
use crate::{Error, Result};
use form::{ReleaseForm, RuleForm};

/// The shape of a release.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Strategy {
    /// A few new instances at a time take over from as many old ones.
    Rolling,
    /// All old instances stop before the first new one starts: a stated downtime.
    Recreate,
    /// One instance at a time stops and starts anew in its place: what instances with volumes of their own need.
    Ordered,
    /// All new instances start beside the old ones; traffic moves at once.
    BlueGreen,
    /// Traffic moves in steps, each held for [`Release::every`] (or for an approval).
    Canary {
        /// The share of requests that the new revision gets at each step, rising; the last step to all is implied.
        steps: Vec<Percent>,
    },
}

impl Strategy {
    /// The word that stands for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Recreate => "recreate",
            Self::Ordered => "ordered",
            Self::BlueGreen => "blue-green",
            Self::Canary { .. } => "canary",
        }
    }
}

/// Requests that carry this header go to the new revision, whatever the weights say.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderMatch {
    /// The header's name; case does not matter.
    pub name: String,
    /// Its exact value.
    pub value: String,
}

/// A condition that ends a release and brings the old revision back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RuleForm", into = "RuleForm")]
#[non_exhaustive]
pub enum AbortRule {
    /// More than this share of the new revision's requests of the current step failed (5xx or no answer), once it
    /// has had at least [`AbortRule::LEAST_REQUESTS`].
    Errors(Percent),
    /// The median latency of the new revision's requests of the current step is longer than this.
    Latency(Duration),
    /// So many lines of the new revision's instances match within a length of time.
    Log {
        /// Which lines.
        filter: LogFilter,
        /// How many.
        count: u32,
        /// In which length of time.
        within: Duration,
    },
}

impl AbortRule {
    /// Requests needed before a rule judges, so that one failed request of two does not end a release.
    pub const LEAST_REQUESTS: u64 = 20;

    /// So many lines within a length of time.
    ///
    /// # Errors
    /// `Invalid` where the count is not from 1 to 10,000, or the time not from a second to a day.
    pub fn log(filter: LogFilter, count: u32, within: Duration) -> Result<Self> {
        let day = Duration::from_secs(24 * 60 * 60);
        if !(1..=10_000).contains(&count) || !(Duration::from_secs(1)..=day).contains(&within) {
            let text = "`count` is from 1 to 10000, and `within` from 1s to 1day";
            return Err(Error::invalid(text).with("count", count));
        }
        Ok(Self::Log { filter, count, within })
    }

    /// Whether it is about requests.
    #[must_use]
    pub fn is_of_requests(&self) -> bool {
        matches!(self, Self::Errors(_) | Self::Latency(_))
    }
}

/// How a service is released.
///
/// In an app file it is the word of a strategy or a map; it is written back as the map.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(into = "ReleaseForm")]
#[non_exhaustive]
pub struct Release {
    /// The shape.
    pub strategy: Strategy,
    /// How long each step of a canary, and the untried slot of blue-green before traffic moves, is held.
    pub every: Duration,
    /// Whether each step waits for a person's approval instead.
    pub approve: bool,
    /// Requests with this header reach the new revision from its first ready instance on.
    pub header: Option<HeaderMatch>,
    /// A cookie of this name keeps a client on the slot it met first.
    pub sticky: Option<String>,
    /// What ends the release early.
    pub abort_if: Vec<AbortRule>,
    /// How long the old slot stays ready after all traffic left it, so that going back is one route change.
    pub warm: Duration,
    /// How many instances more than `replicas` a rolling release may run at once.
    pub surge: Percent,
    /// How long the new revision's instances may take to become ready before the release fails.
    pub deadline: Duration,
}

impl Release {
    /// A release of this shape: no holds, no rules, an old slot warm for five minutes (blue-green and canary), a
    /// quarter of surge, two minutes to become ready.
    ///
    /// # Errors
    /// `Invalid` where a canary's steps do not rise.
    pub fn new(strategy: Strategy) -> Result<Self> {
        let warm = match strategy {
            Strategy::BlueGreen | Strategy::Canary { .. } => Duration::from_secs(300),
            _ => Duration::ZERO,
        };
        Self {
            strategy,
            every: Duration::ZERO,
            approve: false,
            header: None,
            sticky: None,
            abort_if: Vec::new(),
            warm,
            surge: Percent::whole(25),
            deadline: Duration::from_secs(120),
        }
        .checked()
    }

    fn checked(self) -> Result<Self> {
        if let Strategy::Canary { steps } = &self.strategy {
            let rising = steps.windows(2).all(|pair| pair[0] < pair[1]);
            if !rising || steps.is_empty() || steps.len() > limit::CANARY_STEPS {
                return Err(Error::invalid("the steps of a canary rise").with("most", limit::CANARY_STEPS));
            }
        }
        if self.abort_if.len() > limit::ABORT_RULES {
            return Err(Error::invalid("too many abort rules").with("most", limit::ABORT_RULES));
        }
        if self.surge.basis_points() == 0 {
            return Err(Error::invalid("a rolling release needs a surge above 0%"));
        }
        if self.deadline < Duration::from_secs(1) {
            return Err(Error::invalid("the deadline of a release is at least 1s"));
        }
        let token = |text: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
            !text.is_empty() && text.len() <= 100 && text.bytes().all(inner)
        };
        if let Some(header) = &self.header {
            let value =
                header.value.len() <= 200 && header.value.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
            if !token(&header.name) || !value {
                return Err(
                    Error::invalid("not a header's name and value").with("name", excerpt(&header.name))
                );
            }
        }
        if let Some(cookie) = &self.sticky
            && !token(cookie)
        {
            return Err(Error::invalid("not a cookie's name").with("sticky", excerpt(cookie)));
        }
        Ok(self)
    }

    /// Whether the strategy runs old and new instances at the same time.
    #[must_use]
    pub fn overlaps(&self) -> bool {
        !matches!(self.strategy, Strategy::Recreate | Strategy::Ordered)
    }
}

impl Default for Release {
    fn default() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "a rolling release with default values passes every check; a test shows it"
        )]
        Self::new(Strategy::Rolling).expect("the default release is valid")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Release, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_release_is_written_back_as_it_was_read() {
        for json in [
            r#""rolling""#,
            r#""blue-green""#,
            r#"{"strategy":"recreate"}"#,
            r#"{"canary":["5%","25%"],"every":"2m","sticky":"cookie","abort_if":[{"errors":"> 1%"},{"latency":"> 300ms"},{"log":"ERROR -level:warn","count":5,"within":"1m"}]}"#,
            r#"{"canary":["0%"],"approve":true,"header":{"name":"x-canary","value":"1"},"warm":"0s"}"#,
        ] {
            let release = read(json).unwrap();
            let again = read(&serde_json::to_string(&release).unwrap()).unwrap();
            assert_eq!(release, again, "{json}");
        }
        assert_eq!(read(r#""rolling""#).unwrap(), Release::default());
    }

    #[test]
    fn a_wrong_release_is_refused() {
        for json in [
            r#""rollin""#,
            r#"{"strategy":"rolling","canary":["5%"]}"#,
            r#"{"canary":[]}"#,
            r#"{"canary":["25%","5%"]}"#,
            r#"{"canary":["5%"],"abort_if":[{"errors":"< 1%"}]}"#,
            r#"{"canary":["5%"],"abort_if":[{}]}"#,
            r#"{"canary":["5%"],"abort_if":[{"errors":"> 1%","count":5}]}"#,
            r#"{"canary":["5%"],"abort_if":[{"log":"ERROR","count":0}]}"#,
            r#"{"canary":["5%"],"abort_if":[{"log":"level:>=loud"}]}"#,
            r#"{"sticky":"a b"}"#,
            r#"{"header":{"name":"a:","value":"1"}}"#,
            r#"{"deadline":"0s"}"#,
            r#"{"nope":1}"#,
        ] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
