//! Finds lines: block by block, those first in which what is asked for comes first, and none that cannot have it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Memory};

use memchr::memmem;
use paas_core::model::{
    Comparison, Level, LogEntry, LogFilter, LogKey, LogMatcher, LogOrder, LogPage, LogQuery, WordNeed,
};
use paas_core::{Error, Result};

use super::block::Block;
use super::files::Files;
use super::lines::{Lines, Row};
use super::segment::{Segment, unread};
use super::tenant::Tenant;
use crate::codec::line::code;
use crate::disk::DiskFile;

/// A query that is ready to be held against lines.
pub(super) struct Search<'a> {
    query: &'a LogQuery,
    matcher: LogMatcher,
    need: WordNeed,
    /// The longest word that each line must have.
    word: Option<memmem::Finder<'static>>,
    /// Which levels a line may have, a bit each.
    levels: u8,
    given_up: &'a AtomicBool,
}

impl<'a> Search<'a> {
    pub(super) fn new(query: &'a LogQuery, given_up: &'a AtomicBool) -> Result<Self> {
        let (need, levels) = (query.filter.words(), levels(&query.filter));
        let word = longest(&need).map(|word| memmem::Finder::new(word).into_owned());
        Ok(Self { query, matcher: query.filter.matcher()?, need, word, levels, given_up })
    }

    /// A page of what a tenant has.
    pub(super) fn page(&self, tenant: &Tenant, files: &Files) -> Result<LogPage> {
        let limit = self.query.bounded_limit();
        let mut found = Found { order: self.query.order, most: limit + 1, entries: BTreeMap::new() };
        let segments = self.look_at_head(tenant, |lines, row| found.offer(lines, row));
        let mut blocks: Vec<(&Segment, usize)> = self.blocks(&segments).collect();
        match self.query.order {
            LogOrder::Newest => {
                blocks.sort_by_key(|(segment, at)| std::cmp::Reverse(segment.blocks[*at].summary.last));
            }
            LogOrder::Oldest => blocks.sort_by_key(|(segment, at)| segment.blocks[*at].summary.first),
        }
        let mut reading = Reading::new(self, files, true);
        for (segment, at) in blocks {
            if found.is_better_than(&segment.blocks[at]) {
                break;
            }
            reading.look_at(segment, at, &mut |lines, row| found.offer(lines, row))?;
        }
        Ok(found.into_page(limit))
    }

    /// Calls `each` with every line that matches, in no order.
    pub(super) fn visit(
        &self,
        tenant: &Tenant,
        files: &Files,
        mut each: impl FnMut(&Lines, &Row),
    ) -> Result<()> {
        let segments = self.look_at_head(tenant, &mut each);
        let mut reading = Reading::new(self, files, false);
        for (segment, at) in self.blocks(&segments) {
            reading.look_at(segment, at, &mut each)?;
        }
        Ok(())
    }

    /// What is in memory, and the segments that go with it.
    fn look_at_head(&self, tenant: &Tenant, mut each: impl FnMut(&Lines, &Row)) -> Vec<Segment> {
        let (head, segments) = {
            let view = tenant.read();
            (Arc::clone(&view.head), view.segments.values().cloned().collect())
        };
        self.look_at_lines(&head, &self.rows(&head, None), &mut each);
        segments
    }

    /// The blocks that may have something, by what is known of them.
    fn blocks<'s>(&'s self, segments: &'s [Segment]) -> impl Iterator<Item = (&'s Segment, usize)> {
        segments.iter().flat_map(move |segment| {
            let wanted = move |at: &usize| {
                let summary = &segment.blocks[*at].summary;
                let from = self.query.from.max(segment.floor).0;
                summary.last >= from && summary.first < self.query.to.0 && summary.levels & self.levels != 0
            };
            (0..segment.blocks.len()).filter(wanted).map(move |at| (segment, at))
        })
    }

    /// The rows that are asked for, whatever stands in them.
    fn rows(&self, lines: &Lines, segment: Option<&Segment>) -> Vec<Row> {
        let is_covered: Vec<bool> =
            lines.origins().iter().map(|(origin, _)| self.query.covers(origin)).collect();
        let from = segment.map_or(self.query.from, |segment| segment.floor.max(self.query.from));
        let is_wanted = |row: &&Row| {
            is_covered[row.origin()]
                && (from..self.query.to).contains(&row.time)
                && self.query.after.as_ref().is_none_or(|after| match self.query.order {
                    LogOrder::Newest => by_key(lines, row, after) == Ordering::Less,
                    LogOrder::Oldest => by_key(lines, row, after) == Ordering::Greater,
                })
                && self.levels & 1 << code(row.level) != 0
        };
        lines.rows().iter().filter(is_wanted).copied().collect()
    }

    fn look_at_lines(&self, lines: &Lines, rows: &[Row], each: &mut impl FnMut(&Lines, &Row)) {
        let hits = self.word.as_ref().map(|word| lines.hits(word));
        let may_match = |row: &&Row| hits.as_ref().is_none_or(|hits| hits.are_in(row));
        let wanted = |row: &&Row| may_match(row) && self.matcher.matches(&lines.stored(row));
        let rows = rows.iter().filter(wanted);
        // Those that come first are found first: the others need not be kept then.
        match self.query.order {
            LogOrder::Newest => rows.rev().for_each(|row| each(lines, row)),
            LogOrder::Oldest => rows.for_each(|row| each(lines, row)),
        }
    }
}

/// The longest word that is needed whatever else is.
fn longest(need: &WordNeed) -> Option<&[u8]> {
    match need {
        WordNeed::Word(word) => Some(word),
        WordNeed::All(parts) => parts.iter().filter_map(longest).max_by_key(|word| word.len()),
        _ => None,
    }
}

/// How the key of a line compares with another.
fn by_key(lines: &Lines, row: &Row, key: &LogKey) -> Ordering {
    let origin = lines.origin(row);
    let own = (row.time, &origin.instance, origin.stream, row.position);
    own.cmp(&(key.time, &key.instance, key.stream, key.position))
}

/// Which levels a line may have to match, a bit each; the lowest is of those without one.
fn levels(filter: &LogFilter) -> u8 {
    match filter {
        LogFilter::Level(comparison, level) => bits(*comparison, *level),
        LogFilter::And(parts) => parts.iter().fold(0xff, |all, part| all & levels(part)),
        LogFilter::Or(parts) => parts.iter().fold(0, |all, part| all | levels(part)),
        _ => 0xff,
    }
}

fn bits(comparison: Comparison, level: Level) -> u8 {
    let wanted = Level::ALL.into_iter().filter(|own| comparison.holds(own, &level));
    wanted.fold(0, |bits, own| bits | 1 << code(Some(own)))
}

/// Reads blocks, and knows of each segment which may have the words.
struct Reading<'a> {
    search: &'a Search<'a>,
    files: &'a Files,
    /// Whether what is read may soon be asked for again.
    keeps: bool,
    open: HashMap<Arc<std::path::Path>, Opened>,
}

struct Opened {
    file: Arc<dyn DiskFile>,
    /// A bit for each block: whether it may have what is needed.
    marks: Vec<u8>,
}

impl<'a> Reading<'a> {
    fn new(search: &'a Search<'a>, files: &'a Files, keeps: bool) -> Self {
        Self { search, files, keeps, open: HashMap::new() }
    }

    fn look_at(&mut self, segment: &Segment, at: usize, each: &mut impl FnMut(&Lines, &Row)) -> Result<()> {
        if self.search.given_up.load(Memory::Relaxed) {
            return Err(Error::unavailable("nobody waits for the answer any more"));
        }
        let Some(opened) = self.opened(segment)? else { return Ok(()) };
        if opened.marks[at / 8] & 1 << (at % 8) == 0 {
            return Ok(());
        }
        let file = Arc::clone(&opened.file);
        let key = (Arc::clone(&segment.path), at);
        if let Some(lines) = self.files.cache.get(&key) {
            self.search.look_at_lines(&lines, &self.search.rows(&lines, Some(segment)), each);
            return Ok(());
        }
        let block = &segment.blocks[at];
        let broken = |cause| unread(&segment.path, cause);
        let lines = block.read_rows(&*file).map_err(broken)?;
        let rows = self.search.rows(&lines, Some(segment));
        if rows.is_empty() {
            return Ok(());
        }
        let text = block.read_text(&*file).map_err(broken)?;
        let lines = lines.with_text(text).map_err(|damage| crate::error::damaged(&segment.path, damage))?;
        let lines = Arc::new(lines);
        if self.keeps {
            self.files.cache.put(key, &lines);
        }
        self.search.look_at_lines(&lines, &rows, each);
        Ok(())
    }

    /// `None` where it was forgotten meanwhile.
    fn opened(&mut self, segment: &Segment) -> Result<Option<&Opened>> {
        if !self.open.contains_key(&segment.path) {
            let file = match &segment.file {
                Some(file) => Some(Arc::clone(file)),
                None => self.files.open(&segment.path)?,
            };
            let Some(file) = file else { return Ok(None) };
            let marks = segment.marks(&*file, &self.search.need)?;
            self.open.insert(Arc::clone(&segment.path), Opened { file, marks });
        }
        Ok(self.open.get(&segment.path))
    }
}

/// The best lines so far.
struct Found {
    order: LogOrder,
    most: usize,
    entries: BTreeMap<LogKey, LogEntry>,
}

impl Found {
    /// Whether as many lines as are asked for are all before those of a block.
    fn is_better_than(&self, block: &Block) -> bool {
        self.worst().is_some_and(|worst| match self.order {
            LogOrder::Newest => worst.time.0 > block.summary.last,
            LogOrder::Oldest => worst.time.0 < block.summary.first,
        })
    }

    /// The last of them, once there are enough.
    fn worst(&self) -> Option<&LogKey> {
        let worst = match self.order {
            LogOrder::Newest => self.entries.keys().next(),
            LogOrder::Oldest => self.entries.keys().next_back(),
        };
        worst.filter(|_| self.entries.len() >= self.most)
    }

    fn offer(&mut self, lines: &Lines, row: &Row) {
        let is_worse = self.worst().is_some_and(|worst| match self.order {
            LogOrder::Newest => by_key(lines, row, worst) == Ordering::Less,
            LogOrder::Oldest => by_key(lines, row, worst) == Ordering::Greater,
        });
        if is_worse {
            return;
        }
        let entry = lines.entry(row);
        self.entries.insert(entry.key(), entry);
        if self.entries.len() > self.most {
            match self.order {
                LogOrder::Newest => self.entries.pop_first(),
                LogOrder::Oldest => self.entries.pop_last(),
            };
        }
    }

    fn into_page(self, limit: usize) -> LogPage {
        let mut entries: Vec<LogEntry> = match self.order {
            LogOrder::Newest => self.entries.into_values().rev().collect(),
            LogOrder::Oldest => self.entries.into_values().collect(),
        };
        let is_more = entries.len() > limit;
        entries.truncate(limit);
        let next = entries.last().filter(|_| is_more).map(LogEntry::key);
        LogPage::new(entries, next)
    }
}
