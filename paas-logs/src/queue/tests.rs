//! The queue against what it is to be: on a disk that forgets, with files that are damaged, and by many at once.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use paas_core::Result;
use paas_core::model::{
    InstanceId, LogBatch, LogGroup, LogItem, LogOrigin, LogPosition, LogStream, Resource, RevisionNumber,
    Timestamp, WhenFull,
};

use super::groups::Mark;
use super::{Inner, Sizes};
use crate::disk::Disk;
use crate::disk::forgetful::Forgetful;

mod crash;
mod damage;
mod together;

/// So small that a few batches make a file, and a few files are all that there may be.
const SMALL: Sizes = Sizes { all: 4_000, segment: 700 };
const FOLDER: &str = "/queue";

fn new_disk() -> Forgetful {
    let disk = Forgetful::default();
    disk.ensure_folder(Path::new(FOLDER)).unwrap();
    disk.sync_folder(Path::new("/")).unwrap();
    disk
}

fn open(disk: &Forgetful, full: WhenFull) -> Result<Inner> {
    Inner::open(Arc::new(disk.clone()), Path::new(FOLDER), SMALL, full, None)
}

fn group(number: u64) -> LogGroup {
    LogGroup::new(format!("g{number}")).unwrap()
}

fn origin(number: u64) -> LogOrigin {
    let id = |name: &str| format!("{name}-{number}");
    let service = Resource::Service(
        id("t").parse().unwrap(),
        "e-1".parse().unwrap(),
        "a-1".parse().unwrap(),
        "s-1".parse().unwrap(),
    );
    let instance = InstanceId::new("i-1").unwrap();
    LogOrigin::new(&service, RevisionNumber(1), instance, LogStream::Stdout).unwrap()
}

/// A batch of one line that nobody else says.
fn batch(of: u64, number: u64, length: usize) -> LogBatch {
    let text = format!("{number} {}\n", "x".repeat(length));
    LogBatch::new(origin(of), Bytes::from(text), Timestamp(number), LogPosition::offset(0, number))
}

/// Everything after a mark, each with the mark after it.
fn rest(queue: &Inner, mut mark: Mark) -> Result<Vec<(LogItem, Mark)>> {
    let (mut all, mut open) = (Vec::new(), None);
    loop {
        let items = queue.after(mark, &mut open)?;
        let Some((_, last)) = items.last() else { return Ok(all) };
        mark = *last;
        all.extend(items);
    }
}

fn oldest(queue: &Inner) -> Mark {
    Mark::of(&queue.journal.oldest())
}

fn batches(items: Vec<(LogItem, Mark)>) -> Vec<LogBatch> {
    let batch = |(item, _)| match item {
        LogItem::Batch(batch) => batch,
        other => panic!("{other:?}"),
    };
    items.into_iter().map(batch).collect()
}
