//! Lines of one tenant in memory, and as a block of a file: columns of what is known of each line, and the text of all.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memmem;
use paas_core::model::{Level, LogBatch, LogEntry, LogOrigin, LogPosition, StoredLine, Timestamp};

use super::words::{Filter, WordSet};
use crate::codec::line::{self, code};
use crate::codec::{Damage, Decoded, Reader, put_number, put_signed};

/// Lines, in the order in which they came, or in that of their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Lines {
    /// Where they were born, and where each of these is known to end.
    origins: Vec<(Arc<LogOrigin>, LogPosition)>,
    rows: Vec<Row>,
    /// Each line is followed by what is known of it, and by a newline.
    text: Vec<u8>,
}

/// What is known of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) time: Timestamp,
    pub(super) position: LogPosition,
    pub(super) level: Option<Level>,
    origin: u32,
    start: u32,
    length: u32,
    /// How many bytes follow the line, of what is known of it beside its bytes.
    fields: u32,
}

/// What is known of a block without reading it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) lines: u32,
    /// How many bytes of text, and of rows, there are before they are compressed.
    pub(super) text: u32,
    pub(super) rows: u32,
    /// The earliest and the latest line.
    pub(super) first: u64,
    pub(super) last: u64,
    /// Which levels its lines have, a bit each; the lowest is of those without one.
    pub(super) levels: u8,
}

/// A block as it is written.
#[derive(Debug)]
pub(super) struct Encoded {
    pub(super) summary: Summary,
    pub(super) rows: Vec<u8>,
    pub(super) text: Vec<u8>,
    pub(super) filter: Filter,
}

/// Makes blocks. It keeps its room from one to the next.
pub(super) struct Encoder {
    zstd: zstd::bulk::Compressor<'static>,
    words: WordSet,
    text: Vec<u8>,
}

/// How hard zstd tries: what a faster disk would take longer for.
const EFFORT: i32 = 1;

impl Encoder {
    pub(super) fn new() -> std::io::Result<Self> {
        let zstd = zstd::bulk::Compressor::new(EFFORT)?;
        Ok(Self { zstd, words: WordSet::default(), text: Vec::new() })
    }

    /// The lines as a block, in the order of their keys.
    pub(super) fn encode(&mut self, lines: &Lines) -> std::io::Result<Encoded> {
        let rows = lines.ordered();
        let text = &mut self.text;
        text.clear();
        self.words.clear();
        for row in &rows {
            let (line, fields) = (lines.line(row), lines.fields(row));
            self.words.add_line(line);
            self.words.add_line(fields);
            text.extend_from_slice(line);
            text.extend_from_slice(fields);
            text.push(b'\n');
        }
        let columns = lines.columns(&rows);
        let summary = Summary {
            lines: rows.len() as u32,
            text: text.len() as u32,
            rows: columns.len() as u32,
            first: rows.first().map_or(0, |row| row.time.0),
            last: rows.last().map_or(0, |row| row.time.0),
            levels: rows.iter().fold(0, |levels, row| levels | 1 << code(row.level)),
        };
        Ok(Encoded {
            summary,
            rows: self.zstd.compress(&columns)?,
            text: self.zstd.compress(text)?,
            filter: self.words.filter(),
        })
    }
}

impl Lines {
    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.origins.is_empty()
    }

    /// How many bytes of text there are.
    pub(super) fn size(&self) -> usize {
        self.text.len()
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn origins(&self) -> &[(Arc<LogOrigin>, LogPosition)] {
        &self.origins
    }

    pub(super) fn origin(&self, row: &Row) -> &Arc<LogOrigin> {
        &self.origins[row.origin as usize].0
    }

    /// A line, without the newline.
    pub(super) fn line(&self, row: &Row) -> &[u8] {
        &self.text[row.start as usize..][..row.length as usize]
    }

    /// What is known of a line beside its bytes.
    pub(super) fn fields(&self, row: &Row) -> &[u8] {
        &self.text[(row.start + row.length) as usize..][..row.fields as usize]
    }

    /// Where a word in lower case stands, or may stand.
    pub(super) fn hits(&self, word: &memmem::Finder<'_>) -> Hits {
        let text = self.text.to_ascii_lowercase();
        let words = word.find_iter(&text).map(|at| at as u32);
        // Without escapes a line may have words that it does not have as it stands.
        let escapes = memchr::memchr_iter(b'\\', &text).map(|at| at as u32);
        let mut places: Vec<u32> = words.chain(escapes).collect();
        places.sort_unstable();
        Hits(places)
    }

    /// A line where it stands.
    pub(super) fn stored(&self, row: &Row) -> StoredLine<'_> {
        let (line, fields) = (self.line(row), self.fields(row));
        StoredLine { origin: self.origin(row), level: row.level, line, fields }
    }

    pub(super) fn entry(&self, row: &Row) -> LogEntry {
        let line = Bytes::copy_from_slice(self.line(row));
        let entry = LogEntry::new(Arc::clone(self.origin(row)), row.position, row.time, row.level, line);
        entry.with_fields(self.fields(row))
    }

    /// Takes in the lines of a batch, and where it ends.
    pub(super) fn add(&mut self, batch: &LogBatch) {
        let origin = self.of(&Arc::new(batch.origin.clone()), batch.end());
        for line in batch.lines() {
            self.push(origin, Row::new(line.time, line.position, line.level), line.bytes, line.fields);
        }
    }

    /// Takes in those of others' lines that are wanted, and where all of them end.
    pub(super) fn join(&mut self, others: &Self, mut is_wanted: impl FnMut(&Row) -> bool) {
        let origins: Vec<u32> = others.origins.iter().map(|(origin, end)| self.of(origin, *end)).collect();
        for row in others.rows.iter().filter(|row| is_wanted(row)) {
            self.push(origins[row.origin as usize], *row, others.line(row), others.fields(row));
        }
    }

    /// The same lines in the order of their keys, in parts of about so many bytes.
    pub(super) fn parts(lines: Arc<Self>, size: usize) -> Vec<Arc<Self>> {
        if lines.size() < 2 * size {
            return vec![lines];
        }
        let empty = || Self { origins: lines.origins.clone(), ..Self::default() };
        let (mut parts, mut last) = (Vec::new(), empty());
        for row in &lines.ordered() {
            if last.size() >= size {
                parts.push(Arc::new(std::mem::replace(&mut last, empty())));
            }
            last.push(row.origin, *row, lines.line(row), lines.fields(row));
        }
        parts.push(Arc::new(last));
        parts
    }

    /// The rows in the order of their keys.
    fn ordered(&self) -> Vec<Row> {
        let (mut rows, ranks) = (self.rows.clone(), self.ranks());
        rows.sort_by_key(|row| (row.time, ranks[row.origin as usize], row.position));
        rows
    }

    fn push(&mut self, origin: u32, row: Row, line: &[u8], fields: &[u8]) {
        let start = self.text.len() as u32;
        self.text.extend_from_slice(line);
        self.text.extend_from_slice(fields);
        self.text.push(b'\n');
        self.rows.push(Row { origin, start, length: line.len() as u32, fields: fields.len() as u32, ..row });
    }

    /// The number of an origin that ends there, or later.
    fn of(&mut self, origin: &Arc<LogOrigin>, end: LogPosition) -> u32 {
        let known = self.origins.iter().position(|(own, _)| own == origin);
        let at = known.unwrap_or_else(|| {
            self.origins.push((Arc::clone(origin), end));
            self.origins.len() - 1
        });
        self.origins[at].1 = self.origins[at].1.max(end);
        at as u32
    }

    /// The place of each origin in the order of keys.
    fn ranks(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.origins.len()).collect();
        order.sort_by_key(|at| (&self.origins[*at].0.instance, self.origins[*at].0.stream));
        let mut ranks = vec![0; order.len()];
        order.into_iter().enumerate().for_each(|(rank, at)| ranks[at] = rank);
        ranks
    }

    /// All but the text, one thing after the other: what is alike stands together.
    fn columns(&self, rows: &[Row]) -> Vec<u8> {
        let mut out = Vec::with_capacity(rows.len() * 8 + 1024);
        line::put_ends(&mut out, self.origins.iter().map(|(origin, end)| (origin, end)));
        put_number(&mut out, rows.len() as u64);
        let mut before = 0;
        for row in rows {
            put_number(&mut out, row.time.0 - before);
            before = row.time.0;
        }
        rows.iter().for_each(|row| put_number(&mut out, row.origin.into()));
        rows.iter().for_each(|row| put_number(&mut out, row.length.into()));
        rows.iter().for_each(|row| put_number(&mut out, row.fields.into()));
        rows.iter().for_each(|row| out.push(code(row.level)));
        rows.iter().for_each(|row| put_number(&mut out, row.position.index.into()));
        let mut next = Next::of_origins(self.origins.len());
        for row in rows {
            let expected = next.after(row);
            put_signed(&mut out, row.position.incarnation.wrapping_sub(expected.incarnation) as i64);
            put_signed(&mut out, row.position.sequence.wrapping_sub(expected.sequence) as i64);
        }
        out
    }

    /// Reads columns.
    pub(super) fn of_columns(columns: &[u8]) -> Decoded<Self> {
        let mut reader = Reader(columns);
        let origins = line::ends(&mut reader)?;
        // A line has a byte in each of eight columns.
        let count = reader.count_of(8)?;
        let mut rows = Vec::with_capacity(count);
        let mut time: u64 = 0;
        for _ in 0..count {
            time = time.checked_add(reader.number()?).ok_or(Damage("a time is too late"))?;
            rows.push(Row::new(Timestamp(time), LogPosition::offset(0, 0), None));
        }
        for row in &mut rows {
            row.origin = reader.small()?;
            if row.origin as usize >= origins.len() {
                return Err(Damage("a line has no origin"));
            }
        }
        for row in &mut rows {
            row.length = reader.small()?;
        }
        let mut start: u32 = 0;
        for row in &mut rows {
            (row.start, row.fields) = (start, reader.small()?);
            start = row.checked_end().ok_or(Damage("the lines are too long"))?;
        }
        for row in &mut rows {
            let [code] = reader.fixed()?;
            row.level = line::level(code)?;
        }
        for row in &mut rows {
            row.position.index = reader.small()?;
        }
        let mut next = Next::of_origins(origins.len());
        for row in &mut rows {
            let expected = next.of(row);
            row.position.incarnation = expected.incarnation.wrapping_add(reader.signed()? as u64);
            row.position.sequence = expected.sequence.wrapping_add(reader.signed()? as u64);
            next.after(row);
        }
        reader.end()?;
        Ok(Self { origins, rows, text: Vec::new() })
    }

    /// Gives the lines their text, which is as long as they are.
    pub(super) fn with_text(mut self, text: Vec<u8>) -> Decoded<Self> {
        let end = self.rows.last().map_or(0, |row| row.end() as usize);
        if text.len() != end {
            return Err(Damage("the text is not as long as its lines"));
        }
        self.text = text;
        Ok(self)
    }
}

/// Where the next line of each origin begins if positions are offsets, and nothing is missing.
struct Next(Vec<LogPosition>);

impl Next {
    fn of_origins(count: usize) -> Self {
        Self(vec![LogPosition::offset(0, 0); count])
    }

    fn of(&self, row: &Row) -> LogPosition {
        self.0[row.origin()]
    }

    /// What was expected of a line; what comes after it is from then on.
    fn after(&mut self, row: &Row) -> LogPosition {
        let sequence = row.position.sequence.wrapping_add(u64::from(row.length) + 1);
        std::mem::replace(&mut self.0[row.origin()], LogPosition { sequence, ..row.position })
    }
}

/// Places in the text of some lines, in order.
pub(super) struct Hits(Vec<u32>);

impl Hits {
    /// Whether one of them is in a line.
    pub(super) fn are_in(&self, row: &Row) -> bool {
        let first = self.0.partition_point(|place| *place < row.start);
        self.0.get(first).is_some_and(|place| *place < row.end())
    }
}

impl Row {
    /// The number of its origin.
    pub(super) fn origin(&self) -> usize {
        self.origin as usize
    }

    fn new(time: Timestamp, position: LogPosition, level: Option<Level>) -> Self {
        Self { time, position, level, origin: 0, start: 0, length: 0, fields: 0 }
    }

    /// Where the next line begins.
    fn end(&self) -> u32 {
        self.start + self.length + self.fields + 1
    }

    fn checked_end(&self) -> Option<u32> {
        self.start.checked_add(self.length)?.checked_add(self.fields)?.checked_add(1)
    }
}
