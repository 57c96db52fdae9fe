//! Takes out of lines what nobody should read there: before anything is stored, shown or counted.
//!
//! Each kind looks through a whole batch at once for the few bytes that it cannot do without (an `@`, `://`, a run of digits,
//! the beginning of a token), and only there looks closer.

mod credential;
mod email;
mod number;
mod pattern;
mod secret;
#[cfg(test)]
mod tests;
mod text;
mod token;

pub(crate) use credential::{is_key_line, is_open_key};

use std::sync::Arc;
use std::time::Instant;

use paas_core::Result;
use paas_core::model::{LogRuleKind, Redaction, Secret};

use crate::counter::{Counter, Counters};
use text::Text;

/// How far around a span is looked for what it is a value of.
const NEAR: usize = 16;

/// A part of a text that is taken out, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
    rule: usize,
}

/// Finds what is to be taken out.
#[derive(Debug)]
pub(crate) struct Redactor {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    detector: Box<dyn Detector>,
    /// What stands in the place of what is taken out.
    mask: String,
    counter: Arc<Counter>,
}

/// Finds one kind of thing.
trait Detector: std::fmt::Debug + Send + Sync {
    /// Calls `found` with where each begins and ends, in any order.
    fn find(&self, text: &Text<'_>, found: &mut dyn FnMut(usize, usize));
}

impl Redactor {
    /// Takes out the values of secrets, and what rules name. Values of fewer than six bytes stand in too many lines by
    /// chance, and stay.
    ///
    /// # Errors
    /// Where a regular expression takes too much memory.
    pub(crate) fn new<'a>(
        rules: impl IntoIterator<Item = &'a Redaction>,
        secrets: &[Secret],
        counters: &Counters,
    ) -> Result<Self> {
        let (mut all, mut known): (Vec<Rule>, Vec<&Redaction>) = (Vec::new(), Vec::new());
        all.extend(
            secret::Values::new(secrets)?.map(|values| Rule::new("secret", Box::new(values), counters)),
        );
        for rule in rules {
            if known.contains(&rule) {
                continue;
            }
            known.push(rule);
            let detector: Box<dyn Detector> = match rule {
                Redaction::Card => Box::new(number::Cards),
                Redaction::Phone => Box::new(number::Phones),
                Redaction::NationalId => Box::new(number::NationalIds),
                Redaction::Email => Box::new(email::Emails),
                Redaction::Token => Box::new(token::Tokens::new()?),
                Redaction::PrivateKey => Box::new(credential::PrivateKeys),
                Redaction::Password => Box::new(credential::Passwords::new()?),
                Redaction::Pattern { pattern, .. } => Box::new(pattern::Matches::new(pattern)?),
                // A kind that a later version knows.
                _ => continue,
            };
            all.push(Rule::new(rule.name(), detector, counters));
        }
        Ok(Self { rules: all })
    }

    /// What is to be taken out of a text, in order; none lies over another.
    pub(crate) fn spans(&self, text: &[u8], counts: bool) -> Vec<Span> {
        let (mut spans, text) = (Vec::new(), Text::new(text));
        for (rule, own) in self.rules.iter().enumerate() {
            let (mut count, begun) = (0, Instant::now());
            own.detector.find(&text, &mut |start, end| {
                count += 1;
                spans.push(Span { start, end, rule });
            });
            if counts {
                own.counter.add(count);
                own.counter.took(begun.elapsed());
            }
        }
        spans.sort_unstable_by_key(|span| (span.start, span.rule));
        spans.dedup_by(|next, kept| {
            let overlaps = next.start < kept.end;
            if overlaps {
                kept.end = kept.end.max(next.end);
            }
            overlaps
        });
        spans
    }

    /// What stands in the place of a span. A bare value of a JSON object becomes a string, so that it stays one.
    pub(crate) fn mask(&self, span: Span, text: &[u8]) -> String {
        let mask = &self.rules[span.rule].mask;
        let before = text[span.start.saturating_sub(NEAR)..span.start].trim_ascii_end().last();
        let after = text[span.end..text.len().min(span.end + NEAR)].trim_ascii_start().first();
        let is_bare = before == Some(&b':') && matches!(after, Some(b',' | b'}' | b']'));
        if is_bare { format!("\"{mask}\"") } else { mask.clone() }
    }
}

impl Rule {
    fn new(name: &str, detector: Box<dyn Detector>, counters: &Counters) -> Self {
        Self { detector, mask: mask(name), counter: counters.of(LogRuleKind::Redact, name) }
    }
}

fn mask(name: &str) -> String {
    format!("[redacted:{name}]")
}
