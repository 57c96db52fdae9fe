//! Queries as people write them. One pass over the text; every refusal points at a column.

use std::fmt;
use std::iter::Peekable;
use std::str::CharIndices;

use super::{Comparison, FieldName, FieldTest, Level, LogFilter, Pattern, TextTest, Words};
use crate::Error;
use crate::model::limit;

/// Why a query cannot be read, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryError {
    /// Which character is meant, from 1 on.
    pub column: usize,
    /// What is wrong with it, and what to do.
    pub message: String,
}

impl QueryError {
    pub(super) fn into_error(self) -> Error {
        Error::invalid(self.message.as_str()).with("column", self.column).with_source(self)
    }

    /// The query with a mark under the column, and the message: three lines for a terminal.
    #[must_use]
    pub fn pointed(&self, query: &str) -> String {
        let shown: String = query.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{shown}\n{}^\n{}", " ".repeat(self.column.saturating_sub(1)), self.message)
    }
}

impl fmt::Display for QueryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (column {})", self.message, self.column)
    }
}

impl std::error::Error for QueryError {}

type Parsed<T> = Result<T, QueryError>;

pub(super) fn query(text: &str) -> Parsed<LogFilter> {
    let mut parser = Parser { text, rest: text.char_indices().peekable(), terms: 0 };
    if text.len() > limit::QUERY {
        let longest = limit::QUERY;
        return Err(parser.refuse(text.len(), format!("the query is too long; at most {longest} bytes")));
    }
    let filter = parser.any(0)?;
    let at = parser.at();
    if at < text.len() {
        return Err(parser.refuse(at, "no parenthesis is open here; quotes make it text"));
    }
    Ok(filter)
}

struct Parser<'a> {
    text: &'a str,
    rest: Peekable<CharIndices<'a>>,
    terms: usize,
}

impl<'a> Parser<'a> {
    fn refuse(&self, at: usize, message: impl Into<String>) -> QueryError {
        let before = self.text.get(..at).unwrap_or(self.text);
        QueryError { column: before.chars().count() + 1, message: message.into() }
    }

    /// Where the next character is.
    fn at(&mut self) -> usize {
        self.rest.peek().map_or(self.text.len(), |(at, _)| *at)
    }

    fn next_is(&mut self, wanted: char) -> bool {
        self.rest.peek().is_some_and(|(_, found)| *found == wanted)
    }

    fn take(&mut self, wanted: char) -> bool {
        self.rest.next_if(|(_, found)| *found == wanted).is_some()
    }

    /// Passes over so many characters.
    fn skip(&mut self, count: usize) {
        self.rest.by_ref().take(count).for_each(drop);
    }

    fn skip_space(&mut self) {
        while self.rest.next_if(|(_, found)| found.is_whitespace()).is_some() {}
    }

    /// Takes a word that joins, where it stands alone.
    fn take_keyword(&mut self, keyword: &str) -> bool {
        let at = self.at();
        let Some(after) = self.text[at..].strip_prefix(keyword) else { return false };
        if after.chars().next().is_some_and(|next| !next.is_whitespace() && !"()".contains(next)) {
            return false;
        }
        self.skip(keyword.len());
        true
    }

    /// `a b OR c d`
    fn any(&mut self, depth: usize) -> Parsed<LogFilter> {
        let mut parts = vec![self.all(depth)?];
        loop {
            let at = self.at();
            if !self.take_keyword("OR") {
                break;
            }
            parts.push(self.all(depth)?);
            if parts[parts.len() - 2..].contains(&None) {
                return Err(self.refuse(at, "OR stands between two things to look for; quotes make it text"));
            }
        }
        let mut parts: Vec<LogFilter> = parts.into_iter().flatten().collect();
        Ok(match parts.len() {
            0 => LogFilter::All,
            1 => parts.swap_remove(0),
            _ => LogFilter::Or(parts),
        })
    }

    /// `a b`; `None` where there is nothing.
    fn all(&mut self, depth: usize) -> Parsed<Option<LogFilter>> {
        let mut parts = Vec::new();
        loop {
            self.skip_space();
            let at = self.at();
            if at == self.text.len() || self.next_is(')') {
                break;
            }
            let mut ahead = Parser { text: self.text, rest: self.rest.clone(), terms: 0 };
            if ahead.take_keyword("OR") {
                break;
            }
            parts.push(self.one(depth)?);
        }
        Ok(if parts.is_empty() { None } else { Some(LogFilter::all_of(parts)) })
    }

    /// `a`, `-a`, `(a)`
    fn one(&mut self, depth: usize) -> Parsed<LogFilter> {
        let at = self.at();
        if depth >= limit::QUERY_DEPTH {
            return Err(self.refuse(at, "this is nested too deeply"));
        }
        self.terms += 1;
        if self.terms > limit::QUERY_TERMS {
            let most = limit::QUERY_TERMS;
            return Err(self.refuse(at, format!("there are too many things to look for; at most {most}")));
        }
        if self.take('-') || self.take_keyword("NOT") {
            self.skip_space();
            if self.at() == self.text.len() || self.next_is(')') {
                return Err(self.refuse(at, "nothing follows that is not wanted; quotes make it text"));
            }
            return Ok(LogFilter::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.take('(') {
            let inner = self.any(depth + 1)?;
            return if self.take(')') {
                Ok(inner)
            } else {
                Err(self.refuse(at, "this parenthesis is not closed"))
            };
        }
        self.term()
    }

    /// A test of the line, or of one of its fields.
    fn term(&mut self) -> Parsed<LogFilter> {
        let at = self.at();
        let rest = &self.text[at..];
        let colon = rest.find(|c: char| c == ':' || c.is_whitespace() || "()\"".contains(c));
        let named = colon.filter(|end| rest[*end..].starts_with(':'));
        let Some(name) = named.and_then(|end| FieldName::new(&rest[..end]).ok()) else {
            return Ok(self.text_test()?.map_or(LogFilter::All, LogFilter::Line));
        };
        self.skip(name.as_str().len() + 1);
        if name.as_str() == "level" { self.level() } else { self.field(name) }
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let at = self.at();
        let signs = [
            (">=", Comparison::AtLeast),
            ("<=", Comparison::AtMost),
            ("==", Comparison::Equal),
            (">", Comparison::More),
            ("<", Comparison::Less),
        ];
        let (sign, found) = signs.into_iter().find(|(sign, _)| self.text[at..].starts_with(sign))?;
        self.skip(sign.len());
        Some(found)
    }

    fn level(&mut self) -> Parsed<LogFilter> {
        let comparison = self.comparison().unwrap_or(Comparison::Equal);
        let at = self.at();
        let word = self.bare();
        let level = Level::of(word.as_bytes());
        let known = || Level::ALL.map(Level::as_str).join(", ");
        let level = level.ok_or_else(|| self.refuse(at, format!("no such level; there are {}", known())))?;
        Ok(LogFilter::Level(comparison, level))
    }

    fn field(&mut self, name: FieldName) -> Parsed<LogFilter> {
        let at = self.at();
        if let Some(comparison) = self.comparison() {
            let at = self.at();
            let number = self.bare().parse().ok().filter(|number: &f64| number.is_finite());
            let number =
                number.ok_or_else(|| self.refuse(at, "a number follows here, as in status:>=500"))?;
            return Ok(LogFilter::Field(name, FieldTest::Number(comparison, number)));
        }
        if self.take('=') {
            let text = if self.next_is('"') { self.quoted()? } else { self.bare().to_owned() };
            return Ok(LogFilter::Field(name, FieldTest::Exact(text)));
        }
        if at == self.text.len()
            || self.rest.peek().is_some_and(|(_, next)| next.is_whitespace() || *next == ')')
        {
            return Err(self.refuse(at, "nothing follows the colon; quotes make all of it text"));
        }
        Ok(LogFilter::Field(name, self.text_test()?.map_or(FieldTest::Present, FieldTest::Text)))
    }

    /// Characters up to a space or a parenthesis.
    fn bare(&mut self) -> &'a str {
        let from = self.at();
        while self.rest.next_if(|(_, next)| !next.is_whitespace() && !"()".contains(*next)).is_some() {}
        let to = self.at();
        &self.text[from..to]
    }

    /// `word`, `"some words"`, `/pattern/`; `None` for a star alone.
    fn text_test(&mut self) -> Parsed<Option<TextTest>> {
        let at = self.at();
        if self.next_is('/') {
            return self.pattern().map(Some);
        }
        let mut open_start = false;
        while self.take('*') {
            open_start = true;
        }
        let mut text = if self.next_is('"') { self.quoted()? } else { self.word()?.to_owned() };
        let mut open_end = false;
        while self.take('*') {
            open_end = true;
        }
        if text.is_empty() && open_start {
            return Ok(None);
        }
        if text.is_empty() {
            return Err(self.refuse(at, "there is nothing between the quotes"));
        }
        text.make_ascii_lowercase();
        Ok(Some(TextTest::Words(Words { text, open_start, open_end })))
    }

    /// Characters up to a space, a parenthesis or a star at the end.
    fn word(&mut self) -> Parsed<&'a str> {
        let from = self.at();
        while let Some((at, next)) = self.rest.peek().copied() {
            let ends =
                |text: &str| text.is_empty() || text.starts_with(|c: char| c.is_whitespace() || c == ')');
            match next {
                '"' => return Err(self.refuse(at, "a quote stands at the beginning of a text only")),
                '*' if ends(self.text[at..].trim_start_matches('*')) => break,
                '*' => {
                    let advice =
                        "a star stands at the beginning or the end of a word; within, use a /pattern/";
                    return Err(self.refuse(at, advice));
                }
                next if next.is_whitespace() || "()".contains(next) => break,
                _ => self.skip(1),
            }
        }
        let to = self.at();
        Ok(&self.text[from..to])
    }

    /// What stands between quotes; a backslash keeps a quote or a backslash as it is.
    fn quoted(&mut self) -> Parsed<String> {
        let from = self.at();
        self.rest.next();
        let mut text = String::new();
        while let Some((_, next)) = self.rest.next() {
            match next {
                '"' => return Ok(text),
                '\\' => match self.rest.next_if(|(_, kept)| "\"\\".contains(*kept)) {
                    Some((_, kept)) => text.push(kept),
                    None => text.push('\\'),
                },
                next => text.push(next),
            }
        }
        Err(self.refuse(from, "this quote is not closed"))
    }

    /// A regular expression between slashes; a backslash keeps a slash.
    fn pattern(&mut self) -> Parsed<TextTest> {
        let from = self.at();
        self.rest.next();
        let mut source = String::new();
        loop {
            match self.rest.next() {
                None => {
                    return Err(
                        self.refuse(from, "this pattern is not closed by a slash; quotes make it text")
                    );
                }
                Some((_, '/')) => break,
                Some((_, '\\')) => match self.rest.next() {
                    Some((_, '/')) => source.push('/'),
                    Some((_, kept)) => source.extend(['\\', kept]),
                    None => source.push('\\'),
                },
                Some((_, next)) => source.push(next),
            }
        }
        if source.is_empty() {
            return Err(self.refuse(from, "there is nothing between the slashes; quotes make it text"));
        }
        let any_case = self.take('i');
        let at = self.at();
        if self.rest.peek().is_some_and(|(_, next)| !next.is_whitespace() && *next != ')') {
            return Err(self.refuse(at, "after a pattern follows a space, or an i for any case"));
        }
        let pattern = Pattern::new(&source, any_case);
        pattern.map(TextTest::Pattern).map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let last = cause.lines().last().unwrap_or_default().trim_start_matches("error: ");
            self.refuse(from, format!("{}: {last}", error.message()))
        })
    }
}
