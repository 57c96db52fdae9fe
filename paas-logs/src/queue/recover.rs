//! What is there when a queue is opened.

use std::path::{Path, PathBuf};

use paas_core::Result;

use super::groups::{Groups, Mark};
use super::segment::{self, HEADER, Header, Segments};
use crate::codec::Damage;
use crate::disk::{Disk, DiskFile};
use crate::error::{damaged_at, failed};
use crate::journal::{self, Format, Part, Place};

/// What is there, and how it goes on.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The files, in order.
    pub(super) old: Vec<Part>,
    /// The number of the next.
    pub(super) next: u64,
    /// Where it begins.
    pub(super) start: Place,
    /// Files in which nothing is, and that may go once the next is there.
    pub(super) stale: Vec<PathBuf>,
}

/// A file that is there.
struct Seen {
    number: u64,
    path: PathBuf,
    file: Box<dyn DiskFile>,
    length: u64,
    /// `None` where it was not written whole, so that nothing can be in it.
    header: Option<Header>,
}

impl Seen {
    fn is_empty(&self) -> bool {
        self.header.is_none() || self.length <= HEADER
    }
}

/// Looks at the files.
pub(super) fn recover(disk: &dyn Disk, folder: &Path, groups: &Groups) -> Result<Recovered> {
    let numbers = journal::numbers(disk, folder, Segments::NAME)?;
    let mut next = numbers.last().map_or(1, |last| last + 1);
    let mut seen = numbers.into_iter().map(|number| see(disk, folder, number)).collect::<Result<Vec<_>>>()?;
    let mut stale = Vec::new();
    // Where it goes on at least: empty files at the end know, and groups where nothing else is left.
    let mut start = groups.values().map(|group| group.committed).max().map_or_else(Place::default, place);
    while let Some(last) = seen.pop_if(|last| last.is_empty()) {
        if let Some(header) = &last.header {
            agree(&seen, &last, header)?;
            start = start.max(Place { at: header.start.at + HEADER, ..header.start });
        }
        stale.push(last.path);
    }
    let mut old = Vec::new();
    for (own, after) in seen.iter().zip(seen.iter().skip(1).map(Some).chain([None])) {
        let Some(header) = &own.header else { continue };
        let part = Part { number: own.number, start: header.start, end: 0 };
        let end = match after.and_then(|after| Some((after.number, after.header.as_ref()?))) {
            Some((number, after)) if number == own.number + 1 => after.start.at,
            _ => segment::end(&*own.file, &own.path, header, own.length)?.at,
        };
        old.push(Part { end, ..part });
    }
    if let Some(last) = seen.last() {
        start = start.max(last_end(last, groups)?);
    }
    // Only of files that follow each other is the end of one the start of the next.
    if old.last().is_some_and(|last| last.number + 1 == next && last.end != start.at) {
        next += 1;
    }
    Ok(Recovered { old, next, start, stale })
}

fn place(mark: Mark) -> Place {
    Place { at: mark.at, weight: mark.weight }
}

fn see(disk: &dyn Disk, folder: &Path, number: u64) -> Result<Seen> {
    let path = journal::path(folder, Segments::NAME, number);
    let broken = |cause| failed("read a file of the queue", &path, cause);
    let file = disk.open(&path).map_err(broken)?;
    let length = file.length().map_err(broken)?;
    let header = Header::read(&*file, &path, length)?;
    Ok(Seen { number, path, file, length, header })
}

/// An empty file begins where the one before it ended, or earlier, if that one was written to once more.
fn agree(seen: &[Seen], empty: &Seen, header: &Header) -> Result<()> {
    let Some(before) = seen.last().filter(|before| before.number + 1 == empty.number) else { return Ok(()) };
    let Some(own) = before.header.as_ref().filter(|_| !before.is_empty()) else { return Ok(()) };
    let end = segment::end(&*before.file, &before.path, own, before.length)?;
    if end.at < header.start.at {
        let damage = Damage("what was acknowledged is missing at its end");
        return Err(damaged_at(&before.path, damage, end.at - own.start.at));
    }
    Ok(())
}

/// Where the last file with anything in it ends. What is read of it from now on is on the disk.
fn last_end(last: &Seen, groups: &Groups) -> Result<Place> {
    let Some(header) = &last.header else { return Ok(Place::default()) };
    let end = segment::end(&*last.file, &last.path, header, last.length)?;
    last.file.sync().map_err(|cause| failed("sync a file of the queue", &last.path, cause))?;
    let past = |mark: Mark| mark.number <= last.number && (mark.at, mark.skip) > (end.at, 0);
    if groups.values().any(|group| past(group.committed)) {
        let damage = Damage("what was committed is missing at its end");
        return Err(damaged_at(&last.path, damage, end.at - header.start.at));
    }
    Ok(end)
}
