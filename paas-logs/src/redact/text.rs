//! What several kinds look for in the same text is found once, when the first of them asks.

use std::cell::OnceCell;
use std::ops::Range;

/// A text that things are taken out of.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub(super) bytes: &'a [u8],
    lower: OnceCell<Vec<u8>>,
    numbers: OnceCell<Vec<Range<usize>>>,
}

/// No number that is looked for has a shorter run of digits.
const SHORTEST: usize = 6;

/// Of four bytes, how much each makes it likely that they are of a number.
const WEIGHTS: [u8; 256] = {
    let mut weights = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        weights[byte] = match byte as u8 {
            b'0'..=b'9' => 8,
            b' ' | b'-' | b'.' => 5,
            _ => 0,
        };
        byte += 1;
    }
    weights
};
/// Three digits are, and two with what may stand between digits around them; fewer are not.
const LIKELY: u8 = 24;

impl<'a> Text<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, lower: OnceCell::new(), numbers: OnceCell::new() }
    }

    /// The same in lower case, as far as it is ASCII.
    pub(super) fn lower(&self) -> &[u8] {
        self.lower.get_or_init(|| self.bytes.to_ascii_lowercase())
    }

    /// Runs of digits with single spaces, dots or hyphens between them, in order: all that have six digits in a row, and all
    /// of eight bytes or more.
    pub(super) fn numbers(&self) -> &[Range<usize>] {
        self.numbers.get_or_init(|| numbers(self.bytes))
    }
}

/// Most of a text is no number, so it is passed over in steps of four bytes. Eight bytes of a run have four of them in one
/// step, and of six digits at least three are in one, wherever they begin.
fn numbers(text: &[u8]) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let mut known = 0;
    for (step, four) in text.as_chunks::<4>().0.iter().enumerate() {
        let weight: u8 = four.iter().map(|byte| WEIGHTS[usize::from(*byte)]).sum();
        if weight < LIKELY {
            continue;
        }
        let from = step * 4;
        for at in from..from + four.len() {
            if at >= known && text[at].is_ascii_digit() {
                let run = run_around(text, at, known);
                known = run.end;
                if run.len() >= SHORTEST {
                    all.push(run);
                }
            }
        }
    }
    all
}

/// The run that a digit is in, which does not begin before `known`.
fn run_around(text: &[u8], digit: usize, known: usize) -> Range<usize> {
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let is_between = |at: usize| matches!(text.get(at), Some(b' ' | b'-' | b'.'));
    let (mut start, mut end) = (digit, digit + 1);
    while start > known {
        if is_digit(start - 1) {
            start -= 1;
        } else if start >= known + 2 && is_between(start - 1) && is_digit(start - 2) {
            start -= 2;
        } else {
            break;
        }
    }
    loop {
        if is_digit(end) {
            end += 1;
        } else if is_between(end) && is_digit(end + 1) {
            end += 2;
        } else {
            return start..end;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All runs, one byte after the other.
    fn slowly(text: &[u8]) -> Vec<Range<usize>> {
        let (mut all, mut at) = (Vec::new(), 0);
        while at < text.len() {
            if text[at].is_ascii_digit() {
                let run = run_around(text, at, at);
                at = run.end;
                all.push(run);
            } else {
                at += 1;
            }
        }
        all
    }

    fn has_six_digits(text: &[u8]) -> bool {
        text.windows(6).any(|six| six.iter().all(u8::is_ascii_digit))
    }

    proptest! {
        #[test]
        fn no_run_is_passed_over(text in "[0-9 .a-]{0,60}|[0-9]{0,9}[x ]?[0-9]{0,9}[- ][0-9]{1,4}") {
            let text = text.as_bytes();
            let (all, found) = (slowly(text), numbers(text));
            for run in &found {
                prop_assert!(all.contains(run), "{run:?} of {all:?}");
            }
            for run in all {
                let counts = run.len() >= 8 || has_six_digits(&text[run.clone()]);
                prop_assert!(!counts || found.contains(&run), "{run:?} not in {found:?}");
            }
            prop_assert!(found.is_sorted_by(|one, next| one.end <= next.start));
        }
    }
}
