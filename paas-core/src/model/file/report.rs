//! What is wrong in a file, as people read it: place, sentence, and the line with a caret under it.

use std::fmt::{self, Display};

use serde::Serialize;

use crate::Error;
use crate::model::limit;
use crate::model::name::excerpt;

/// A place in the text: line and column from 1, in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Spot {
    pub(super) line: usize,
    pub(super) column: usize,
    pub(super) width: usize,
}

/// One thing that is wrong in an app file.
///
/// `Display` is the place, the message, and the line of the file with a caret under the spot. Text of the file is shown
/// without its control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnostic {
    /// The name of the file, as the caller gave it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// Keys and list positions that lead there, like `services.api.needs.0`.
    pub path: String,
    /// What is wrong, on one line.
    pub message: String,
    /// What belongs there instead, where that can be said.
    pub expected: Option<String>,
    /// The valid key, word or service that was most likely meant.
    pub nearest: Option<String>,
    /// The line of the file, and the caret under the spot, on two lines.
    pub excerpt: String,
}

impl Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: {}", self.file, self.line, self.column, self.message)?;
        if self.excerpt.is_empty() { Ok(()) } else { write!(f, "\n{}", self.excerpt) }
    }
}

/// Everything that is wrong in an app file, up to [`limit::APP_FILE_FINDINGS`] findings in the order of the file.
///
/// It is the source of the [`Error`] that [`super::AppFile`] returns, for those who show findings in their own way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFileError {
    file: String,
    diagnostics: Vec<Diagnostic>,
    more: bool,
}

impl AppFileError {
    /// The findings behind an error of [`super::AppFile`]; `None` where the error is none of its.
    #[must_use]
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }

    /// The findings, in the order of the file.
    #[must_use]
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Whether there are more findings than are listed.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.more
    }
}

impl Display for AppFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, more) = (self.diagnostics.len(), if self.more { " or more" } else { "" });
        write!(f, "{count}{more} finding{} in {}", if count == 1 { "" } else { "s" }, self.file)
    }
}

impl std::error::Error for AppFileError {}

/// Collects findings about one text.
#[derive(Debug)]
pub(super) struct Report {
    file: String,
    lines: Vec<String>,
    found: Vec<Diagnostic>,
    more: bool,
}

impl Report {
    pub(super) fn new(file: &str, text: &str) -> Self {
        // The breaks that the scanner counts.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let lines = text.split(['\n', '\r']).map(str::to_owned).collect();
        let file: String = file.chars().map(visible).collect();
        Self { file, lines, found: Vec::new(), more: false }
    }

    /// Adds a finding; `&mut` of it to say more.
    pub(super) fn add(
        &mut self,
        spot: Spot,
        path: &[String],
        message: impl Into<String>,
    ) -> Option<&mut Diagnostic> {
        if self.found.len() >= limit::APP_FILE_FINDINGS {
            self.more = true;
            return None;
        }
        // The scanner's end of the text may be a line after its last.
        let last = self.lines.len().max(1);
        let past = spot.line > last || spot.line == last && last > 1 && self.lines[last - 1].is_empty();
        let line = if past && last > 1 && self.lines[last - 1].is_empty() {
            last - 1
        } else {
            spot.line.clamp(1, last)
        };
        let text = self.lines.get(line - 1).map_or("", String::as_str);
        let length = text.chars().count();
        let column = if past { length + 1 } else { spot.column.clamp(1, length + 1) };
        let width = spot.width.clamp(1, (length + 1).saturating_sub(column).max(1));
        self.found.push(Diagnostic {
            file: self.file.clone(),
            line,
            column,
            path: excerpt_path(path),
            message: message.into(),
            expected: None,
            nearest: None,
            excerpt: underline(line, text, column, width),
        });
        self.found.last_mut()
    }

    /// A line of the text, from 1.
    pub(super) fn line(&self, number: usize) -> &str {
        number.checked_sub(1).and_then(|at| self.lines.get(at)).map_or("", String::as_str)
    }

    /// Whether another finding would still be listed.
    pub(super) fn has_room(&self) -> bool {
        self.found.len() < limit::APP_FILE_FINDINGS
    }

    /// Notes that there would be more.
    pub(super) fn cut(&mut self) {
        self.more = true;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All findings as one error.
    pub(super) fn into_error(mut self) -> Error {
        self.found.sort_by_key(|finding| (finding.line, finding.column));
        let mut text = self.found.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n");
        if self.more {
            text.push_str("\nthere is more; these are the first findings");
        }
        let error = AppFileError { file: self.file, diagnostics: self.found, more: self.more };
        Error::invalid(text).with_source(error)
    }
}

fn excerpt_path(path: &[String]) -> String {
    path.iter().map(|part| excerpt(part)).collect::<Vec<_>>().join(".")
}

/// A character as it may be printed: nothing that moves the cursor, colours, or turns the direction of text.
fn visible(c: char) -> char {
    match c {
        '\t' => ' ',
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' => '·',
        c if c.is_control() => '·',
        c => c,
    }
}

/// The line, cut around the spot where it is long, and a caret under the spot.
fn underline(line: usize, text: &str, column: usize, width: usize) -> String {
    const BEFORE: usize = 60;
    const SHOWN: usize = 100;
    let skipped = column.saturating_sub(BEFORE + 1);
    let mut shown: String = text.chars().skip(skipped).take(SHOWN).map(visible).collect();
    let mut caret = column - 1 - skipped;
    if skipped > 0 {
        shown.insert(0, '…');
        caret += 1;
    }
    if text.chars().nth(skipped + SHOWN).is_some() {
        shown.push('…');
    }
    let carets = "^".repeat(width.min(SHOWN.saturating_sub(caret)).max(1));
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    format!("  {number} | {}\n  {gutter} | {}{carets}", shown.trim_end(), " ".repeat(caret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_around_the_spot() {
        let text = format!("{}x{}", "a".repeat(500), "b".repeat(500));
        let shown = underline(3, &text, 501, 1);
        let lines: Vec<&str> = shown.lines().collect();
        let caret = lines[1].chars().position(|c| c == '^').unwrap();
        assert_eq!(lines[0].chars().nth(caret), Some('x'));
        assert!(lines[0].chars().count() < 120);
    }

    #[test]
    fn a_place_outside_the_text_is_moved_into_it() {
        let mut report = Report::new("f\u{1b}", "a: 1\n");
        for (line, column) in [(0, 0), (1, 99), (2, 1), (99, 99)] {
            let found = report.add(Spot { line, column, width: 7 }, &[], "x").unwrap();
            assert_eq!(found.line, 1);
            assert!((1..=5).contains(&found.column));
            assert_eq!(found.file, "f·");
        }
    }
}
