//! What a regular expression matches.

use paas_core::Result;
use paas_core::model::{Pattern, PatternFinder};

use super::{Detector, Text};

/// After so many in a line all of the rest is taken out: each may have cost a look at all of it.
const MOST: usize = 1_000;

/// Finds what an expression matches within a line.
#[derive(Debug)]
pub(super) struct Matches(PatternFinder);

impl Matches {
    pub(super) fn new(pattern: &Pattern) -> Result<Self> {
        pattern.finder().map(Self)
    }
}

impl Detector for Matches {
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize)) {
        let text = text.bytes;
        if !self.0.is_match(text) {
            return;
        }
        // Line by line: an expression may match newlines, and is not meant to.
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', text).chain([text.len()]) {
            let line = &text[start..end];
            for (number, part) in self.0.find_iter(line).filter(|part| !part.is_empty()).enumerate() {
                if number == MOST {
                    found(start + part.start, end);
                    break;
                }
                found(start + part.start, start + part.end);
            }
            start = end + 1;
        }
    }
}
