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
use crate::journal::{self, Format, Part, Place};

/// Before each frame: its length and its check sum, both four bytes, the lowest first.
pub(super) const HEAD: usize = 8;

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
        put_frame(waiting, payload);
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
        let mut old = Vec::new();
        for number in numbers(&*disk, &folder)? {
            replay(&*disk, &path(&folder, number), &mut each)?;
            old.push(Part { number, ..Part::default() });
        }
        let next = old.last().map_or(1, |last| last.number + 1);
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

/// Where a file is.
pub(super) fn path(folder: &Path, number: u64) -> PathBuf {
    journal::path(folder, Frames::NAME, number)
}

/// The numbers of the files that are there, in order.
pub(super) fn numbers(disk: &dyn Disk, folder: &Path) -> Result<Vec<u64>> {
    journal::numbers(disk, folder, Frames::NAME)
}

/// Gives what all files say, in order.
pub(super) fn read(disk: &dyn Disk, folder: &Path, mut each: impl FnMut(Frame) -> Result<()>) -> Result<()> {
    numbers(disk, folder)?.into_iter().try_for_each(|number| replay(disk, &path(folder, number), &mut each))
}

/// Gives the frames of a file, up to the first that is not whole.
fn replay(disk: &dyn Disk, path: &Path, each: &mut impl FnMut(Frame) -> Result<()>) -> Result<()> {
    // Where it is gone, whoever has the store open has brought to segments what it said.
    let content = content(disk, path)?.unwrap_or_default();
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

    pub(super) fn of_bytes(bytes: &[u8]) -> Decoded<Self> {
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
