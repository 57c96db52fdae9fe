//! Looks at a segment of either kind.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use paas_core::Result;
use paas_core::model::{LogOrigin, LogPosition, Timestamp};

use super::super::block::{Block, Unread};
use super::super::folder::part;
use super::super::journal::Synced;
use super::super::lines::{Lines, Row};
use super::super::report::{LogLoss, LogStoreSeverity};
use super::super::salvage;
use super::super::segment::{Ends, Segment, read_open, read_sealed, unread};
use super::super::words::{Filter, WordSet, probes};
use super::{Checked, OfLife, Spans};
use crate::codec::Damage;
use crate::disk::{Disk, DiskFile};
use crate::error::failed;

/// The filters of the blocks of a segment, in memory.
enum Filters {
    /// The file, in which each block has its own.
    Own,
    /// Bit by bit: how many bytes there are for each, and of how many bits a filter is, as a power of two.
    Slices(Vec<u8>, usize, u32),
}

struct Looking<'a> {
    path: &'a Path,
    file: &'a dyn DiskFile,
    length: u64,
    journaled: &'a OfLife,
    /// How much of it was synced, if it is open.
    synced: u64,
    checked: Checked,
    spans: Spans,
    words: WordSet,
}

/// Looks at a segment, and tells from where to where it has lines of each origin.
pub(in crate::store) fn check(disk: &dyn Disk, path: &Path, journaled: &OfLife) -> Result<(Checked, Spans)> {
    let broken = |cause| failed("read a segment", path, cause);
    let file = disk.open(path).map_err(broken)?;
    let length = file.length().map_err(broken)?;
    let checked = Checked { bytes: length, ..Checked::default() };
    let (spans, words) = (Spans::new(), WordSet::default());
    let name = path.file_name().and_then(|name| name.to_str()).and_then(part);
    let (number, kind) = name.unwrap_or_default();
    let synced = Synced::of(journaled.synced.as_ref(), number);
    let mut looking = Looking { path, file: &*file, length, journaled, synced, checked, spans, words };
    let is_open = kind == "open";
    let looked = if is_open { looking.look_at_open() } else { looking.look_at_sealed() };
    looked.map_err(|cause| unread(path, cause))?;
    Ok((looking.checked, looking.spans))
}

impl Looking<'_> {
    fn find(&mut self, severity: LogStoreSeverity, offset: Option<u64>, what: &str, loss: LogLoss) {
        self.checked.find(severity, self.path, offset, what, loss);
    }

    fn look_at_sealed(&mut self) -> Result<(), Unread> {
        let (segment, ends) = match read_sealed(self.path, self.file, self.length) {
            Ok(sealed) => sealed,
            Err(Unread::Damaged(Damage(what))) => return self.find_lost(what),
            Err(cause) => return Err(cause),
        };
        let filters = self.slices(&segment)?;
        let mut known = Seen::default();
        for (at, block) in segment.blocks.iter().enumerate() {
            self.look_at_block(at, block, &ends, filters.as_ref(), &mut known)?;
        }
        Ok(())
    }

    /// The filters of a sealed segment; `None` where they are damaged.
    fn slices(&mut self, segment: &Segment) -> Result<Option<Filters>, Unread> {
        let Some((span, power)) = segment.slices else { return Ok(Some(Filters::Own)) };
        match span.read(self.file) {
            Ok(slices) => Ok(Some(Filters::Slices(slices, segment.blocks.len().div_ceil(8), power))),
            Err(Unread::Damaged(_)) => {
                let what = "what tells of words is damaged: searches for words miss lines";
                self.find(LogStoreSeverity::Wrong, Some(span.offset), what, LogLoss::default());
                Ok(None)
            }
            Err(cause) => Err(cause),
        }
    }

    fn look_at_open(&mut self) -> Result<(), Unread> {
        let whole = read_open(self.file, self.length)?;
        let (mut known, ends) = (Seen::default(), whole.ends());
        for (at, block) in whole.blocks.iter().enumerate() {
            self.look_at_block(at, block, &ends, Some(&Filters::Own), &mut known)?;
        }
        let Some(count) = whole.until(self.synced) else {
            let loss = LogLoss::of_bytes(self.synced.saturating_sub(whole.length));
            let what = "what was synced of it is not whole: lines are lost";
            return self.look_for_lost(whole.length, what, loss);
        };
        let (synced, journaled) = (whole.ends_at(count).0, self.journaled);
        let is_there = |origin: &Arc<LogOrigin>, end: &LogPosition| {
            [&synced, &journaled.ends].iter().any(|ends| ends.get(origin).is_some_and(|own| end <= own))
        };
        if !ends.iter().all(|(origin, end)| is_there(origin, end)) {
            let what = "it has lines that were not synced, and that the journal does not have: repair it";
            self.find(LogStoreSeverity::Wrong, Some(self.synced), what, LogLoss::default());
        }
        if whole.length < self.length { self.look_at_tail(whole.length, is_there) } else { Ok(()) }
    }

    /// What stands after the last block that counts the journal has, too, if a crash or a failed write left it.
    fn look_at_tail(
        &mut self,
        from: u64,
        is_there: impl Fn(&Arc<LogOrigin>, &LogPosition) -> bool,
    ) -> Result<(), Unread> {
        let mut are_there = true;
        salvage::blocks(self.file, from, self.length, |_, _, lines| {
            let rows = lines.iter().flat_map(|lines| lines.rows().iter().map(|row| (lines.origin(row), row)));
            // A line ends after where it begins.
            let is_one = |(origin, row): (&Arc<LogOrigin>, &Row)| {
                is_there(origin, &LogPosition { index: row.position.index + 1, ..row.position })
            };
            are_there &= rows.into_iter().all(is_one);
        })?;
        if are_there {
            let what = "its end was not written whole: the journal has what was acknowledged of it";
            self.find(LogStoreSeverity::Harmless, Some(from), what, LogLoss::default());
            return Ok(());
        }
        let what =
            "a block is not whole, and whole ones after it are in no journal: repair it before it is opened";
        self.look_for_lost(from, what, LogLoss::default())
    }

    /// Whole blocks after one that is not are found again by a repair.
    fn look_for_lost(&mut self, from: u64, what: &str, mut loss: LogLoss) -> Result<(), Unread> {
        let file = self.file;
        salvage::blocks(file, from, self.length, |_, block, lines| {
            if lines.is_none() {
                salvage::lose(&mut loss, block, file);
            }
        })?;
        self.find(LogStoreSeverity::Wrong, Some(from), what, loss);
        Ok(())
    }

    /// What tells of the blocks is damaged: the blocks may be whole all the same.
    fn find_lost(&mut self, what: &str) -> Result<(), Unread> {
        let (mut loss, mut whole) = (LogLoss::default(), 0);
        let (file, mut bytes) = (self.file, self.length);
        salvage::blocks(file, 0, self.length, |_, block, lines| match lines {
            Some(lines) => {
                whole += lines.rows().len() as u64;
                bytes = bytes.saturating_sub(u64::from(block.rows.length) + u64::from(block.text.length));
            }
            None => salvage::lose(&mut loss, block, file),
        })?;
        (loss.bytes, self.checked.lines) = (bytes, self.checked.lines + whole);
        let what = format!("{what}; {whole} lines of it are whole, and found again once it is repaired");
        self.checked.find(LogStoreSeverity::Fatal, self.path, None, what, loss);
        Ok(())
    }

    fn look_at_block(
        &mut self,
        at: usize,
        block: &Block,
        ends: &Ends,
        filters: Option<&Filters>,
        known: &mut Seen,
    ) -> Result<(), Unread> {
        let lines = match block.read(self.file) {
            Ok(lines) => lines,
            Err(Unread::Damaged(Damage(what))) => {
                let mut loss = LogLoss::of_bytes(u64::from(block.rows.length) + u64::from(block.text.length));
                salvage::lose(&mut loss, block, self.file);
                let what = format!("{what}: searches that come to this block fail");
                let offset = Some(block.rows.offset);
                self.checked.find(LogStoreSeverity::Wrong, self.path, offset, what, loss);
                return Ok(());
            }
            Err(cause) => return Err(cause),
        };
        self.checked.lines += lines.rows().len() as u64;
        let wrong = wrong_summary(block, &lines)
            .or_else(|| wrong_end(&lines, ends))
            .or_else(|| known.has_one_of(&lines).then_some("a line of it is there twice"));
        let wrong = match (wrong, filters) {
            (None, Some(filters)) => self.wrong_words(at, block, &lines, filters)?,
            (wrong, _) => wrong,
        };
        if let Some(what) = wrong {
            self.find(LogStoreSeverity::Wrong, Some(block.rows.offset), what, LogLoss::default());
        }
        self.widen(&lines);
        Ok(())
    }

    /// Every word of the lines is to be found.
    fn wrong_words(
        &mut self,
        at: usize,
        block: &Block,
        lines: &Lines,
        filters: &Filters,
    ) -> Result<Option<&'static str>, Unread> {
        self.words.clear();
        for row in lines.rows() {
            self.words.add_line(lines.line(row));
            self.words.add_line(lines.fields(row));
        }
        let are_all = match filters {
            Filters::Own => {
                let Some(filter) = Filter::of(block.filter.read(self.file)?) else {
                    return Ok(Some("its filter of words is none"));
                };
                self.words.hashes().all(|hash| probes(hash, filter.power()).all(|probe| filter.is_set(probe)))
            }
            Filters::Slices(slices, width, power) => {
                let is_set = |probe: usize| slices[probe * width + at / 8] & 1 << (at % 8) != 0;
                self.words.hashes().all(|hash| probes(hash, *power).all(is_set))
            }
        };
        Ok((!are_all).then_some("searches for some of its words do not find it"))
    }

    fn widen(&mut self, lines: &Lines) {
        for row in lines.rows() {
            let own = row.position;
            let span = self.spans.entry(Arc::clone(lines.origin(row))).or_insert((own, own));
            *span = (span.0.min(own), span.1.max(own));
        }
    }
}

/// The lines of a segment that were met, each once.
#[derive(Default)]
pub(in crate::store) struct Seen(BTreeMap<Arc<LogOrigin>, std::collections::HashSet<LogPosition>>);

impl Seen {
    /// Whether a line is met for the first time.
    pub(in crate::store) fn is_new(&mut self, origin: &Arc<LogOrigin>, position: LogPosition) -> bool {
        match self.0.get_mut(origin) {
            Some(positions) => positions.insert(position),
            None => self.0.entry(Arc::clone(origin)).or_default().insert(position),
        }
    }

    fn has_one_of(&mut self, lines: &Lines) -> bool {
        let known = lines.rows().iter().filter(|row| !self.is_new(lines.origin(row), row.position));
        known.count() > 0
    }
}

fn wrong_summary(block: &Block, lines: &Lines) -> Option<&'static str> {
    let (summary, rows) = (&block.summary, lines.rows());
    let time = |row: Option<&Row>| row.map_or(Timestamp(0), |row| row.time).0;
    let levels = rows.iter().fold(0, |levels, row| levels | 1 << crate::codec::line::code(row.level));
    let is_right = summary.lines as usize == rows.len()
        && (summary.first, summary.last) == (time(rows.first()), time(rows.last()))
        && summary.levels == levels;
    if !is_right {
        return Some("its header tells of other lines: searches may pass it by");
    }
    (!rows.is_sorted_by_key(|row| row.time)).then_some("its lines are not in order")
}

fn wrong_end(lines: &Lines, ends: &Ends) -> Option<&'static str> {
    let is_before = |row| ends.get(lines.origin(row)).is_some_and(|end| row.position < *end);
    (!lines.rows().iter().all(is_before))
        .then_some("a line comes after the end of its origin, and may be stored again")
}
