//! What becomes of the lines of a service on their way: before anything is stored, shown or counted.

use std::sync::Arc;

use bytes::Bytes;
use paas_core::Result;
use paas_core::model::{
    Level, LogBatch, LogFields, LogLine, LogOrigin, LogPlaces, LogPosition, LogRuleKind, LogRules, LogSample,
    Redaction, Secret, Timestamp,
};

use crate::counter::{Counter, Counters};
use crate::keyword::Keywords;
use crate::level;
use crate::redact::Redactor;

pub(crate) use join::{JoinRule, Joiner};
use parse::Parser;
pub(crate) use route::{Parted, Routes};
#[cfg(feature = "intake")]
pub(crate) use stamp::stamp;
pub(crate) use trial::dry_run;

mod concealed;
mod format;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod join;
mod parse;
mod route;
mod stamp;
#[cfg(test)]
mod tests;
mod trial;

/// What is done to every line, whatever an app says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProcessConfig {
    /// What is taken out of every line, besides the values of secrets: credentials, and numbers of cards.
    pub redact: Vec<Redaction>,
    /// Longer lines are cut, and say so; in bytes.
    pub longest: usize,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        let redact = vec![Redaction::Password, Redaction::Token, Redaction::PrivateKey, Redaction::Card];
        Self { redact, longest: 256 * 1024 }
    }
}

/// The rules of a service, ready for its lines.
#[derive(Debug)]
pub(crate) struct Processor {
    /// Queries of the lines that are dropped, and then those of samples.
    queries: Keywords,
    drops: Vec<Arc<Counter>>,
    samples: Vec<(LogSample, Arc<Counter>)>,
    redactor: Redactor,
    parser: Parser,
    cut: Arc<Counter>,
    longest: usize,
}

impl Processor {
    /// Compiles the rules of an app and of its service.
    ///
    /// # Errors
    /// Where an expression takes too much memory.
    pub(crate) fn new(
        config: &ProcessConfig,
        rules: &[LogRules],
        secrets: &[Secret],
        counters: &Counters,
    ) -> Result<Self> {
        let drops: Vec<_> = rules.iter().flat_map(|rules| &rules.drop).collect();
        let samples: Vec<_> = rules.iter().flat_map(|rules| rules.sample.iter().cloned()).collect();
        let filters = drops.iter().copied().chain(samples.iter().map(|sample| &sample.filter));
        let queries = Keywords::new(filters)?;
        let counted = |sample: LogSample| {
            let counter = counters.of(LogRuleKind::Sample, sample.filter.to_string());
            (sample, counter)
        };
        let redactions = config.redact.iter().chain(rules.iter().flat_map(|rules| &rules.redact));
        Ok(Self {
            queries,
            drops: drops.iter().map(|filter| counters.of(LogRuleKind::Drop, filter.to_string())).collect(),
            samples: samples.into_iter().map(counted).collect(),
            redactor: Redactor::new(redactions, secrets, counters)?,
            parser: Parser::new(rules, counters)?,
            cut: counters.of(LogRuleKind::Cut, format!("longer than {} bytes", config.longest)),
            longest: config.longest,
        })
    }

    /// The lines as they go on. First of all things are taken out, so that whatever is done then is done to what is stored in the
    /// end. Those that are left out count in where the batch ends. Who looks at lines that somebody else stores does not count
    /// what the rules do.
    pub(crate) fn process(&self, batch: LogBatch, counts: bool) -> LogBatch {
        let mut batch = self.masked(batch, counts);
        batch.levels = level::levels(&batch);
        self.parser.read(&mut batch, counts);
        let left_out = self.left_out(&batch, counts);
        if left_out.is_empty() { batch } else { without(&batch, &left_out) }
    }

    /// Which lines are left out, in order.
    fn left_out(&self, batch: &LogBatch, counts: bool) -> Vec<usize> {
        let mut left_out = Vec::new();
        let positions: Vec<_> = match self.samples.is_empty() {
            true => Vec::new(),
            false => batch.lines().map(|line| line.position).collect(),
        };
        self.queries.find(batch, |query, line| {
            let count = match query.checked_sub(self.drops.len()) {
                None => &self.drops[query],
                Some(sample) => {
                    let (sample, count) = &self.samples[sample];
                    if is_kept(&batch.origin, positions[line], sample) {
                        return;
                    }
                    count
                }
            };
            count.add(counts.into());
            left_out.push(line);
        });
        left_out.sort_unstable();
        left_out.dedup();
        left_out
    }

    /// The lines without what is taken out of them, and cut where they are too long.
    fn masked(&self, mut batch: LogBatch, counts: bool) -> LogBatch {
        // What came with a line may have what is taken out of lines, too.
        if let Some(fields) = concealed::fields(&self.redactor, &batch.fields, counts) {
            batch.fields = fields;
        }
        let spans = self.redactor.spans(&batch.buffer, counts);
        let is_long = (0..batch.starts.len()).any(|at| batch.line(at).len() > self.longest);
        if spans.is_empty() && !is_long {
            return batch;
        }
        let mut draft = Draft::with_room(&batch);
        let mut spans = spans.iter().peekable();
        for (at, line) in batch.lines().enumerate() {
            let start = batch.starts[at] as usize;
            let end = start + line.bytes.len();
            while spans.next_if(|span| span.end <= start).is_some() {}
            draft.begin(&line);
            let mut from = start;
            while let Some(span) = spans.peek().filter(|span| span.start < end) {
                draft.text.extend_from_slice(&batch.buffer[from..span.start.max(from)]);
                draft.text.extend(self.redactor.mask(**span, &batch.buffer).bytes());
                from = span.end.min(end).max(from);
                // One that goes on belongs to the next line, too.
                if span.end > end {
                    break;
                }
                spans.next();
            }
            draft.text.extend_from_slice(&batch.buffer[from..end]);
            if draft.cut(self.longest) {
                self.cut.add(counts.into());
            }
            draft.text.push(b'\n');
        }
        draft.finish(&batch)
    }
}

/// A batch without some of its lines, which are in order.
fn without(batch: &LogBatch, left_out: &[usize]) -> LogBatch {
    let mut left_out = left_out.iter().peekable();
    only(batch, |at| left_out.next_if(|own| **own == at).is_none())
}

/// A batch of some lines of another, which ends where that does. Each line is asked about once, in order.
fn only(batch: &LogBatch, mut is_wanted: impl FnMut(usize) -> bool) -> LogBatch {
    let mut draft = Draft::with_room(batch);
    for (at, line) in batch.lines().enumerate() {
        if is_wanted(at) {
            draft.begin(&line);
            draft.text.extend_from_slice(line.bytes);
            draft.text.push(b'\n');
        }
    }
    draft.finish(batch)
}

/// Whether a line is in the share that is kept: by where it stands, so that whoever looks again keeps the same.
fn is_kept(origin: &LogOrigin, position: LogPosition, sample: &LogSample) -> bool {
    let mut hash = crc32fast::Hasher::new();
    hash.update(origin.instance.as_str().as_bytes());
    for part in [position.incarnation, position.sequence, position.index.into()] {
        hash.update(&part.to_le_bytes());
    }
    (u64::from(hash.finalize()) * 10_000) >> 32 < u64::from(sample.keep.basis_points())
}

/// A batch in the making.
struct Draft {
    text: Vec<u8>,
    starts: Vec<u32>,
    times: Vec<Timestamp>,
    levels: Vec<Option<Level>>,
    fields: LogFields,
    places: Vec<LogPosition>,
}

impl Draft {
    fn with_room(batch: &LogBatch) -> Self {
        let lines = batch.starts.len();
        Self {
            text: Vec::with_capacity(batch.buffer.len()),
            starts: Vec::with_capacity(lines),
            times: Vec::with_capacity(lines),
            levels: Vec::with_capacity(lines),
            fields: LogFields::new(),
            places: Vec::with_capacity(lines),
        }
    }

    fn begin(&mut self, line: &LogLine<'_>) {
        self.starts.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.times.push(line.time);
        self.levels.push(line.level);
        self.fields.push(line.fields);
        self.places.push(line.position);
    }

    /// Cuts the line that was written last, if it is too long; at the beginning of a character.
    fn cut(&mut self, longest: usize) -> bool {
        let start = self.starts.last().map_or(0, |start| *start as usize);
        let length = self.text.len() - start;
        if length <= longest {
            return false;
        }
        let mut end = start + longest;
        while end > start && self.text[end] & 0xc0 == 0x80 {
            end -= 1;
        }
        self.text.truncate(end);
        self.text.extend(format!(" [cut: {length} bytes]").bytes());
        true
    }

    fn finish(self, batch: &LogBatch) -> LogBatch {
        let mut rebuilt = LogBatch::stamped(
            batch.origin.clone(),
            Bytes::from(self.text),
            self.starts,
            Vec::new(),
            batch.position,
        );
        rebuilt.times = self.times;
        rebuilt.levels = level::if_any(self.levels);
        rebuilt.fields = if self.fields.is_empty() { LogFields::new() } else { self.fields };
        rebuilt.places = Some(LogPlaces { lines: self.places, end: batch.end() });
        rebuilt
    }
}
