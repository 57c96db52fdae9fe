//! What stands in a file of the queue: a header, and frames, each of which was synced before the next was written.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::path::Path;

use bytes::Bytes;
use paas_core::Result;
use paas_core::model::LogBatch;

use crate::codec::{Damage, Decoded, Reader, batch};
use crate::disk::DiskFile;
use crate::error::{damaged_at, failed};
use crate::journal::{Format, Place};

/// The mark, the place, the salt, the check sum of all that.
pub(super) const HEADER: u64 = 32;
/// The mark, length and check sum of the payload, its weight, the place, the check sum of the salt and of all that.
pub(super) const HEAD: u64 = 36;
const OF_FILE: &[u8; 4] = b"que1";
const OF_FRAME: &[u8; 4] = b"fra1";
/// So much is looked through at once for frames after a damaged one.
const WINDOW: u64 = 1 << 20;

/// How the files of a queue are written.
#[derive(Debug)]
pub(super) struct Segments {
    salt: u64,
}

/// What a file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) start: Place,
    /// Known to nobody who writes lines, so that no line can pass for a frame.
    salt: u64,
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    length: u64,
    sum: u32,
    /// Its lines, in bytes.
    weight: u64,
    pub(super) place: Place,
}

impl Segments {
    pub(super) fn new() -> Self {
        // Keyed by the randomness of the operating system.
        Self { salt: RandomState::new().build_hasher().finish() }
    }
}

impl Format for Segments {
    const NAME: &'static str = "queue-";
    const WAITING: usize = 8 * 1024 * 1024;

    fn head(&self, place: Place) -> Vec<u8> {
        let mut out = OF_FILE.to_vec();
        out.extend(place.at.to_le_bytes());
        out.extend(place.weight.to_le_bytes());
        out.extend(self.salt.to_le_bytes());
        out.extend(crc32fast::hash(&out).to_le_bytes());
        out
    }

    fn add(&self, waiting: &mut Vec<u8>, entry: &[u8]) {
        waiting.extend_from_slice(entry);
    }

    fn frame(&self, place: Place, weight: u64, waiting: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD as usize + waiting.len());
        out.extend(OF_FRAME);
        out.extend((waiting.len() as u32).to_le_bytes());
        out.extend(crc32fast::hash(&waiting).to_le_bytes());
        out.extend((weight as u32).to_le_bytes());
        out.extend(place.at.to_le_bytes());
        out.extend(place.weight.to_le_bytes());
        out.extend(salted(self.salt, &out).to_le_bytes());
        out.extend(waiting);
        out
    }
}

fn salted(salt: u64, bytes: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new();
    sum.update(&salt.to_le_bytes());
    sum.update(bytes);
    sum.finalize()
}

impl Header {
    /// What a file begins with; `None` where that was not written whole.
    pub(super) fn read(file: &dyn DiskFile, path: &Path, length: u64) -> Result<Option<Self>> {
        if length < HEADER {
            return Ok(None);
        }
        let mut bytes = [0; HEADER as usize];
        file.read_at(&mut bytes, 0).map_err(|cause| failed("read a file of the queue", path, cause))?;
        match Self::of_bytes(&bytes) {
            Ok(header) => Ok(Some(header)),
            // The first frame is written only once the header is on the disk.
            Err(_) if length == HEADER => Ok(None),
            Err(damage) => Err(damaged_at(path, damage, 0)),
        }
    }

    fn of_bytes(bytes: &[u8]) -> Decoded<Self> {
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or(Damage("it is cut off"))?;
        let mut reader = Reader(content);
        if reader.fixed()? != *OF_FILE || crc32fast::hash(content).to_le_bytes() != *sum {
            return Err(Damage("it does not begin as a file of the queue"));
        }
        let start = Place { at: reader.u64()?, weight: reader.u64()? };
        Ok(Self { start, salt: reader.u64()? })
    }
}

impl Head {
    /// What a frame there begins with.
    fn of_bytes(bytes: &[u8], header: &Header, offset: u64) -> Decoded<Self> {
        const NONE: Damage = Damage("there is no frame");
        let (content, sum) = bytes.split_last_chunk::<4>().ok_or(NONE)?;
        let mut reader = Reader(content);
        if reader.fixed()? != *OF_FRAME || salted(header.salt, content).to_le_bytes() != *sum {
            return Err(NONE);
        }
        let (length, sum, weight) = (reader.u32()?.into(), reader.u32()?, reader.u32()?.into());
        let place = Place { at: reader.u64()?, weight: reader.u64()? };
        if Some(place.at) != header.start.at.checked_add(offset) {
            return Err(NONE);
        }
        Ok(Self { length, sum, weight, place })
    }

    /// The place after the frame.
    pub(super) fn end(&self) -> Place {
        Place { at: self.place.at + HEAD + self.length, weight: self.place.weight + self.weight }
    }
}

/// What a frame is, or why there is none.
type Found = std::result::Result<(Head, Bytes), Damage>;

/// Reads the frame at a place of a file that has so many bytes.
pub(super) fn frame(file: &dyn DiskFile, header: &Header, offset: u64, length: u64) -> io::Result<Found> {
    let rest = length.saturating_sub(offset);
    if rest < HEAD {
        return Ok(Err(Damage("a frame is cut off")));
    }
    let mut head = [0; HEAD as usize];
    file.read_at(&mut head, offset)?;
    let head = match Head::of_bytes(&head, header, offset) {
        Ok(head) => head,
        Err(damage) => return Ok(Err(damage)),
    };
    if head.length > rest - HEAD {
        return Ok(Err(Damage("a frame is cut off")));
    }
    let mut payload = vec![0; head.length as usize];
    file.read_at(&mut payload, offset + HEAD)?;
    if crc32fast::hash(&payload) != head.sum {
        return Ok(Err(Damage("the check sum of a frame is wrong")));
    }
    Ok(Ok((head, payload.into())))
}

/// The batches of a frame.
pub(super) fn batches(payload: &[u8]) -> Decoded<Vec<LogBatch>> {
    let mut reader = Reader(payload);
    let mut batches = Vec::new();
    while !reader.0.is_empty() {
        batches.push(batch::batch(&mut reader)?);
    }
    Ok(batches)
}

/// The place after the last whole frame of a file. The frame after it may be one whose write was cut short, and that nobody
/// was told of. Where others come after that one it was acknowledged, and is damaged.
pub(super) fn end(file: &dyn DiskFile, path: &Path, header: &Header, length: u64) -> Result<Place> {
    let broken = |cause| failed("read a file of the queue", path, cause);
    let mut end = Place { at: header.start.at + HEADER, ..header.start };
    loop {
        let offset = end.at - header.start.at;
        if offset >= length {
            return Ok(end);
        }
        match frame(file, header, offset, length).map_err(broken)? {
            Ok((head, _)) => end = head.end(),
            Err(damage) => {
                if has_frame_after(file, header, offset, length).map_err(broken)? {
                    return Err(damaged_at(path, damage, offset));
                }
                let bytes = length - offset;
                tracing::info!(path = %path.display(), bytes, "the last write to a queue was cut short");
                return Ok(end);
            }
        }
    }
}

/// Whether a frame begins anywhere after this place.
fn has_frame_after(file: &dyn DiskFile, header: &Header, offset: u64, length: u64) -> io::Result<bool> {
    let mut from = offset + 1;
    while from + HEAD <= length {
        // Windows overlap, so that each head is in one of them as a whole.
        let mut window = vec![0; (length - from).min(WINDOW + HEAD) as usize];
        file.read_at(&mut window, from)?;
        let marks = memchr::memmem::find_iter(&window, OF_FRAME);
        let mut heads = marks.filter_map(|at| Some((at, window.get(at..at + HEAD as usize)?)));
        if heads.any(|(at, head)| Head::of_bytes(head, header, from + at as u64).is_ok()) {
            return Ok(true);
        }
        from += WINDOW;
    }
    Ok(false)
}
