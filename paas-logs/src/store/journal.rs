//! What was acknowledged and is not yet in a segment: a journal of frames, each told to be there once it is synced.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use paas_core::Result;
use paas_core::model::{LogBatch, TenantId};

use crate::codec::{Damage, Decoded, Reader, batch, put_bytes, put_number};
use crate::disk::Disk;
use crate::error::failed;
use crate::journal::{self, Format, Place};

/// Before each frame: its length and its check sum, both four bytes, the lowest first.
pub(super) const HEAD: usize = 8;

/// How frames begin.
const LINES: u8 = 1;
const FORGOTTEN: u8 = 2;
const SYNCED: u8 = 3;
const ANEW: u8 = 4;

/// What a frame says.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// Lines of one life of a tenant.
    Lines(TenantId, u64, Vec<LogBatch>),
    /// That life is over: all of it is to be forgotten.
    Forgotten(TenantId, u64),
    /// What open segments have that no journal need have.
    Synced(Vec<Synced>),
    /// At the beginning of a file: it has all that is needed of those before it, which do not count any more.
    Anew,
}

/// How much of the open segment of a life is sure to outlive a crash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Synced {
    pub(super) tenant: TenantId,
    pub(super) life: u64,
    /// The segment's number.
    pub(super) number: u64,
    pub(super) length: u64,
}

impl Synced {
    /// By the life that it is of.
    pub(super) fn keyed(self) -> ((TenantId, u64), Self) {
        ((self.tenant.clone(), self.life), self)
    }

    /// How much of the segment of a number was synced, where this is the last that was said.
    pub(super) fn of(own: Option<&Self>, number: u64) -> u64 {
        own.filter(|own| own.number == number).map_or(0, |own| own.length)
    }
}

/// The journal.
#[derive(Debug)]
pub(super) struct Journal {
    files: journal::Journal<Frames>,
    lives: AtomicU64,
}

/// Its files are frames and nothing else.
#[derive(Debug)]
struct Frames;

impl Format for Frames {
    const NAME: &'static str = "journal-";
    const WAITING: usize = 64 * 1024 * 1024;

    fn head(&self, _: Place) -> Vec<u8> {
        Vec::new()
    }

    fn add(&self, waiting: &mut Vec<u8>, payload: &[u8]) {
        put_frame(waiting, payload);
    }

    fn frame(&self, _: Place, _: u64, waiting: Vec<u8>) -> Vec<u8> {
        waiting
    }
}

impl Journal {
    /// Begins a new file in the place of those that are there, with the frames of theirs that are still needed.
    pub(super) fn begin(disk: Arc<dyn Disk>, folder: PathBuf, frames: &[u8]) -> Result<Self> {
        let next = numbers(&*disk, &folder)?.last().map_or(1, |last| last + 1);
        let mut content = Vec::with_capacity(frames.len() + HEAD + 1);
        put_frame(&mut content, &[ANEW]);
        content.extend(frames);
        let files = journal::Journal::begin_with(disk, folder, Frames, next, &content)?;
        Ok(Self { files, lives: AtomicU64::new(0) })
    }

    /// A number for a life of a tenant, which none had before.
    pub(super) fn life(&self) -> u64 {
        self.number() << 20 | (self.lives.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Writes a frame. It is there after a crash once this returns; where it fails, it may be there all the same.
    pub(super) fn write(&self, payload: &[u8]) -> Result<()> {
        self.files.write(payload, 0)
    }

    /// The number of the file that frames are written to.
    pub(super) fn number(&self) -> u64 {
        self.files.number()
    }

    /// How long the file is that frames are written to.
    pub(super) fn length(&self) -> u64 {
        self.files.length()
    }

    /// Goes on in a new file, and gives its number: what the files before it say may be removed once it stands elsewhere.
    pub(super) fn rotate(&self) -> Result<u64> {
        self.files.rotate(None)
    }

    /// Removes the files before this one. A frame that says that a life is over does not outlive those after it.
    pub(super) fn remove_before(&self, number: u64) -> Result<()> {
        self.files.remove_before(number)
    }
}

/// Where a file is.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    journal::path(folder, Frames::NAME, number)
}

/// The numbers of the files that count, in order.
pub(super) fn counting(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    let mut numbers = numbers(disk, folder)?;
    for at in (0..numbers.len()).rev() {
        if begins_anew(disk, &path(folder, numbers[at]))? {
            numbers.drain(..at);
            break;
        }
    }
    Ok(numbers)
}

/// Whether the files before this one count no more.
fn begins_anew(disk: &dyn Disk, path: &Path) -> Result<bool> {
    let mut anew = Vec::new();
    put_frame(&mut anew, &[ANEW]);
    let mut head = vec![0; anew.len()];
    let broken = |cause| failed("read a journal", path, cause);
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(broken(cause)),
    };
    if file.length().map_err(broken)? < head.len() as u64 {
        return Ok(false);
    }
    file.read_at(&mut head, 0).map_err(broken)?;
    Ok(head == anew)
}

/// The numbers of the files that are there, in order.
fn numbers(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    journal::numbers(disk, folder, Frames::NAME)
}

/// Gives the payloads of all frames, in order, up to the first of each file that is not whole. `false` where files went meanwhile:
/// what they said stands in a newer one, or in segments.
pub(super) fn read(
    disk: &dyn Disk,
    folder: &Path,
    mut each: impl FnMut(&Path, &[u8]) -> Result<()>,
) -> Result<bool> {
    let mut are_there = true;
    for number in counting(disk, folder)? {
        let path = path(folder, number);
        let content = content(disk, &path)?;
        are_there &= content.is_some();
        let content = content.unwrap_or_default();
        let mut rest = &content[..];
        while let Some((payload, after)) = frame(rest) {
            each(&path, payload)?;
            rest = after;
        }
        if !rest.is_empty() {
            tracing::info!(path = %path.display(), bytes = rest.len(), "the end of a journal was not written whole");
        }
    }
    Ok(are_there)
}

/// What a payload says.
pub(super) fn said(path: &Path, payload: &[u8]) -> Result<Frame> {
    // It was written so: what cannot be read is of a later version.
    Frame::of_bytes(payload).map_err(|damage| crate::error::damaged(path, damage))
}

/// All that a file has; `None` where it is gone.
pub(super) fn content(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>> {
    let broken = |cause| failed("read a journal", path, cause);
    let file = match disk.open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(broken(cause)),
    };
    let mut content = vec![0; file.length().map_err(broken)? as usize];
    file.read_at(&mut content, 0).map_err(broken)?;
    Ok(Some(content))
}

/// The payload of the frame that begins here, if one does, and what comes after it.
pub(super) fn frame(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = rest.split_at_checked(HEAD)?;
    let mut head = Reader(head);
    let (length, sum) = (head.u32().ok()?, head.u32().ok()?);
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    // A frame is never empty: what was never written is zeros.
    (length > 0 && crc32fast::hash(payload) == sum).then_some((payload, rest))
}

/// A frame around a payload.
pub(super) fn put_frame(out: &mut Vec<u8>, payload: &[u8]) {
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend(crc32fast::hash(payload).to_le_bytes());
    out.extend(payload);
}

impl Frame {
    /// A frame of lines, as bytes.
    pub(super) fn lines(tenant: &TenantId, life: u64, batches: &[LogBatch]) -> Vec<u8> {
        let size: usize = batches.iter().map(|batch| batch.buffer.len() + batch.starts.len() * 4 + 512).sum();
        let mut out = Vec::with_capacity(size);
        put_life(&mut out, LINES, tenant, life);
        put_number(&mut out, batches.len() as u64);
        batches.iter().for_each(|batch| batch::put_batch(&mut out, batch));
        out
    }

    /// A frame that says that a life is over, as bytes.
    pub(super) fn forgotten(tenant: &TenantId, life: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_life(&mut out, FORGOTTEN, tenant, life);
        out
    }

    /// A frame that says what was synced, as bytes.
    pub(super) fn synced(all: &[Synced]) -> Vec<u8> {
        let mut out = vec![SYNCED];
        put_number(&mut out, all.len() as u64);
        for own in all {
            put_bytes(&mut out, own.tenant.as_str().as_bytes());
            [own.life, own.number, own.length].into_iter().for_each(|number| put_number(&mut out, number));
        }
        out
    }

    /// Whether a payload has lines: most do, and they take long to read.
    pub(super) fn has_lines(payload: &[u8]) -> bool {
        payload.first() == Some(&LINES)
    }

    pub(super) fn of_bytes(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader(bytes);
        let [kind] = reader.fixed()?;
        if kind == SYNCED {
            let count = reader.count()?;
            let all = (0..count).map(|_| synced(&mut reader)).collect::<Decoded<_>>()?;
            reader.end()?;
            return Ok(Self::Synced(all));
        }
        if kind == ANEW {
            reader.end()?;
            return Ok(Self::Anew);
        }
        let (tenant, life) = (tenant(&mut reader)?, reader.number()?);
        let frame = match kind {
            LINES => {
                let count = reader.count()?;
                let batches = (0..count).map(|_| batch::batch(&mut reader)).collect::<Decoded<_>>()?;
                Self::Lines(tenant, life, batches)
            }
            FORGOTTEN => Self::Forgotten(tenant, life),
            _ => return Err(Damage("a frame of a kind that is not known")),
        };
        reader.end()?;
        Ok(frame)
    }
}

fn tenant(reader: &mut Reader<'_>) -> Decoded<TenantId> {
    let id = std::str::from_utf8(reader.bytes()?).ok();
    id.and_then(|id| TenantId::new(id).ok()).ok_or(Damage("a tenant's id is none"))
}

fn synced(reader: &mut Reader<'_>) -> Decoded<Synced> {
    let (tenant, life) = (tenant(reader)?, reader.number()?);
    Ok(Synced { tenant, life, number: reader.number()?, length: reader.number()? })
}

fn put_life(out: &mut Vec<u8>, kind: u8, tenant: &TenantId, life: u64) {
    out.push(kind);
    put_bytes(out, tenant.as_str().as_bytes());
    put_number(out, life);
}
