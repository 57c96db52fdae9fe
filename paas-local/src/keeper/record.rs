//! The spool's record format, shared by the keeper that writes and the follower that reads.
//!
//! A segment is a file in memory that holds records, each at a multiple of 8. The first eight bytes of a record (its
//! whole length and its payload's) are written last: zero there means "not yet". A segment is exactly as long as what
//! was put into it, so the payload of a record that a killed keeper did not finish is still known: it ends with the file.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

pub(crate) const HEADER: usize = 48;
/// A record is not begun with less room than this in a segment.
pub(crate) const MIN_ROOM: u64 = 4096;
/// The most payload of one record.
pub(crate) const MAX_PAYLOAD: usize = 64 * 1024;

/// Where in the position of output the number of the keeper's life begins.
pub(crate) const LIFE_SHIFT: u32 = 48;

/// A place in the spool. `life` numbers the keepers of a directory; offsets grow within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpoolOffset {
    /// Which keeper.
    pub life: u64,
    /// Where in its spool.
    pub offset: u64,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RecordKind {
    /// Bytes from standard output.
    Out,
    /// Bytes from standard error.
    Err,
    /// A process started, or a new keeper found it running: the payload is [`Started`] as JSON.
    Start,
    /// A process ended: the payload is [`Ended`](super::Ended) as JSON.
    Exit,
    /// Nothing more in this segment.
    Pad,
}

impl RecordKind {
    fn code(self) -> u8 {
        match self {
            Self::Out => 1,
            Self::Err => 2,
            Self::Start => 3,
            Self::Exit => 4,
            Self::Pad => 5,
        }
    }

    fn parse(code: u8) -> Option<Self> {
        [Self::Out, Self::Err, Self::Start, Self::Exit, Self::Pad]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

/// The payload of a [`RecordKind::Start`] record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Started {
    /// The process id.
    pub pid: u32,
    /// Whether a new keeper found it running.
    pub adopted: bool,
}

/// One record of the spool: a chunk of output as it came, or the start or end of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolRecord {
    /// Where it begins.
    pub offset: SpoolOffset,
    /// Where the next one begins: commit this once `payload` is processed.
    pub next: SpoolOffset,
    /// What it is.
    pub kind: RecordKind,
    /// Whose it is.
    pub id: String,
    /// The generation of that process.
    pub generation: u64,
    /// The run of that process.
    pub incarnation: u64,
    /// For output: the position of the first byte in this stream of this run. Grows always; consecutive within one
    /// life of the keeper (the life's number stands in the upper 16 bits), so a difference counts what was dropped.
    pub position: u64,
    /// When the keeper took it.
    pub time: SystemTime,
    /// The bytes.
    pub payload: Bytes,
}

/// What a follower of the spool gets.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpoolItem {
    /// A record.
    Record(SpoolRecord),
    /// Records are missing: the spool was full, or the keeper died with its memory while nobody followed.
    Gap {
        /// From here
        from: SpoolOffset,
        /// to here.
        to: SpoolOffset,
        /// How many bytes of the spool, record headers included, as far as that is known.
        bytes: Option<u64>,
    },
}

/// What stands in a record's header beside the lengths.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) kind: RecordKind,
    pub(crate) id: &'a str,
    pub(crate) generation: u64,
    pub(crate) incarnation: u64,
    pub(crate) position: u64,
}

impl Head<'_> {
    /// The header with lengths of zero, and the id.
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        buffer.clear();
        buffer.extend_from_slice(&[0; 8]);
        buffer.extend_from_slice(&[
            self.kind.code(),
            u8::try_from(self.id.len()).unwrap_or(u8::MAX),
            0,
            0,
            0,
            0,
            0,
            0,
        ]);
        for word in
            [self.incarnation, self.position, u64::try_from(nanos).unwrap_or(u64::MAX), self.generation]
        {
            buffer.extend_from_slice(&word.to_le_bytes());
        }
        buffer.extend_from_slice(self.id.as_bytes());
    }
}

/// The word that makes a record valid, and the record's length.
pub(crate) fn lengths(id: usize, payload: usize) -> ([u8; 8], u64) {
    let whole = (HEADER + id + payload).next_multiple_of(8);
    let mut word = [0; 8];
    word[..4].copy_from_slice(&u32::try_from(whole).unwrap_or(0).to_le_bytes());
    word[4..].copy_from_slice(&u32::try_from(payload).unwrap_or(0).to_le_bytes());
    (word, whole as u64)
}

/// What stands at the beginning of a block of a segment.
#[derive(Debug)]
pub(crate) enum Parsed {
    Record {
        record: SpoolRecord,
        whole: usize,
    },
    /// The segment ends here.
    End,
    /// Not written yet.
    Nothing,
    /// The block is cut: read again from here.
    Short,
}

/// Parses the record at `at` of `block`, whose first byte stands at `base`. With `unfinished`, the last record of a dead
/// keeper is taken to end with the block.
pub(crate) fn parse(block: &Bytes, at: usize, base: SpoolOffset, unfinished: bool) -> Parsed {
    let rest = &block[at..];
    let Some(header) = rest.first_chunk::<HEADER>() else {
        return if rest.is_empty() { Parsed::Nothing } else { Parsed::Short };
    };
    let word =
        |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]) as usize;
    let long = |at: usize| u64::from(word(at) as u32) | (u64::from(word(at + 4) as u32) << 32);
    let (mut whole, mut payload, id) = (word(0), word(4), header[9] as usize);
    let Some(kind) = RecordKind::parse(header[8]) else { return Parsed::Nothing };
    if whole == 0 {
        if !unfinished || rest.len() <= HEADER + id || !matches!(kind, RecordKind::Out | RecordKind::Err) {
            return Parsed::Nothing;
        }
        payload = rest.len() - HEADER - id;
        whole = rest.len();
    }
    if kind == RecordKind::Pad {
        return Parsed::End;
    }
    if rest.len() < HEADER + id + payload {
        return Parsed::Short;
    }
    let offset = SpoolOffset { life: base.life, offset: base.offset + at as u64 };
    let record = SpoolRecord {
        offset,
        next: SpoolOffset { life: base.life, offset: offset.offset + whole as u64 },
        kind,
        id: String::from_utf8_lossy(&rest[HEADER..HEADER + id]).into_owned(),
        generation: long(40),
        incarnation: long(16),
        position: long(24),
        time: SystemTime::UNIX_EPOCH + Duration::from_nanos(long(32)),
        payload: block.slice(at + HEADER + id..at + HEADER + id + payload),
    };
    Parsed::Record { record, whole }
}
