//! Which words a line must have for a filter to match it, so that who knows the words of many lines can pass over them.

use super::{FieldTest, LogFilter, TextTest, Words, is_word};
use crate::model::search::of_origin;

/// What a line must have, or a filter does not match it. The converse does not hold.
///
/// A line has the words that stand in it, and those that stand in it once [escapes](super::unescaped) are taken out of it;
/// in any case of the letters A to Z.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WordNeed {
    /// Nothing that is known.
    Nothing,
    /// A word, in lower case.
    Word(Box<[u8]>),
    /// All of these.
    All(Vec<WordNeed>),
    /// One of these.
    Any(Vec<WordNeed>),
}

impl LogFilter {
    /// The words that a line must have for it to match.
    #[must_use]
    pub fn words(&self) -> WordNeed {
        match self {
            Self::All | Self::Not(_) | Self::Level(..) => WordNeed::Nothing,
            Self::And(parts) => WordNeed::all(parts.iter().map(Self::words)),
            Self::Or(parts) => WordNeed::any(parts.iter().map(Self::words)),
            Self::Line(test) => of_text(test),
            Self::Field(name, _) if of_origin(name.as_str()).is_some() => WordNeed::Nothing,
            Self::Field(name, test) => {
                let value = match test {
                    FieldTest::Present | FieldTest::Number(..) => WordNeed::Nothing,
                    FieldTest::Text(test) => of_text(test),
                    FieldTest::Exact(text) => whole(text, false, false),
                };
                WordNeed::all([whole(name.as_str(), false, false), value])
            }
        }
    }
}

fn of_text(test: &TextTest) -> WordNeed {
    match test {
        TextTest::Words(Words { text, open_start, open_end }) => whole(text, *open_start, *open_end),
        TextTest::Pattern(_) => WordNeed::Nothing,
    }
}

/// The words that stand whole in a text, of which the first and the last may be parts of longer ones.
fn whole(text: &str, open_start: bool, open_end: bool) -> WordNeed {
    let mut words = Vec::new();
    let mut rest = text.as_bytes();
    while let Some(start) = rest.iter().position(|byte| is_word(*byte)) {
        let length = rest[start..].iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len() - start);
        let is_first = rest.len() == text.len() && start == 0;
        let is_last = start + length == rest.len();
        if !(is_first && open_start || is_last && open_end) {
            words.push(WordNeed::Word(rest[start..start + length].to_ascii_lowercase().into()));
        }
        rest = &rest[start + length..];
    }
    WordNeed::all(words)
}

impl WordNeed {
    fn all(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut known: Vec<Self> = Vec::new();
        for part in parts {
            match part {
                Self::Nothing => {}
                Self::All(inner) => known.extend(inner),
                part => known.push(part),
            }
        }
        match known.len() {
            0 => Self::Nothing,
            1 => known.swap_remove(0),
            _ => Self::All(known),
        }
    }

    fn any(parts: impl Iterator<Item = Self>) -> Self {
        let parts: Vec<Self> = parts.collect();
        if parts.contains(&Self::Nothing) { Self::Nothing } else { Self::Any(parts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::filter::unescaped;

    fn words(line: &[u8]) -> Vec<Vec<u8>> {
        let of = |text: &[u8]| {
            let words = text.split(|byte| !is_word(*byte)).filter(|word| !word.is_empty());
            words.map(<[u8]>::to_ascii_lowercase).collect::<Vec<_>>()
        };
        [of(line), of(&unescaped(line))].concat()
    }

    fn is_met(need: &WordNeed, words: &[Vec<u8>]) -> bool {
        match need {
            WordNeed::Nothing => true,
            WordNeed::Word(word) => words.iter().any(|own| **own == **word),
            WordNeed::All(parts) => parts.iter().all(|part| is_met(part, words)),
            WordNeed::Any(parts) => parts.iter().any(|part| is_met(part, words)),
        }
    }

    /// Whether the words of a line say that a query may match it.
    fn may_match(query: &str, line: &str) -> bool {
        is_met(&LogFilter::parse(query).unwrap().words(), &words(line.as_bytes()))
    }

    #[test]
    fn a_line_without_a_word_is_passed_over() {
        assert!(may_match("error timeout", "Timeout: an ERROR"));
        assert!(!may_match("error timeout", "an error"));
        assert!(may_match("error OR timeout", "an error"));
        assert!(!may_match("error OR timeout", "a fault"));
        assert!(!may_match("\"connection refused\"", "connection lost"));
        assert!(!may_match("status:500", "status=404"));
        assert!(!may_match("status:*", "code=404"));
        assert!(!may_match("(a OR b) c", "a b"));
    }

    #[test]
    fn what_may_match_is_not_passed_over() {
        for (query, line) in [
            ("-health", "other"),
            ("conn* refused", "connection refused"),
            ("*nect*", "connection"),
            (r"/time=\d+ms/", "nothing of it"),
            ("level:error", "no word of it"),
            ("stream:stderr", "the origin knows"),
            ("error OR /x/", "x"),
            ("ms:>=5", "ms=7"),
            (r"text:second", r#"{"text":"first\nsecond"}"#),
            ("text:\u{e9}t\u{e9}", r#"{"text":"\u00e9t\u00e9"}"#),
            (r#"name:="a b""#, r#"{"na\u006de":"a b"}"#),
        ] {
            assert!(may_match(query, line), "{query} on {line}");
        }
    }
}
