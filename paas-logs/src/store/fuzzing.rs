//! What each parser makes of any bytes: none may make it panic, or take much more memory than it has. For fuzzers and tests.
//!
//! Check sums would keep nearly all changed bytes from the parsers, so they are made right here, wherever they stand.

use std::io;
use std::path::Path;

use paas_core::model::WordNeed;

use super::block::{Block, HEADER, Span};
use super::journal::{Frame, frame};
use super::keep;
use super::lines::Lines;
use super::salvage;
use super::segment::{Segment, TRAILER, read_open, read_sealed};
use crate::codec::{Reader, line};
use crate::disk::DiskFile;

/// Bytes as a file.
#[derive(Debug)]
struct Memory<'a>(&'a [u8]);

impl DiskFile for Memory<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let part = from.and_then(|from| self.0.get(from..)?.get(..buffer.len()));
        buffer.copy_from_slice(part.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// A file of the journal, and a frame of it.
pub fn journal(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((payload, after)) = frame(rest) {
        use_frame(payload);
        rest = after;
    }
    // What follows the head of the first frame, as if its sum were right.
    use_frame(bytes.get(8..).unwrap_or_default());
    use_frame(bytes);
}

fn use_frame(payload: &[u8]) {
    let Ok(Frame::Lines(_, _, batches)) = Frame::of_bytes(payload) else { return };
    for batch in &batches {
        let bytes: usize = batch.lines().map(|line| line.bytes.len()).sum();
        assert!(bytes <= batch.buffer.len());
        let (_, _) = (batch.end(), batch.without_first(1));
        let mut lines = Lines::default();
        lines.add(batch);
    }
}

/// A sealed segment.
pub fn sealed(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    mend_sealed(&mut bytes);
    let file = Memory(&bytes);
    let Ok((segment, _)) = read_sealed(Path::new("fuzzed"), &file, bytes.len() as u64) else { return };
    use_segment(&segment, &file);
}

/// An open segment.
pub fn open(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let mut at = 0;
    while let Some(end) = mend_header(&mut bytes, at) {
        at = end;
    }
    let file = Memory(&bytes);
    let Ok(whole) = read_open(&file, bytes.len() as u64) else { return };
    let (path, blocks) = (Path::new("fuzzed").into(), whole.blocks.into());
    let floor = paas_core::model::Timestamp(0);
    let segment = Segment { path, blocks, slices: None, floor, bytes: bytes.len() as u64, file: None };
    use_segment(&segment, &file);
    let _unread = salvage::blocks(&file, 0, bytes.len() as u64, |_, _, _| {});
}

fn use_segment(segment: &Segment, file: &Memory<'_>) {
    for word in [&b"error"[..], b"line", b"x"] {
        let _unread = segment.marks(file, &WordNeed::Word(word.into()));
    }
    for block in segment.blocks.iter() {
        let Ok(lines) = block.read(file) else { continue };
        let bytes: usize =
            lines.rows().iter().map(|row| lines.line(row).len() + lines.fields(row).len() + 1).sum();
        assert_eq!(bytes, lines.size());
    }
}

/// The header of a block.
pub fn header(bytes: &[u8]) {
    let Some(bytes) = bytes.first_chunk::<HEADER>() else { return };
    let mut bytes = *bytes;
    put_sum(&mut bytes, 0, HEADER - 4, HEADER - 4);
    if let Ok(block) = Block::of_header(&bytes) {
        assert!(block.end() >= block.rows.end());
    }
}

/// What is known of the lines of a block.
pub fn columns(bytes: &[u8]) {
    if let Ok(lines) = Lines::of_columns(bytes) {
        assert!(lines.rows().iter().all(|row| row.origin() < lines.origins().len()));
    }
}

/// What outlives forgotten lines.
pub fn kept(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    let content = bytes.len().saturating_sub(4);
    put_sum(&mut bytes, 0, content, content);
    let _damage = keep::of_bytes(&bytes);
}

/// Origins, positions and ends.
pub fn lines(bytes: &[u8]) {
    let _damage = line::origin(&mut Reader(bytes));
    let _damage = line::position(&mut Reader(bytes));
    let _damage = line::ends(&mut Reader(bytes));
    let _damages: Vec<_> = bytes.iter().map(|code| line::level(*code)).collect();
}

/// Writes the check sum of a part of bytes to a place in them, where both are.
fn put_sum(bytes: &mut [u8], from: usize, to: usize, place: usize) -> Option<()> {
    let sum = crc32fast::hash(bytes.get(from..to)?).to_le_bytes();
    bytes.get_mut(place..)?.first_chunk_mut::<4>()?.copy_from_slice(&sum);
    Some(())
}

/// A span whose length stands at a place and its sum after it gets the right sum; gives where it ends.
fn mend_span(bytes: &mut [u8], place: usize, offset: u64) -> Option<u64> {
    let length = u32::from_le_bytes(*bytes.get(place..)?.first_chunk()?);
    let end = Span { offset, length, sum: 0 }.offset.checked_add(length.into())?;
    let (from, to) = (usize::try_from(offset).ok()?, usize::try_from(end).ok()?);
    put_sum(bytes, from, to, place + 4);
    Some(end)
}

/// The sums in a header and of what it tells of; gives where the block ends.
fn mend_header(bytes: &mut [u8], at: usize) -> Option<usize> {
    let mut end = u64::from_le_bytes(*bytes.get(at + 36..)?.first_chunk()?);
    for place in [44, 52, 60] {
        end = mend_span(bytes, at + place, end)?;
    }
    put_sum(bytes, at, at + HEADER - 4, at + HEADER - 4)?;
    usize::try_from(end).ok().filter(|end| (at + 1..=bytes.len()).contains(end))
}

fn mend_sealed(bytes: &mut [u8]) -> Option<()> {
    let at = bytes.len().checked_sub(TRAILER as usize)?;
    let offset = u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?);
    let index = mend_span(bytes, at + 8, offset)?;
    let length = u32::from_le_bytes(*bytes.get(at + 16..)?.first_chunk()?) as usize;
    let first = usize::try_from(index).ok()?;
    for header in (first..first.checked_add(length)?.min(bytes.len())).step_by(HEADER) {
        mend_header(bytes, header);
    }
    let ends = mend_span(bytes, at + 16, index)?;
    mend_span(bytes, at + 24, ends)?;
    put_sum(bytes, at, at + TRAILER as usize - 8, at + TRAILER as usize - 8)
}
