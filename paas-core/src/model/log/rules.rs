//! What becomes of log lines on their way, as an app file says it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parse::{LogAddition, LogFormat, is_free};
use crate::model::app::unknown;
use crate::model::filter::{FieldName, LogFilter, Pattern};
use crate::model::limit;
use crate::model::name::excerpt;
use crate::model::quantity::{Percent, duration};
use crate::{Error, Result};

/// What becomes of the lines of an app, or of one of its services.
///
/// Rules come in this order, whatever order a file has: lines join, things are taken out, fields are read, renamed and added, some lines
/// are dropped, of some a share is kept, and what is left is shown, counted and stored, some of it elsewhere. A service has its app's rules
/// and its own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Log rules")]
#[non_exhaustive]
pub struct LogRules {
    /// Which lines are one event, such as those of a stack trace. A service's own counts before its app's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub join: Option<LogJoin>,
    /// What is taken out of lines, besides the values of secrets and what the platform always takes out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub redact: Vec<Redaction>,
    /// How the fields of lines are read: of these formats the first that fits. A service's own come before its app's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parse: Vec<LogFormat>,
    /// Fields that get other names: the old one, and the new one. What gets the name `level` or `time` counts as such.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rename: BTreeMap<FieldName, FieldName>,
    /// What is added to lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<LogAddition>,
    /// Queries for lines that are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<LogFilter>,
    /// Lines of which only a share is kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sample: Vec<LogSample>,
    /// Lines that are stored elsewhere. Of several that match the first counts; a service's own come before its app's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub route: Vec<LogRoute>,
    /// Of which lines somebody is told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<LogAlert>,
}

/// Which lines belong to the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum LogJoin {
    /// Those that begin with white space, and those that continue a stack trace (`Caused by:`, `... 12 more`, Python's last line).
    StackTraces,
    /// All but those that match: with each of these an event begins.
    Start(Pattern),
}

/// Lines of which only a share is kept: always the same ones, whoever looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LogSample {
    /// Which.
    #[serde(rename = "match")]
    pub filter: LogFilter,
    /// How many of them.
    pub keep: Percent,
}

/// Lines that are stored elsewhere, and not in the platform's log store. They are shown as they are born and counted like others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LogRoute {
    /// Which.
    #[serde(rename = "match")]
    pub filter: LogFilter,
    /// Where to: a name that the platform knows.
    pub to: String,
}

/// Something that is taken out of lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RedactionForm", into = "RedactionForm")]
#[non_exhaustive]
pub enum Redaction {
    /// Numbers of payment cards, with a right check digit.
    Card,
    /// Addresses of electronic mail.
    Email,
    /// Telephone numbers.
    Phone,
    /// Numbers of people in states' registers.
    NationalId,
    /// Tokens of well-known services, and signed tokens.
    Token,
    /// Private keys.
    PrivateKey,
    /// Passwords in URLs, JSON and `name=value` pairs.
    Password,
    /// What a regular expression matches.
    Pattern {
        /// What is written in its place.
        name: String,
        /// The expression.
        pattern: Pattern,
    },
}

/// Somebody is told where enough lines match in a length of time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LogAlert {
    /// Which lines count.
    #[serde(rename = "match")]
    pub filter: LogFilter,
    /// How many.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub count: u32,
    /// In which length of time.
    #[serde(default = "minute", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub within: Duration,
    /// Whether lines of all services, of each, or of each instance are counted together.
    #[serde(default)]
    pub per: AlertScope,
    /// How long nobody is told again; at least a minute.
    #[serde(default = "quarter", with = "duration")]
    #[schemars(schema_with = "duration::schema")]
    pub cool_down: Duration,
    /// Who is told: a name that the platform knows.
    pub notify: String,
}

/// Which lines are counted together.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum AlertScope {
    /// Those of the app.
    App,
    /// Those of each service.
    #[default]
    Service,
    /// Those of each instance.
    Instance,
}

fn one() -> u32 {
    1
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn quarter() -> Duration {
    Duration::from_secs(15 * 60)
}

impl LogRules {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is wrong with them, and where.
    pub(crate) fn findings(&self) -> Vec<(Vec<String>, Error)> {
        let mut found = Vec::new();
        let lengths = [
            ("drop", self.drop.len()),
            ("sample", self.sample.len()),
            ("redact", self.redact.len()),
            ("parse", self.parse.len()),
            ("rename", self.rename.len()),
            ("add", self.add.len()),
            ("route", self.route.len()),
            ("alerts", self.alerts.len()),
        ];
        for (field, _) in lengths.into_iter().filter(|(_, length)| *length > limit::LOG_RULES) {
            let error = Error::invalid("too many rules").with("most", limit::LOG_RULES);
            found.push((vec![field.to_owned()], error));
        }
        let of_list = |list: &str, at: usize, findings: Vec<(&'static str, Error)>| {
            let path = |field| [list, &at.to_string(), field].map(str::to_owned).to_vec();
            findings.into_iter().map(|(field, error)| (path(field), error)).collect::<Vec<_>>()
        };
        for (at, addition) in self.add.iter().enumerate().take(limit::LOG_RULES) {
            found.extend(of_list("add", at, addition.findings()));
        }
        for (at, route) in self.route.iter().enumerate().take(limit::LOG_RULES) {
            found.extend(of_list("route", at, name_findings("to", &route.to)));
        }
        for (at, alert) in self.alerts.iter().enumerate().take(limit::LOG_RULES) {
            found.extend(of_list("alerts", at, alert.findings()));
        }
        for (old, new) in self.rename.iter().take(limit::LOG_RULES) {
            let wrong = is_free(new).err();
            found.extend(wrong.map(|error| (vec!["rename".to_owned(), old.as_str().to_owned()], error)));
        }
        found
    }
}

impl LogSample {
    /// Of those that match, this share.
    #[must_use]
    pub fn new(filter: LogFilter, keep: Percent) -> Self {
        Self { filter, keep }
    }
}

impl LogRoute {
    /// Those that match go there.
    #[must_use]
    pub fn new(filter: LogFilter, to: impl Into<String>) -> Self {
        Self { filter, to: to.into() }
    }
}

impl LogAlert {
    /// Tells these people of each such line, at most every fifteen minutes for each service.
    #[must_use]
    pub fn new(filter: LogFilter, notify: impl Into<String>) -> Self {
        let (per, notify) = (AlertScope::default(), notify.into());
        Self { filter, count: one(), within: minute(), per, cool_down: quarter(), notify }
    }

    /// So many lines in a length of time.
    #[must_use]
    pub fn with_count(self, count: u32, within: Duration) -> Self {
        Self { count, within, ..self }
    }

    fn findings(&self) -> Vec<(&'static str, Error)> {
        let day = Duration::from_secs(24 * 60 * 60);
        let mut found = Vec::new();
        if !(1..=10_000).contains(&self.count) {
            found.push(("count", Error::invalid("`count` is from 1 to 10000")));
        }
        if !(Duration::from_secs(1)..=day).contains(&self.within) {
            found.push(("within", Error::invalid("`within` is from 1s to 1day")));
        }
        if !(Duration::from_secs(60)..=7 * day).contains(&self.cool_down) {
            found.push(("cool_down", Error::invalid("`cool_down` is from 1m to 7days")));
        }
        found.extend(name_findings("notify", &self.notify));
        found
    }
}

/// What is wrong with a name that the platform is to know.
fn name_findings(field: &'static str, text: &str) -> Vec<(&'static str, Error)> {
    if is_name(text) {
        return Vec::new();
    }
    let error = Error::invalid(format!("`{field}` is a name of letters, digits, `-` and `_`"));
    vec![(field, error.with("found", excerpt(text)))]
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    !text.is_empty() && text.len() <= limit::NAME && text.bytes().all(inner)
}

impl Redaction {
    /// All that need no expression.
    pub const BUILT_IN: [Self; 7] = [
        Self::Card,
        Self::Email,
        Self::Phone,
        Self::NationalId,
        Self::Token,
        Self::PrivateKey,
        Self::Password,
    ];

    /// Its name, which is written in the place of what it takes out.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Card => "card",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::NationalId => "national-id",
            Self::Token => "token",
            Self::PrivateKey => "private-key",
            Self::Password => "password",
            Self::Pattern { name, .. } => name,
        }
    }

    /// What an expression matches.
    ///
    /// # Errors
    /// `Invalid` where the name is none, or that of a built-in rule.
    pub fn pattern(name: &str, pattern: Pattern) -> Result<Self> {
        let is_taken = name == "secret" || Self::BUILT_IN.iter().any(|known| known.name() == name);
        if is_taken || !is_name(name) {
            let text =
                "a rule of one's own has a name of letters, digits, `-` and `_` that no other rule has";
            return Err(Error::invalid(text).with("name", excerpt(name)));
        }
        Ok(Self::Pattern { name: name.to_owned(), pattern })
    }
}

/// A redaction as people write it: a word, or a name and an expression.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    untagged,
    expecting = "one of card, email, phone, national-id, token, private-key, password, or a map of `name` and `pattern`"
)]
#[schemars(inline)]
enum RedactionForm {
    /// `card`, `email`, `phone`, `national-id`, `token`, `private-key` or `password`.
    Word(String),
    /// A rule of one's own.
    Own {
        /// What is written in the place of what it takes out.
        name: String,
        /// A regular expression.
        pattern: Pattern,
    },
}

impl schemars::JsonSchema for Redaction {
    fn schema_name() -> Cow<'static, str> {
        "Redaction".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let form = RedactionForm::json_schema(generator);
        schemars::json_schema!({
            "description": "something that is taken out of lines: the name of a kind, or a rule of one's own",
            "anyOf": [{ "enum": Self::BUILT_IN.each_ref().map(Self::name) }, form],
        })
    }
}

impl From<Redaction> for RedactionForm {
    fn from(redaction: Redaction) -> Self {
        match redaction {
            Redaction::Pattern { name, pattern } => Self::Own { name, pattern },
            known => Self::Word(known.name().to_owned()),
        }
    }
}

impl TryFrom<RedactionForm> for Redaction {
    type Error = Error;
    fn try_from(form: RedactionForm) -> Result<Self> {
        match form {
            RedactionForm::Own { name, pattern } => Self::pattern(&name, pattern),
            RedactionForm::Word(word) => {
                let known = Self::BUILT_IN.into_iter().find(|known| known.name() == word);
                let names = Self::BUILT_IN.each_ref().map(Self::name);
                known.ok_or_else(|| unknown("there is no such redaction", &word, &names))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<LogRules, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn rules_are_written_back_as_they_were_read() {
        for json in [
            "{}",
            r#"{"join":"stack-traces"}"#,
            r#"{"join":{"start":"^\\d{4}-"},"drop":["path:\"/health\" -level:>=warn"]}"#,
            r#"{"sample":[{"match":"level:debug","keep":"10%"}]}"#,
            r#"{"redact":["email","national-id",{"name":"iban","pattern":"[A-Z]{2}\\d{20}"}]}"#,
            r#"{"parse":["nginx",{"pattern":"took (?<ms>\\d+)"}],"rename":{"lvl":"level"}}"#,
            r#"{"add":[{"fields":{"team":"pay"}},{"match":"\"timed out\"","level":"error"}]}"#,
            r#"{"alerts":[{"match":"OutOfMemoryError","count":3,"within":"5m","notify":"oncall"}]}"#,
        ] {
            let rules = read(json).unwrap();
            assert_eq!(read(&serde_json::to_string(&rules).unwrap()).unwrap(), rules, "{json}");
            assert!(rules.findings().is_empty(), "{json}");
        }
        assert!(read("{}").unwrap().is_empty());
    }

    #[test]
    fn an_alert_has_defaults() {
        let rules = read(r#"{"alerts":[{"match":"panic","notify":"oncall"}]}"#).unwrap();
        assert_eq!(rules.alerts, [LogAlert::new("panic".parse().unwrap(), "oncall")]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (json, message) in [
            (r#"{"redact":["emial"]}"#, "there is no such redaction (found: emial, did you mean: email)"),
            (r#"{"redact":[{"name":"card","pattern":"x"}]}"#, "a rule of one's own has a name"),
            (r#"{"redact":[{"name":"x"}]}"#, "one of card, email"),
            (r#"{"redact":[{"name":"x","pattern":"("}]}"#, "one of card, email"),
            (r#"{"drop":["level:>=loud"]}"#, "level"),
            (r#"{"join":"lines"}"#, "unknown variant `lines`"),
            (r#"{"alerts":[{"match":"x"}]}"#, "missing field `notify`"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(message), "{json}: {error}");
        }
        let rules =
            r#"{"alerts":[{"match":"x","count":0,"within":"0s","cool_down":"30days","notify":"on call"}]}"#;
        let found: Vec<_> =
            read(rules).unwrap().findings().into_iter().map(|(path, _)| path.join(".")).collect();
        assert_eq!(found, ["alerts.0.count", "alerts.0.within", "alerts.0.cool_down", "alerts.0.notify"]);
        let rules = r#"{"add":[{"match":"x"},{"fields":{"stream":"x"}}],"rename":{"a":"instance","b":"c"}}"#;
        let found: Vec<_> =
            read(rules).unwrap().findings().into_iter().map(|(path, _)| path.join(".")).collect();
        assert_eq!(found, ["add.0.fields", "add.1.fields", "rename.a"]);
    }
}
