//! What a regular expression matches.

use paas_core::Result;
use paas_core::model::{Pattern, PatternFinder};

use super::Detector;

/// Finds what an expression matches within a line.
#[derive(Debug)]
pub(super) struct Matches(PatternFinder);

impl Matches {
    pub(super) fn new(pattern: &Pattern) -> Result<Self> {
        pattern.finder().map(Self)
    }
}

impl Detector for Matches {
    fn find(&self, text: &[u8], found: &mut dyn FnMut(usize, usize)) {
        if !self.0.is_match(text) {
            return;
        }
        // Line by line: an expression may match newlines, and is not meant to.
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', text).chain([text.len()]) {
            for part in self.0.find_iter(&text[start..end]).filter(|part| !part.is_empty()) {
                found(start + part.start, start + part.end);
            }
            start = end + 1;
        }
    }
}
