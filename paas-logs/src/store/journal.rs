//! What was acknowledged and is not yet in a segment: a journal of frames, each told to be there once it is synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use paas_core::Result;
use paas_core::model::{LogBatch, TenantId};

use crate::codec::{Damage, Decoded, Reader, batch, put_bytes, put_number};
use crate::disk::Disk;
use crate::error::failed;
use crate::journal::{self, Format, Part, Place};

/// Before each frame: its length and its check sum, both four bytes, the lowest first.
const HEAD: usize = 8;

/// What a frame says.
#[derive(Debug, PartialEq)]
pub(super) enum Frame {
    /// Lines of one life of a tenant.
    Lines(TenantId, u64, Vec<LogBatch>),
    /// That life is over: all of it is to be forgotten.
    Forgotten(TenantId, u64),
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
        waiting.extend((payload.len() as u32).to_le_bytes());
        waiting.extend(crc32fast::hash(payload).to_le_bytes());
        waiting.extend(payload);
    }

    fn frame(&self, _: Place, _: u64, waiting: Vec<u8>) -> Vec<u8> {
        waiting
    }
}

impl Journal {
    /// Begins a new file after those that are there, and gives what they say, in order.
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: PathBuf,
        mut each: impl FnMut(Frame) -> Result<()>,
    ) -> Result<Self> {
        let numbers = journal::numbers(&*disk, &folder, Frames::NAME)?;
        for number in &numbers {
            replay(&*disk, &journal::path(&folder, Frames::NAME, *number), &mut each)?;
        }
        let next = numbers.last().map_or(1, |last| last + 1);
        let old = numbers.into_iter().map(|number| Part { number, ..Part::default() });
        let files = journal::Journal::begin(disk, folder, Frames, old, next, Place::default())?;
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

/// Gives the frames of a file, up to the first that is not whole.
fn replay(disk: &dyn Disk, path: &Path, each: &mut impl FnMut(Frame) -> Result<()>) -> Result<()> {
    let broken = |cause| failed("read a journal", path, cause);
    let file = disk.open(path).map_err(broken)?;
    let mut content = vec![0; file.length().map_err(broken)? as usize];
    file.read_at(&mut content, 0).map_err(broken)?;
    let mut rest = &content[..];
    while let Some((frame, after)) = frame(rest) {
        // It was written so: what cannot be read is of a later version.
        each(Frame::of_bytes(frame).map_err(|damage| crate::error::damaged(path, damage))?)?;
        rest = after;
    }
    if !rest.is_empty() {
        tracing::info!(path = %path.display(), bytes = rest.len(), "the end of a journal was not written whole");
    }
    Ok(())
}

fn frame(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = rest.split_at_checked(HEAD)?;
    let mut head = Reader(head);
    let (length, sum) = (head.u32().ok()?, head.u32().ok()?);
    let (payload, rest) = rest.split_at_checked(length as usize)?;
    // A frame is never empty: what was never written is zeros.
    (length > 0 && crc32fast::hash(payload) == sum).then_some((payload, rest))
}

impl Frame {
    /// A frame of lines, as bytes.
    pub(super) fn lines(tenant: &TenantId, life: u64, batches: &[LogBatch]) -> Vec<u8> {
        let size: usize = batches.iter().map(|batch| batch.buffer.len() + batch.starts.len() * 4 + 512).sum();
        let mut out = Vec::with_capacity(size);
        put_life(&mut out, 1, tenant, life);
        put_number(&mut out, batches.len() as u64);
        batches.iter().for_each(|batch| batch::put_batch(&mut out, batch));
        out
    }

    /// A frame that says that a life is over, as bytes.
    pub(super) fn forgotten(tenant: &TenantId, life: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_life(&mut out, 2, tenant, life);
        out
    }

    fn of_bytes(bytes: &[u8]) -> Decoded<Self> {
        let mut reader = Reader(bytes);
        let [kind] = reader.fixed()?;
        let tenant = std::str::from_utf8(reader.bytes()?).ok().and_then(|id| TenantId::new(id).ok());
        let (tenant, life) = (tenant.ok_or(Damage("a tenant's id is none"))?, reader.number()?);
        let frame = match kind {
            1 => {
                let count = reader.count()?;
                let batches = (0..count).map(|_| batch::batch(&mut reader)).collect::<Decoded<_>>()?;
                Self::Lines(tenant, life, batches)
            }
            2 => Self::Forgotten(tenant, life),
            _ => return Err(Damage("a frame of a kind that is not known")),
        };
        reader.end()?;
        Ok(frame)
    }
}

fn put_life(out: &mut Vec<u8>, kind: u8, tenant: &TenantId, life: u64) {
    out.push(kind);
    put_bytes(out, tenant.as_str().as_bytes());
    put_number(out, life);
}
