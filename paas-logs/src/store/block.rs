//! Where a block stands in a file, and what is known of it without reading it.

use std::io;

use super::lines::{Encoded, Lines, Summary};
use crate::codec::{Damage, Decoded, Reader};
use crate::disk::DiskFile;

/// How many bytes stand before a block in an open segment, and for each in the index of a sealed one.
pub(super) const HEADER: usize = 80;
pub(super) const MAGIC: u32 = u32::from_le_bytes(*b"blk1");

/// A part of a file, and its check sum (CRC-32, as in zlib).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) sum: u32,
}

/// A block of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) summary: Summary,
    pub(super) rows: Span,
    pub(super) text: Span,
    /// Of a block in an open segment: a sealed one has the words of all its blocks together.
    pub(super) filter: Span,
    /// Of a block in an open segment: the check sum of the header before it, and whether the next one belongs to it. Lines
    /// that are written together are there together, or not at all.
    pub(super) before: u32,
    pub(super) goes_on: bool,
}

/// Why something of a block cannot be read.
#[derive(Debug)]
pub(super) enum Unread {
    Io(io::Error),
    Damaged(Damage),
}

impl From<Damage> for Unread {
    fn from(damage: Damage) -> Self {
        Self::Damaged(damage)
    }
}

impl Span {
    /// Where these bytes stand, if they begin there.
    pub(super) fn of(bytes: &[u8], offset: u64) -> Self {
        Self { offset, length: bytes.len() as u32, sum: crc32fast::hash(bytes) }
    }

    pub(super) fn end(&self) -> u64 {
        self.offset + u64::from(self.length)
    }

    /// Its length and its check sum: where it begins is told once for those that follow each other.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend([self.length, self.sum].into_iter().flat_map(u32::to_le_bytes));
    }

    /// Reads one that begins there.
    pub(super) fn of_bytes(reader: &mut Reader<'_>, offset: u64) -> Decoded<Self> {
        let span = Self { offset, length: reader.u32()?, sum: reader.u32()? };
        offset.checked_add(span.length.into()).map(|_| span).ok_or(Damage("a part is too long"))
    }

    pub(super) fn read(&self, file: &dyn DiskFile) -> Result<Vec<u8>, Unread> {
        let mut bytes = vec![0; self.length as usize];
        file.read_at(&mut bytes, self.offset).map_err(Unread::Io)?;
        if crc32fast::hash(&bytes) == self.sum {
            Ok(bytes)
        } else {
            Err(Damage("a check sum is wrong").into())
        }
    }
}

impl Block {
    /// A block of an open segment, whose rows stand there.
    pub(super) fn of(encoded: &Encoded, offset: u64) -> Self {
        let rows = Span::of(&encoded.rows, offset);
        let text = Span::of(&encoded.text, rows.end());
        let filter = Span::of(encoded.filter.bytes(), text.end());
        Self { summary: encoded.summary, rows, text, filter, ..Self::default() }
    }

    /// Where it ends.
    pub(super) fn end(&self) -> u64 {
        self.filter.end().max(self.text.end())
    }

    /// What is known of it; all numbers with the lowest byte first.
    pub(super) fn header(&self) -> [u8; HEADER] {
        let Summary { lines, text, rows, first, last, levels } = self.summary;
        let mut header = Vec::with_capacity(HEADER);
        header.extend(MAGIC.to_le_bytes());
        header.extend([lines, text, rows].into_iter().flat_map(u32::to_le_bytes));
        header.extend([first, last].into_iter().flat_map(u64::to_le_bytes));
        header.extend([levels, u8::from(self.goes_on), 0, 0]);
        header.extend(self.rows.offset.to_le_bytes());
        [self.rows, self.text, self.filter].iter().for_each(|span| span.put(&mut header));
        header.extend(self.before.to_le_bytes());
        header.resize(HEADER - 4, 0);
        let sum = crc32fast::hash(&header);
        header.extend(sum.to_le_bytes());
        header.try_into().unwrap_or([0; HEADER])
    }

    /// The check sum of its header.
    pub(super) fn sum(&self) -> u32 {
        self.header().last_chunk().map_or(0, |sum| u32::from_le_bytes(*sum))
    }

    pub(super) fn of_header(header: &[u8]) -> Decoded<Self> {
        let (content, sum) = header.split_at_checked(HEADER - 4).ok_or(Damage("a header is cut off"))?;
        if crc32fast::hash(content).to_le_bytes() != sum {
            return Err(Damage("the check sum of a header is wrong"));
        }
        let mut reader = Reader(content);
        if reader.u32()? != MAGIC {
            return Err(Damage("a header is none"));
        }
        let (lines, text, rows) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (first, last) = (reader.u64()?, reader.u64()?);
        let [levels, goes_on, ..] = reader.fixed::<4>()?;
        let summary = Summary { lines, text, rows, first, last, levels };
        let offset = reader.u64()?;
        let rows = Span::of_bytes(&mut reader, offset)?;
        let text = Span::of_bytes(&mut reader, rows.end())?;
        let filter = Span::of_bytes(&mut reader, text.end())?;
        Ok(Self { summary, rows, text, filter, before: reader.u32()?, goes_on: goes_on != 0 })
    }

    /// What is known of its lines.
    pub(super) fn read_rows(&self, file: &dyn DiskFile) -> Result<Lines, Unread> {
        let columns = expand(&self.rows.read(file)?, self.summary.rows)?;
        Ok(Lines::of_columns(&columns)?)
    }

    /// The text of its lines.
    pub(super) fn read_text(&self, file: &dyn DiskFile) -> Result<Vec<u8>, Unread> {
        Ok(expand(&self.text.read(file)?, self.summary.text)?)
    }

    /// Its lines.
    pub(super) fn read(&self, file: &dyn DiskFile) -> Result<Lines, Unread> {
        Ok(self.read_rows(file)?.with_text(self.read_text(file)?)?)
    }
}

/// What was compressed to these bytes, which has so many.
fn expand(bytes: &[u8], length: u32) -> Decoded<Vec<u8>> {
    // No room is made for more than the frame itself says that it has.
    if !matches!(zstd::zstd_safe::get_frame_content_size(bytes), Ok(Some(said)) if said == u64::from(length))
    {
        return Err(Damage("it expands to another length than is said"));
    }
    let expanded =
        zstd::bulk::decompress(bytes, length as usize).map_err(|_| Damage("it cannot be expanded"))?;
    if expanded.len() == length as usize {
        Ok(expanded)
    } else {
        Err(Damage("it expands to less than is said"))
    }
}
