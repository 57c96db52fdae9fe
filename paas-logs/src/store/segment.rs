//! Files of blocks. An open segment takes blocks at its end, each with a filter of its words. A sealed one never changes:
//! small blocks are one, and the filters of all blocks stand bit by bit, so that one read of each bit of a word tells which
//! blocks may have it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paas_core::model::{LogOrigin, LogPosition, Timestamp, WordNeed};
use paas_core::{Error, Result};

use super::Sizes;
use super::block::{Block, HEADER, Span, Unread};
use super::lines::{Encoder, Lines};
use super::pool::Pool;
use super::sealing::Sealing;
use super::words::{Filter, hash, probes};
use crate::codec::{Damage, Reader, line};
use crate::disk::{Disk, DiskFile};
use crate::error::{damaged, failed};

/// With so many blocks a segment is sealed, however small they are.
const BLOCKS: usize = 256;
pub(super) const TRAILER: u64 = 48;
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"seg1");

/// Where each origin ends.
pub(super) type Ends = BTreeMap<Arc<LogOrigin>, LogPosition>;

/// Takes in where origins end.
pub(super) fn extend(ends: &mut Ends, others: impl IntoIterator<Item = (Arc<LogOrigin>, LogPosition)>) {
    for (origin, end) in others {
        let own = ends.entry(origin).or_insert(end);
        *own = end.max(*own);
    }
}

/// A segment of either kind, as a search sees it.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: Arc<Path>,
    pub(super) blocks: Arc<[Block]>,
    /// Where the filters of all blocks stand bit by bit, and of how many bits each is as a power of two; `None` where
    /// each block has its own.
    pub(super) slices: Option<(Span, u32)>,
    /// Its lines from before this time are forgotten.
    pub(super) floor: Timestamp,
    /// How many bytes its file has.
    pub(super) bytes: u64,
    /// Its file, where another process may take away its name.
    pub(super) file: Option<Arc<dyn DiskFile>>,
}

/// The segment at whose end blocks are written.
#[derive(Debug)]
pub(super) struct OpenSegment {
    pub(super) path: PathBuf,
    file: Box<dyn DiskFile>,
    blocks: Vec<Block>,
    length: u64,
    is_synced: bool,
    is_suspect: bool,
    /// A write that failed may have left something after the last block.
    has_rest: bool,
}

impl OpenSegment {
    pub(super) fn create(disk: &dyn Disk, path: PathBuf) -> Result<Self> {
        let file = disk.create(&path).map_err(|cause| failed("make a segment", &path, cause))?;
        Ok(Self::new(path, file, Vec::new(), 0))
    }

    /// Opens one that is there, of which so much was synced: what stands after it may be on no disk, and the journal has it. Gives
    /// where its origins end, and where those after it do.
    pub(super) fn recover(disk: &dyn Disk, path: PathBuf, synced: u64) -> Result<(Self, Ends, Ends)> {
        let broken = |cause| failed("read a segment", &path, cause);
        let file = disk.open_to_write(&path).map_err(broken)?;
        let all = file.length().map_err(broken)?;
        let mut whole = read_open(&*file, all).map_err(|cause| unread(&path, cause))?;
        let Some(count) = whole.until(synced) else {
            return Err(damaged(&path, Damage("what was synced of it is not whole")));
        };
        whole.blocks.truncate(count);
        let (ends, after) = whole.ends_at(count);
        let mut own = Self::new(path, file, whole.blocks, synced);
        own.has_rest = synced < all;
        Ok((own, ends, after))
    }

    fn new(path: PathBuf, file: Box<dyn DiskFile>, blocks: Vec<Block>, length: u64) -> Self {
        Self { path, file, blocks, length, is_synced: false, is_suspect: false, has_rest: false }
    }

    /// Writes blocks of lines, or none. They are there after a crash once it is synced.
    pub(super) fn append(&mut self, parts: &[Arc<Lines>], encoders: &Pool<Encoder>) -> Result<()> {
        let (count, length) = (self.blocks.len(), self.length);
        let mut write = |at: usize, encoder: &mut _| self.write(&parts[at], at + 1 < parts.len(), encoder);
        let appended = encoders.with(|encoder| (0..parts.len()).try_for_each(|at| write(at, encoder)));
        if appended.is_err() {
            self.blocks.truncate(count);
            (self.length, self.has_rest, self.is_synced) = (length, true, false);
        }
        appended
    }

    fn write(&mut self, lines: &Lines, goes_on: bool, encoder: &mut Encoder) -> Result<()> {
        let broken = |cause| failed("write a segment", &self.path, cause);
        let encoded = encoder.encode(lines).map_err(broken)?;
        let mut block = Block::of(&encoded, self.length + HEADER as u64);
        (block.before, block.goes_on) = (self.blocks.last().map_or(0, Block::sum), goes_on);
        let parts = [&block.header()[..], &encoded.rows, &encoded.text, encoded.filter.bytes()];
        self.file.write_at(&parts.concat(), self.length).map_err(broken)?;
        (self.length, self.is_synced) = (block.end(), false);
        self.blocks.push(block);
        Ok(())
    }

    /// # Errors
    /// Once it has failed it always does: what the disk has is not known.
    pub(super) fn sync(&mut self) -> Result<()> {
        if self.is_suspect {
            return Err(Error::unavailable("a segment could not be synced").with("path", self.path.display()));
        }
        if !self.is_synced {
            self.is_suspect = true;
            // What comes after it from now on is what the journal has, too.
            let cut = if self.has_rest { self.file.truncate(self.length) } else { Ok(()) };
            cut.and_then(|()| self.file.sync())
                .map_err(|cause| failed("sync a segment", &self.path, cause))?;
            (self.is_synced, self.is_suspect, self.has_rest) = (true, false, false);
        }
        Ok(())
    }

    /// How many bytes it has.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// How much text it has.
    pub(super) fn size(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.summary.text)).sum()
    }

    pub(super) fn is_full(&self, sizes: &Sizes) -> bool {
        self.size() >= sizes.segment || self.blocks.len() >= BLOCKS
    }

    pub(super) fn view(&self) -> Segment {
        let (path, blocks) = (self.path.as_path().into(), self.blocks.as_slice().into());
        Segment { path, blocks, slices: None, floor: Timestamp(0), bytes: self.length, file: None }
    }

    /// Writes what it has from this time on as a sealed segment, whole and synced, but for its name.
    pub(super) fn seal(
        &self,
        disk: &dyn Disk,
        path: &Path,
        floor: Timestamp,
        sizes: &Sizes,
        encoder: &mut Encoder,
    ) -> Result<()> {
        let mut sealing = Sealing::new(disk, path)?;
        let mut small = Lines::default();
        for block in &self.blocks {
            let broken = |cause| unread(&self.path, cause);
            if block.summary.text as usize >= sizes.block / 2 && block.summary.first >= floor.0 {
                sealing.copy(block, &*self.file, &block.read_rows(&*self.file).map_err(broken)?)?;
                continue;
            }
            let lines = block.read(&*self.file).map_err(broken)?;
            small.join(&lines, |row| row.time >= floor);
            if small.size() >= sizes.block {
                sealing.add(&std::mem::take(&mut small), encoder)?;
            }
        }
        if !small.is_empty() {
            sealing.add(&small, encoder)?;
        }
        sealing.finish()
    }
}

/// As much of an open segment as is whole.
pub(super) struct Whole {
    pub(super) blocks: Vec<Block>,
    pub(super) length: u64,
    /// Where the origins of each block end.
    ends: Vec<Ends>,
}

impl Whole {
    /// How many blocks there are up to a length; `None` where no block ends there.
    pub(super) fn until(&self, length: u64) -> Option<usize> {
        let count = self.blocks.partition_point(|block| block.end() <= length);
        let end = count.checked_sub(1).map_or(0, |last| self.blocks[last].end());
        (end == length).then_some(count)
    }

    /// Where the origins of so many blocks end, and those of the others.
    pub(super) fn ends_at(&self, count: usize) -> (Ends, Ends) {
        let of = |blocks: &[Ends]| {
            let mut all = Ends::new();
            blocks.iter().for_each(|ends| extend(&mut all, ends.clone()));
            all
        };
        (of(&self.ends[..count]), of(&self.ends[count..]))
    }

    /// Where all origins end.
    pub(super) fn ends(&self) -> Ends {
        self.ends_at(0).1
    }
}

/// Reads an open segment of so many bytes.
pub(super) fn read_open(file: &dyn DiskFile, all: u64) -> std::result::Result<Whole, Unread> {
    let (mut blocks, mut ends) = (Vec::new(), Vec::new());
    let (mut at, mut length, mut count) = (0, 0, 0);
    while let Some((block, lines)) = next_block(file, at, all, blocks.last())? {
        at = block.end();
        ends.push(lines.origins().iter().cloned().collect());
        blocks.push(block);
        if !block.goes_on {
            (length, count) = (at, blocks.len());
        }
    }
    blocks.truncate(count);
    ends.truncate(count);
    Ok(Whole { blocks, length, ends })
}

/// The block that stands there, and what is known of its lines; `None` where none stands whole.
fn next_block(
    file: &dyn DiskFile,
    at: u64,
    end: u64,
    before: Option<&Block>,
) -> std::result::Result<Option<(Block, Lines)>, Unread> {
    if end - at < HEADER as u64 {
        return Ok(None);
    }
    let mut header = [0; HEADER];
    file.read_at(&mut header, at).map_err(Unread::Io)?;
    let Ok(block) = Block::of_header(&header) else { return Ok(None) };
    // One that follows another is left from a write that failed.
    let follows = block.before == before.map_or(0, Block::sum);
    if block.rows.offset != at + HEADER as u64 || block.end() > end || !follows {
        return Ok(None);
    }
    // Of the text only the check sum is looked at: it is what takes long.
    let filter =
        block.filter.read(file).and_then(|bytes| Ok(Filter::of(bytes).ok_or(Damage("a filter is none"))?));
    let text = filter.and_then(|_| block.text.read(file));
    let whole = text.and_then(|_| block.read_rows(file));
    match whole {
        Ok(lines) => Ok(Some((block, lines))),
        Err(Unread::Damaged(_)) => Ok(None),
        Err(cause) => Err(cause),
    }
}

impl Segment {
    /// Opens a sealed segment. Gives where its origins end.
    pub(super) fn open(disk: &dyn Disk, path: &Path) -> Result<(Self, Ends)> {
        let broken = |cause| failed("read a segment", path, cause);
        let file = disk.open(path).map_err(broken)?;
        let end = file.length().map_err(broken)?;
        let sealed = read_sealed(path, &*file, end);
        sealed.map_err(|cause| unread(path, cause))
    }

    /// Looks at an open segment that another process writes, as far as it is whole. Gives where its origins end.
    pub(super) fn look(disk: &dyn Disk, path: &Path) -> Result<(Self, Ends)> {
        let broken = |cause| failed("read a segment", path, cause);
        let file = disk.open(path).map_err(broken)?;
        let all = file.length().map_err(broken)?;
        let whole = read_open(&*file, all).map_err(|cause| unread(path, cause))?;
        let (ends, bytes) = (whole.ends(), whole.length);
        let (path, blocks, file) = (path.into(), whole.blocks.into(), Some(file.into()));
        Ok((Self { path, blocks, slices: None, floor: Timestamp(0), bytes, file }, ends))
    }

    /// The latest line of it.
    pub(super) fn last(&self) -> Timestamp {
        Timestamp(self.blocks.iter().map(|block| block.summary.last).max().unwrap_or(0))
    }

    /// A bit for each block: whether it may have what is needed.
    pub(super) fn marks(&self, file: &dyn DiskFile, need: &WordNeed) -> Result<Vec<u8>> {
        self.marks_of_need(file, need).map_err(|cause| failed("read a segment", &self.path, cause))
    }

    fn marks_of_need(&self, file: &dyn DiskFile, need: &WordNeed) -> io::Result<Vec<u8>> {
        let width = self.blocks.len().div_ceil(8);
        let (all, none) = (vec![0xff; width], vec![0; width]);
        let joined = |parts: &[WordNeed], start: Vec<u8>, join: fn(u8, u8) -> u8| {
            parts.iter().try_fold(start, |marks, part| {
                let own = self.marks_of_need(file, part)?;
                Ok(marks.into_iter().zip(own).map(|(mark, own)| join(mark, own)).collect())
            })
        };
        match need {
            WordNeed::Word(word) => self.marks_of(file, hash(word)),
            WordNeed::All(parts) => joined(parts, all, |mark, own| mark & own),
            WordNeed::Any(parts) => joined(parts, none, |mark, own| mark | own),
            _ => Ok(all),
        }
    }

    /// A bit for each block: whether it may have the word of a hash.
    fn marks_of(&self, file: &dyn DiskFile, hash: u64) -> io::Result<Vec<u8>> {
        let width = self.blocks.len().div_ceil(8);
        let Some((span, power)) = self.slices else {
            let mut marks = vec![0; width];
            for (at, block) in self.blocks.iter().enumerate() {
                marks[at / 8] |= u8::from(may_have(file, block.filter, hash)?) << (at % 8);
            }
            return Ok(marks);
        };
        let (mut marks, mut slice) = (vec![0xff; width], vec![0; width]);
        for probe in probes(hash, power) {
            file.read_at(&mut slice, span.offset + (probe * width) as u64)?;
            marks.iter_mut().zip(&slice).for_each(|(mark, own)| *mark &= own);
        }
        Ok(marks)
    }
}

/// Whether a block whose filter stands there may have a word.
fn may_have(file: &dyn DiskFile, filter: Span, hash: u64) -> io::Result<bool> {
    let power = (u64::from(filter.length) * 8).trailing_zeros();
    for probe in probes(hash, power) {
        let mut byte = [0];
        file.read_at(&mut byte, filter.offset + probe as u64 / 8)?;
        if byte[0] & 1 << (probe % 8) == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

pub(super) fn read_sealed(
    path: &Path,
    file: &dyn DiskFile,
    end: u64,
) -> std::result::Result<(Segment, Ends), Unread> {
    let mut trailer = [0; TRAILER as usize];
    let at = end.checked_sub(TRAILER).ok_or(Damage("it is cut off"))?;
    file.read_at(&mut trailer, at).map_err(Unread::Io)?;
    let (content, sum) = trailer.split_at(TRAILER as usize - 8);
    let mut tail = Reader(sum);
    if tail.u32()? != crc32fast::hash(content) || tail.u32()? != MAGIC {
        return Err(Damage("its end is not that of a segment").into());
    }
    let mut reader = Reader(content);
    let offset = reader.u64()?;
    let slices = Span::of_bytes(&mut reader, offset)?;
    let index = Span::of_bytes(&mut reader, slices.end())?;
    let ends = Span::of_bytes(&mut reader, index.end())?;
    let power = reader.u32()?;
    if ends.end() > at {
        return Err(Damage("its parts do not end where it does").into());
    }
    let index = index.read(file)?;
    let blocks: Vec<Block> =
        index.chunks(HEADER).map(Block::of_header).collect::<std::result::Result<_, _>>()?;
    if blocks.iter().any(|block| block.end() > slices.offset) {
        return Err(Damage("a block ends after all blocks").into());
    }
    let width = blocks.len().div_ceil(8);
    if power >= 32 || (width as u64) << power != u64::from(slices.length) {
        return Err(Damage("its filter is not as long as its blocks need").into());
    }
    let ends = ends.read(file)?;
    let mut reader = Reader(&ends);
    let ends = line::ends(&mut reader)?.into_iter().collect();
    reader.end()?;
    let slices = Some((slices, power));
    let (path, blocks) = (path.into(), blocks.into());
    Ok((Segment { path, blocks, slices, floor: Timestamp(0), bytes: end, file: None }, ends))
}

pub(super) fn unread(path: &Path, cause: Unread) -> paas_core::Error {
    match cause {
        Unread::Io(cause) => failed("read a segment", path, cause),
        Unread::Damaged(damage) => damaged(path, damage),
    }
}
