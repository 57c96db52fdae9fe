//! Holds lines against a filter.

use std::borrow::Cow;

use regex::bytes::{Regex, RegexBuilder};

use super::{Comparison, FieldTest, Level, LogFilter, PROGRAM, TextTest, Words, field, is_word};
use crate::Result;

/// A line, as far as filters look at it.
pub trait LogEvent {
    /// Its bytes.
    fn line(&self) -> &[u8];

    /// How grave it is, where that is known.
    fn level(&self) -> Option<Level>;

    /// The text of one of its fields; of the line's own, unless somebody knows better.
    fn field(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        field(self.line(), name)
    }
}

impl LogEvent for [u8] {
    fn line(&self) -> &[u8] {
        self
    }

    fn level(&self) -> Option<Level> {
        None
    }
}

/// A filter that is ready to be held against lines: its expressions are compiled.
#[derive(Clone, Debug)]
pub struct LogMatcher(Node);

#[derive(Clone, Debug)]
enum Node {
    All,
    Not(Box<Node>),
    And(Vec<Node>),
    Or(Vec<Node>),
    Line(Text),
    Field(Box<str>, Value),
    Level(Comparison, Level),
}

#[derive(Clone, Debug)]
enum Text {
    Words { found: Regex, starts: bool, ends: bool },
    Pattern(Regex),
}

#[derive(Clone, Debug)]
enum Value {
    Present,
    Text(Text),
    Exact(String),
    Number(Comparison, f64),
}

impl LogFilter {
    /// Compiles it.
    ///
    /// # Errors
    /// `Invalid` where it has expressions that are too big.
    pub fn matcher(&self) -> Result<LogMatcher> {
        node(self).map(LogMatcher)
    }
}

fn node(filter: &LogFilter) -> Result<Node> {
    let all = |parts: &[LogFilter]| parts.iter().map(node).collect::<Result<Vec<_>>>();
    Ok(match filter {
        LogFilter::All => Node::All,
        LogFilter::Not(inner) => Node::Not(Box::new(node(inner)?)),
        LogFilter::And(parts) => Node::And(all(parts)?),
        LogFilter::Or(parts) => Node::Or(all(parts)?),
        LogFilter::Line(test) => Node::Line(text(test)?),
        LogFilter::Field(name, test) => Node::Field(name.as_str().into(), value(test)?),
        LogFilter::Level(comparison, level) => Node::Level(*comparison, *level),
    })
}

fn value(test: &FieldTest) -> Result<Value> {
    Ok(match test {
        FieldTest::Present => Value::Present,
        FieldTest::Text(test) => Value::Text(text(test)?),
        FieldTest::Exact(text) => Value::Exact(text.clone()),
        FieldTest::Number(comparison, number) => Value::Number(*comparison, *number),
    })
}

fn text(test: &TextTest) -> Result<Text> {
    Ok(match test {
        TextTest::Words(words) => words_text(words)?,
        TextTest::Pattern(pattern) => Text::Pattern(pattern.compile()?),
    })
}

/// Words are looked for byte by byte, so that a line of any bytes can be searched.
fn words_text(words: &Words) -> Result<Text> {
    let bytes = words.text.as_bytes();
    let source: String = bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    let mut builder = RegexBuilder::new(&source);
    let found = builder.unicode(false).case_insensitive(true).size_limit(PROGRAM).build();
    let found = found.map_err(|cause| crate::Error::invalid("the text is too long").with_source(cause))?;
    let starts = !words.open_start && bytes.first().is_some_and(|byte| is_word(*byte));
    let ends = !words.open_end && bytes.last().is_some_and(|byte| is_word(*byte));
    Ok(Text::Words { found, starts, ends })
}

impl LogMatcher {
    /// Whether a line is wanted.
    #[must_use]
    pub fn matches(&self, event: &(impl LogEvent + ?Sized)) -> bool {
        self.0.matches(event)
    }
}

impl Node {
    fn matches(&self, event: &(impl LogEvent + ?Sized)) -> bool {
        match self {
            Self::All => true,
            Self::Not(inner) => !inner.matches(event),
            Self::And(parts) => parts.iter().all(|part| part.matches(event)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(event)),
            Self::Line(text) => text.is_in(event.line()),
            Self::Field(name, value) => event.field(name).is_some_and(|text| value.is(&text)),
            Self::Level(comparison, level) => event.level().is_some_and(|own| comparison.holds(&own, level)),
        }
    }
}

impl Value {
    fn is(&self, value: &[u8]) -> bool {
        match self {
            Self::Present => true,
            Self::Text(text) => text.is_in(value),
            Self::Exact(text) => text.as_bytes() == value,
            Self::Number(comparison, number) => {
                let own = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<f64>().ok());
                own.is_some_and(|own| comparison.holds(&own, number))
            }
        }
    }
}

impl Text {
    fn is_in(&self, text: &[u8]) -> bool {
        match self {
            Self::Pattern(pattern) => pattern.is_match(text),
            Self::Words { found, starts, ends } => {
                let mut from = 0;
                while let Some(hit) = found.find_at(text, from) {
                    let before = hit.start().checked_sub(1).map(|at| text[at]);
                    let after = text.get(hit.end()).copied();
                    let is_edge = |byte: Option<u8>| byte.is_none_or(|byte| !is_word(byte));
                    if (!starts || is_edge(before)) && (!ends || is_edge(after)) {
                        return true;
                    }
                    from = hit.start() + 1;
                }
                false
            }
        }
    }
}
