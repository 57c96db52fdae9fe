//! How a sealed segment is written: its blocks, and then what tells of them.

use std::path::{Path, PathBuf};

use paas_core::Result;

use super::block::{Block, Span};
use super::lines::{Encoder, Lines};
use super::segment::{Ends, MAGIC, TRAILER, extend, unread};
use super::words::Filter;
use crate::codec::{Damage, line};
use crate::disk::{Disk, DiskFile};
use crate::error::{damaged, failed};

/// A sealed segment that is being written.
pub(super) struct Sealing {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    blocks: Vec<Block>,
    filters: Vec<Filter>,
    ends: Ends,
    length: u64,
}

impl Sealing {
    pub(super) fn new(disk: &dyn Disk, path: &Path) -> Result<Self> {
        let broken = |cause| failed("make a segment", path, cause);
        // One from before a crash.
        disk.remove(path).map_err(broken)?;
        let file = disk.create(path).map_err(broken)?;
        let (blocks, filters, ends) = (Vec::new(), Vec::new(), Ends::new());
        Ok(Self { path: path.to_owned(), file, blocks, filters, ends, length: 0 })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<Span> {
        self.file
            .write_at(bytes, self.length)
            .map_err(|cause| failed("write a segment", &self.path, cause))?;
        let span = Span::of(bytes, self.length);
        self.length = span.end();
        Ok(span)
    }

    /// A block as it is.
    pub(super) fn copy(&mut self, block: &Block, file: &dyn DiskFile, lines: &Lines) -> Result<()> {
        let broken = |cause| unread(&self.path, cause);
        let filter = Filter::of(block.filter.read(file).map_err(broken)?);
        self.filters.push(filter.ok_or_else(|| damaged(&self.path, Damage("a filter is none")))?);
        let (rows, text) = (block.rows.read(file).map_err(broken)?, block.text.read(file).map_err(broken)?);
        let (rows, text) = (self.write(&rows)?, self.write(&text)?);
        self.blocks.push(Block { summary: block.summary, rows, text, ..Block::default() });
        extend(&mut self.ends, lines.origins().iter().cloned());
        Ok(())
    }

    pub(super) fn add(&mut self, lines: &Lines, encoder: &mut Encoder) -> Result<()> {
        extend(&mut self.ends, lines.origins().iter().cloned());
        if lines.rows().is_empty() {
            return Ok(());
        }
        let encoded = encoder.encode(lines).map_err(|cause| failed("write a segment", &self.path, cause))?;
        let (rows, text) = (self.write(&encoded.rows)?, self.write(&encoded.text)?);
        self.blocks.push(Block { summary: encoded.summary, rows, text, ..Block::default() });
        self.filters.push(encoded.filter);
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        let power = self.filters.iter().map(Filter::power).max().unwrap_or(0);
        let slices = slices(&self.filters, power);
        let slices = self.write(&slices)?;
        let index: Vec<u8> = self.blocks.iter().flat_map(Block::header).collect();
        let index = self.write(&index)?;
        let mut ends = Vec::new();
        line::put_ends(&mut ends, self.ends.iter());
        let ends = self.write(&ends)?;
        let mut trailer = Vec::with_capacity(TRAILER as usize);
        trailer.extend(slices.offset.to_le_bytes());
        [slices, index, ends].iter().for_each(|span| span.put(&mut trailer));
        trailer.extend([power, 0].into_iter().flat_map(u32::to_le_bytes));
        let sum = crc32fast::hash(&trailer);
        trailer.extend([sum, MAGIC].into_iter().flat_map(u32::to_le_bytes));
        self.write(&trailer)?;
        self.file.sync().map_err(|cause| failed("sync a segment", &self.path, cause))
    }
}

/// For each bit of the filters, a bit for each block.
fn slices(filters: &[Filter], power: u32) -> Vec<u8> {
    let width = filters.len().div_ceil(8);
    let mut slices = vec![0; width << power];
    for (at, filter) in filters.iter().enumerate() {
        for probe in filter.set(power) {
            slices[probe * width + at / 8] |= 1 << (at % 8);
        }
    }
    slices
}
