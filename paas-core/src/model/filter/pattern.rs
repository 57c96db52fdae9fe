//! Regular expressions that are safe to run.

use std::borrow::Cow;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::model::name::excerpt;
use crate::{Error, Result};

/// A regular expression that was checked: it takes time in proportion to the text, and little memory.
///
/// In a file it stands as it is, with `(?i)` before it where letters match in any case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    pub(super) source: String,
    pub(super) any_case: bool,
}

/// A regular expression that is ready to be held against texts.
#[derive(Clone, Debug)]
pub struct PatternFinder(regex::bytes::Regex);

/// Room for the places of an expression's groups, which is used again.
#[derive(Debug, Default)]
pub struct CaptureRoom(Option<regex::bytes::CaptureLocations>);

/// How much memory a compiled expression may take, in bytes.
pub(super) const PROGRAM: usize = 1 << 20;

impl Pattern {
    /// Checks an expression of the `regex` crate's language. With `any_case` letters match in any case.
    ///
    /// # Errors
    /// `Invalid` where it is none, or would take too much memory.
    pub fn new(source: &str, any_case: bool) -> Result<Self> {
        let pattern = Self { source: source.to_owned(), any_case };
        pattern.compile().map(|_| pattern)
    }

    /// Makes it ready to be held against texts.
    ///
    /// # Errors
    /// None, since it was checked.
    pub fn finder(&self) -> Result<PatternFinder> {
        self.compile().map(PatternFinder)
    }

    pub(super) fn compile(&self) -> Result<regex::bytes::Regex> {
        let mut builder = regex::bytes::RegexBuilder::new(&self.source);
        builder.case_insensitive(self.any_case).size_limit(PROGRAM).dfa_size_limit(2 * PROGRAM);
        builder.build().map_err(|cause| {
            let refused = match cause {
                regex::Error::CompiledTooBig(_) => "the regular expression is too big",
                _ => "this is no regular expression",
            };
            Error::invalid(refused).with("pattern", excerpt(&self.source)).with_source(cause)
        })
    }
}

impl PatternFinder {
    /// Whether it matches in a text.
    #[must_use]
    pub fn is_match(&self, text: &[u8]) -> bool {
        self.0.is_match(text)
    }

    /// Where it matches, from left to right; no two overlap.
    pub fn find_iter<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = Range<usize>> + 'a {
        self.0.find_iter(text).map(|found| found.range())
    }

    /// The names of its named groups, in order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.capture_names().flatten()
    }

    /// Tells what the named groups match where the expression first matches in a text, if it does; of those that take part.
    /// Places are kept in `room`, which is this expression's only.
    pub fn capture<'a>(
        &self,
        text: &'a [u8],
        room: &mut CaptureRoom,
        mut each: impl FnMut(&str, &'a [u8]),
    ) -> bool {
        let places = room.0.get_or_insert_with(|| self.0.capture_locations());
        if self.0.captures_read(places, text).is_none() {
            return false;
        }
        for (at, name) in self.0.capture_names().enumerate() {
            if let (Some(name), Some((from, to))) = (name, places.get(at)) {
                each(name, &text[from..to]);
            }
        }
        true
    }
}

impl TryFrom<String> for Pattern {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match text.strip_prefix("(?i)") {
            Some(source) => Self::new(source, true),
            None => Self::new(&text, false),
        }
    }
}

impl From<Pattern> for String {
    fn from(Pattern { source, any_case }: Pattern) -> Self {
        if any_case { format!("(?i){source}") } else { source }
    }
}

impl schemars::JsonSchema for Pattern {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Pattern".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a regular expression" })
    }
}
