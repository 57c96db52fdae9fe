//! What rules find out about lines: how their fields are read, and what is added.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::app::unknown;
use crate::model::filter::{FieldName, Level, LogFilter, Pattern};
use crate::model::limit;
use crate::model::name::excerpt;
use crate::model::search::of_origin;
use crate::model::service::Scalar;
use crate::{Error, Result};

/// How the fields of a line are read.
///
/// Of what is read `level` is taken as how grave the line is, and `time` as when it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "FormatForm", into = "FormatForm")]
#[non_exhaustive]
pub enum LogFormat {
    /// A JSON object.
    Json,
    /// `name=value` pairs.
    Logfmt,
    /// What nginx writes of requests (`combined`, and what begins so) and of errors.
    Nginx,
    /// Spring Boot's lines, of the second version on.
    SpringBoot,
    /// Log4j's and Logback's, with the patterns that are used most.
    Log4j,
    /// Those of Go's `log`, and of klog.
    Go,
    /// Those of Python's `logging`, and of uvicorn.
    Python,
    /// MySQL's errors and slow queries.
    Mysql,
    /// Those of a regular expression's named groups.
    Pattern(Pattern),
}

/// What is added to lines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LogAddition {
    /// To which; to all where nothing is said.
    #[serde(rename = "match", default = "all", skip_serializing_if = "is_all")]
    pub filter: LogFilter,
    /// Fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<FieldName, Scalar>,
    /// How grave they are from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
}

fn all() -> LogFilter {
    LogFilter::All
}

fn is_all(filter: &LogFilter) -> bool {
    *filter == LogFilter::All
}

impl LogFormat {
    /// All that need no expression.
    pub const BUILT_IN: [Self; 8] = [
        Self::Json,
        Self::Logfmt,
        Self::Nginx,
        Self::SpringBoot,
        Self::Log4j,
        Self::Go,
        Self::Python,
        Self::Mysql,
    ];

    /// Its name; an expression is its own.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        Cow::Borrowed(match self {
            Self::Json => "json",
            Self::Logfmt => "logfmt",
            Self::Nginx => "nginx",
            Self::SpringBoot => "spring-boot",
            Self::Log4j => "log4j",
            Self::Go => "go",
            Self::Python => "python",
            Self::Mysql => "mysql",
            Self::Pattern(pattern) => return Cow::Owned(String::from(pattern.clone())),
        })
    }

    /// The fields that the named groups of an expression match, such as `status` in `status (?<status>\d+)`.
    ///
    /// # Errors
    /// `Invalid` where it has no named group, or one whose name is none of a field.
    pub fn pattern(pattern: Pattern) -> Result<Self> {
        let finder = pattern.finder()?;
        if finder.groups().next().is_none() {
            let error = Error::invalid("the expression has no named group, like `(?<status>\\d+)`");
            return Err(error.with("pattern", excerpt(&String::from(pattern))));
        }
        finder.groups().try_for_each(|name| FieldName::new(name).and_then(|name| is_free(&name)))?;
        Ok(Self::Pattern(pattern))
    }
}

/// A field that is known of every line cannot be another.
pub(super) fn is_free(name: &FieldName) -> Result<()> {
    match of_origin(name.as_str()) {
        None => Ok(()),
        Some(_) => Err(Error::invalid("this field is known of every line").with("field", name.as_str())),
    }
}

impl LogAddition {
    /// Adds fields and a level to the lines that match, as far as they are given.
    #[must_use]
    pub fn new(filter: LogFilter) -> Self {
        Self { filter, fields: BTreeMap::new(), level: None }
    }

    pub(super) fn findings(&self) -> Vec<(&'static str, Error)> {
        let mut found = Vec::new();
        if self.fields.is_empty() && self.level.is_none() {
            found.push(("fields", Error::invalid("nothing is added: give `fields`, `level` or both")));
        }
        if self.fields.len() > limit::LOG_RULES {
            found.push(("fields", Error::invalid("too many fields").with("most", limit::LOG_RULES)));
        }
        found
            .extend(self.fields.keys().filter_map(|name| is_free(name).err()).map(|error| ("fields", error)));
        let is_long = |value: &&Scalar| value.0.len() > limit::LOG_FIELD;
        if let Some(value) = self.fields.values().find(is_long) {
            let error = Error::invalid("the value is too long").with("value", excerpt(&value.0));
            found.push(("fields", error.with("most bytes", limit::LOG_FIELD)));
        }
        found
    }
}

/// A format as people write it: a word, or an expression.
#[derive(Serialize, Deserialize, schemars::JsonSchema)]
#[serde(
    untagged,
    expecting = "one of json, logfmt, nginx, spring-boot, log4j, go, python, mysql, or a map with a `pattern`"
)]
#[schemars(inline)]
enum FormatForm {
    /// `json`, `logfmt`, `nginx`, `spring-boot`, `log4j`, `go`, `python` or `mysql`.
    Word(String),
    /// An expression of one's own.
    Own {
        /// A regular expression with named groups, like `took (?<ms>\d+) ms`.
        pattern: Pattern,
    },
}

impl schemars::JsonSchema for LogFormat {
    fn schema_name() -> Cow<'static, str> {
        "LogFormat".into()
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let form = FormatForm::json_schema(generator);
        let names = Self::BUILT_IN.each_ref().map(Self::name);
        schemars::json_schema!({
            "description": "how the fields of a line are read: the name of a format, or an expression of one's own",
            "anyOf": [{ "enum": names }, form],
        })
    }
}

impl From<LogFormat> for FormatForm {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Pattern(pattern) => Self::Own { pattern },
            known => Self::Word(known.name().into_owned()),
        }
    }
}

impl TryFrom<FormatForm> for LogFormat {
    type Error = Error;
    fn try_from(form: FormatForm) -> Result<Self> {
        let word = match form {
            FormatForm::Own { pattern } => return Self::pattern(pattern),
            FormatForm::Word(word) => word,
        };
        let known = Self::BUILT_IN.into_iter().find(|known| known.name() == word);
        let names = Self::BUILT_IN.each_ref().map(Self::name);
        known.ok_or_else(|| unknown("there is no such format", &word, &names))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_written_back_as_they_were_read() {
        for json in [r#""json""#, r#""spring-boot""#, r#"{"pattern":"took (?<ms>\\d+)"}"#] {
            let format: LogFormat = serde_json::from_str(json).unwrap();
            assert_eq!(serde_json::to_string(&format).unwrap(), json);
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (json, message) in [
            (r#""ngnix""#, "there is no such format (found: ngnix, did you mean: nginx)"),
            (r#"{"pattern":"took"}"#, "the expression has no named group"),
            (r#"{"pattern":"(?<instance>x)"}"#, "this field is known of every line (field: instance)"),
            (r#"{"pattern":"("}"#, "one of json, logfmt"),
            ("5", "one of json, logfmt"),
        ] {
            let error = serde_json::from_str::<LogFormat>(json).unwrap_err().to_string();
            assert!(error.contains(message), "{json}: {error}");
        }
    }
}
