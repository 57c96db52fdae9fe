//! Which log lines are wanted, as a typed tree. People's queries are parsed into it, lines are held against it, and stores
//! that search by themselves render it: no text of a person ever becomes part of another language.
//!
//! | query | finds lines |
//! |---|---|
//! | `error timeout` | with both words |
//! | `error OR timeout`, `(a OR b) c` | with one of them; in groups |
//! | `-health`, `NOT health` | without it |
//! | `"connection refused"` | with these words in this order, and what stands between them |
//! | `conn*`, `*refused`, `*nect*` | with a word that begins so, ends so, or holds it |
//! | `/time=\d{4,}ms/`, `/oops/i` | that a regular expression matches; in any case |
//! | `status:500`, `status:5*`, `path:"/my cart"` | whose field holds the words |
//! | `status:=500` | whose field is just this |
//! | `ms:==2.5` | whose field is this number, however it is written |
//! | `status:>=500`, `ms:<2.5` | whose field is a number, and in range |
//! | `trace:*` | that have the field |
//! | `level:>=warn`, `level:error` | of a level |
//!
//! Words are found whole, in any case of the letters A to Z: a word is a run of letters, digits, `_` and characters beyond
//! ASCII.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

mod field;
mod matcher;
mod name;
mod need;
mod parse;
mod pattern;

pub(crate) use field::pair;
pub use field::{field, pairs, put_pair, unescaped};
pub use matcher::{LogEvent, LogMatcher};
pub use name::FieldName;
pub use need::WordNeed;
pub use parse::QueryError;
use pattern::PROGRAM;
pub use pattern::{CaptureRoom, Pattern, PatternFinder};

/// Which lines are wanted. As text it is a query, which reads back as the same tree.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum LogFilter {
    /// Every line.
    All,
    /// Those that this one does not match.
    Not(Box<LogFilter>),
    /// Those that all of these match.
    And(Vec<LogFilter>),
    /// Those that one of these matches.
    Or(Vec<LogFilter>),
    /// Those whose bytes hold this.
    Line(TextTest),
    /// Those whose field is so. A line without it does not match, so that its negation does.
    Field(FieldName, FieldTest),
    /// Those whose level is so.
    Level(Comparison, Level),
}

/// What a text must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TextTest {
    /// These words, with what stands between them.
    Words(Words),
    /// Something that a regular expression matches.
    Pattern(Pattern),
}

/// What a field must be.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FieldTest {
    /// There is one.
    Present,
    /// Its text holds this.
    Text(TextTest),
    /// Its text is just this, byte by byte.
    Exact(String),
    /// It is a number that compares so.
    Number(Comparison, f64),
}

/// Words as they stand in a text, in any case of the letters A to Z.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Words {
    /// The words and what stands between them, in lower case; never empty.
    pub text: String,
    /// The first word may be the end of a longer one.
    pub open_start: bool,
    /// The last word may be the beginning of a longer one.
    pub open_end: bool,
}

/// How two values compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// The same.
    Equal,
    /// Less.
    Less,
    /// Less, or the same.
    AtMost,
    /// More.
    More,
    /// More, or the same.
    AtLeast,
}

/// How grave a line is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Every step, for who looks for a defect.
    Trace,
    /// For who looks for a defect.
    Debug,
    /// What goes on.
    Info,
    /// What may become a failure.
    Warn,
    /// A failure.
    Error,
    /// The end of the process.
    Fatal,
}

impl LogFilter {
    /// Reads a query; an empty one wants every line.
    ///
    /// # Errors
    /// Where it cannot be read, and why.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parse::query(text)
    }

    /// Those that both match.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let parts = [self, other].into_iter().flat_map(|part| match part {
            Self::All => Vec::new(),
            Self::And(parts) => parts,
            part => vec![part],
        });
        Self::all_of(parts.collect())
    }

    fn all_of(mut parts: Vec<Self>) -> Self {
        match parts.len() {
            0 => Self::All,
            1 => parts.swap_remove(0),
            _ => Self::And(parts),
        }
    }
}

impl Words {
    /// Whole words.
    ///
    /// # Errors
    /// `Invalid` where there is no text.
    pub fn new(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::invalid("there is no text to look for"));
        }
        Ok(Self { text: text.to_ascii_lowercase(), open_start: false, open_end: false })
    }
}

impl Level {
    /// All, from the least grave on.
    pub const ALL: [Self; 6] = [Self::Trace, Self::Debug, Self::Info, Self::Warn, Self::Error, Self::Fatal];

    /// The level that a word names, as loggers write it.
    #[must_use]
    pub fn of(word: &[u8]) -> Option<Self> {
        const NAMES: [(&str, Level); 22] = [
            ("trace", Level::Trace),
            ("trc", Level::Trace),
            ("finest", Level::Trace),
            ("debug", Level::Debug),
            ("dbg", Level::Debug),
            ("fine", Level::Debug),
            ("info", Level::Info),
            ("inf", Level::Info),
            ("information", Level::Info),
            ("notice", Level::Info),
            ("warn", Level::Warn),
            ("wrn", Level::Warn),
            ("warning", Level::Warn),
            ("error", Level::Error),
            ("err", Level::Error),
            ("severe", Level::Error),
            ("fatal", Level::Fatal),
            ("critical", Level::Fatal),
            ("panic", Level::Fatal),
            ("crit", Level::Fatal),
            ("alert", Level::Fatal),
            ("emerg", Level::Fatal),
        ];
        NAMES.iter().find(|(name, _)| word.eq_ignore_ascii_case(name.as_bytes())).map(|(_, level)| *level)
    }

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

impl Comparison {
    /// Whether two values compare so; what cannot be compared does not.
    #[must_use]
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::AtMost => left <= right,
            Self::More => left > right,
            Self::AtLeast => left >= right,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "",
            Self::Less => "<",
            Self::AtMost => "<=",
            Self::More => ">",
            Self::AtLeast => ">=",
        }
    }
}

/// Whether a byte is part of a word.
#[must_use]
pub const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

impl FromStr for LogFilter {
    type Err = Error;

    /// As [`LogFilter::parse`]; the context of the error names the column.
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).map_err(QueryError::into_error)
    }
}

impl TryFrom<String> for LogFilter {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl schemars::JsonSchema for LogFilter {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "LogFilter".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "a query for log lines, like `error status:5* -path:\"/health\"`",
        })
    }
}

impl From<LogFilter> for String {
    fn from(filter: LogFilter) -> Self {
        filter.to_string()
    }
}

impl fmt::Display for LogFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |f: &mut fmt::Formatter<'_>, parts: &[Self], by: &str| {
            for (number, part) in parts.iter().enumerate() {
                let before = if number == 0 { "" } else { by };
                match part {
                    Self::And(_) | Self::Or(_) => write!(f, "{before}({part})")?,
                    part => write!(f, "{before}{part}")?,
                }
            }
            Ok(())
        };
        match self {
            Self::All => f.write_str("*"),
            Self::Not(inner) => match **inner {
                Self::And(_) | Self::Or(_) => write!(f, "-({inner})"),
                _ => write!(f, "-{inner}"),
            },
            Self::And(parts) => joined(f, parts, " "),
            Self::Or(parts) => joined(f, parts, " OR "),
            Self::Line(text) => text.fmt(f),
            Self::Field(name, test) => write!(f, "{}:{test}", name.as_str()),
            Self::Level(comparison, level) => write!(f, "level:{}{}", comparison.as_str(), level.as_str()),
        }
    }
}

impl fmt::Display for FieldTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("*"),
            Self::Text(text) => text.fmt(f),
            Self::Exact(text) => write!(f, "={}", Quoted(text)),
            Self::Number(Comparison::Equal, number) => write!(f, "=={number}"),
            Self::Number(comparison, number) => write!(f, "{}{number}", comparison.as_str()),
        }
    }
}

impl fmt::Display for TextTest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = |is_open: bool| if is_open { "*" } else { "" };
        match self {
            Self::Words(words) => {
                write!(f, "{}{}{}", star(words.open_start), Quoted(&words.text), star(words.open_end))
            }
            Self::Pattern(Pattern { source, any_case }) => {
                let flag = if *any_case { "i" } else { "" };
                write!(f, "/{}/{flag}", source.replace('/', "\\/"))
            }
        }
    }
}

/// A text between quotes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

#[cfg(test)]
mod tests;
