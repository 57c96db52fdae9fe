//! What a tenant's folder keeps beside its segments: where origins end whose lines are forgotten, and which segments count.

use std::collections::BTreeMap;
use std::path::Path;

use paas_core::Result;
use paas_core::model::Timestamp;

use super::segment::Ends;
use crate::codec::line;
use crate::codec::{Decoded, Reader, put_bytes, put_number};
use crate::disk::Disk;
use crate::whole;

pub(super) const NAME: &str = "kept";

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
    whole::read(disk, folder, NAME, of_bytes)
}

pub(super) fn of_bytes(content: &[u8]) -> Decoded<Kept> {
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
    whole::write(disk, folder, NAME, content)
}
