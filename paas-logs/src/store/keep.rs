//! What a tenant's folder keeps beside its segments: where origins end whose lines are forgotten, and which segments count.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use paas_core::Result;
use paas_core::model::Timestamp;

use super::segment::Ends;
use crate::codec::line;
use crate::codec::{Damage, Reader, put_bytes, put_number};
use crate::disk::Disk;
use crate::error::{damaged, failed};

pub(super) const NAME: &str = "kept";
const DRAFT: &str = "kept.new";

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) ends: Ends,
    /// Which sealed segments up to the last count, and from when on their lines do.
    pub(super) floors: BTreeMap<u64, Timestamp>,
    /// Of the segments up to this number, those are all.
    pub(super) last: u64,
}

impl Kept {
    /// Whether a segment is one of those that are gone.
    pub(super) fn has_forgotten(&self, number: u64) -> bool {
        number <= self.last && !self.floors.contains_key(&number)
    }
}

/// Reads it; it is empty where there is none.
pub(super) fn read(disk: &dyn Disk, folder: &Path) -> Result<Kept> {
    let path = folder.join(NAME);
    let file = match disk.open(&path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(cause) => return Err(failed("read a file", &path, cause)),
    };
    let mut content = Vec::new();
    let read = file.length().and_then(|length| {
        content.resize(length as usize, 0);
        file.read_at(&mut content, 0)
    });
    read.map_err(|cause| failed("read a file", &path, cause))?;
    of_bytes(&content).map_err(|damage| damaged(&path, damage))
}

pub(super) fn of_bytes(bytes: &[u8]) -> std::result::Result<Kept, Damage> {
    let (content, sum) = bytes.split_last_chunk::<4>().ok_or(Damage("it is cut off"))?;
    if crc32fast::hash(content).to_le_bytes() != *sum {
        return Err(Damage("its check sum is wrong"));
    }
    let mut reader = Reader(content);
    let mut own = Reader(reader.bytes()?);
    let ends = line::ends(&mut own)?.into_iter().collect();
    own.end()?;
    let last = reader.number()?;
    let mut floors = BTreeMap::new();
    for _ in 0..reader.count()? {
        floors.insert(reader.number()?, Timestamp(reader.number()?));
    }
    reader.end()?;
    Ok(Kept { ends, floors, last })
}

/// Replaces it: after a crash it is the old or the new one.
pub(super) fn write(disk: &dyn Disk, folder: &Path, kept: &Kept) -> Result<()> {
    let mut content = Vec::new();
    let mut ends = Vec::new();
    line::put_ends(&mut ends, kept.ends.iter());
    put_bytes(&mut content, &ends);
    put_number(&mut content, kept.last);
    put_number(&mut content, kept.floors.len() as u64);
    for (number, floor) in &kept.floors {
        put_number(&mut content, *number);
        put_number(&mut content, floor.0);
    }
    let sum = crc32fast::hash(&content);
    content.extend(sum.to_le_bytes());
    let (draft, path) = (folder.join(DRAFT), folder.join(NAME));
    let written = disk.remove(&draft).and_then(|()| {
        let file = disk.create(&draft)?;
        file.write_at(&content, 0)?;
        file.sync()?;
        disk.rename(&draft, &path)?;
        disk.sync_folder(folder)
    });
    written.map_err(|cause| failed("write a file", &path, cause))
}
