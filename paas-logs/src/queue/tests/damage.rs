//! Files that are cut short, and files that are not as they were written.

use std::path::{Path, PathBuf};

use paas_core::ErrorKind;
use paas_core::model::{LogBatch, LogItem, WhenFull};
use proptest::prelude::*;

use super::super::segment::{self, HEAD, HEADER, Header, Segments};
use super::{FOLDER, batch, batches, group, new_disk, oldest, open, rest};
use crate::disk::Disk;
use crate::disk::forgetful::Forgetful;
use crate::journal::{self, Format, Place};

fn path(number: u64) -> PathBuf {
    journal::path(Path::new(FOLDER), Segments::NAME, number)
}

fn read(disk: &Forgetful, path: &Path) -> Vec<u8> {
    let file = disk.open(path).unwrap();
    let mut bytes = vec![0; file.length().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// A disk with a queue of which one file is as given.
fn with(disk: &Forgetful, path: &Path, bytes: &[u8]) {
    disk.remove(path).unwrap();
    disk.create(path).unwrap().write_at(bytes, 0).unwrap();
}

/// A queue with a few frames in one file, and where they end.
fn one_file() -> (Forgetful, Vec<LogBatch>, Vec<u64>) {
    let disk = new_disk();
    let queue = open(&disk, WhenFull::Refuse).unwrap();
    let all: Vec<_> = (0..3).map(|number| batch(number, number, 5)).collect();
    let mut ends = vec![HEADER];
    for batch in &all {
        queue.publish(std::slice::from_ref(batch)).unwrap();
        ends.push(queue.journal.length());
    }
    assert_eq!(queue.journal.number(), 1);
    (disk, all, ends)
}

#[test]
fn a_file_that_is_cut_anywhere_has_what_is_whole() {
    let (disk, all, ends) = one_file();
    let bytes = read(&disk, &path(1));
    for length in 0..bytes.len() {
        // Zeros may stand where nothing was written yet.
        for zeros in [0, 10, 2_000] {
            let mut cut = bytes[..length].to_vec();
            cut.resize(length + if length > HEADER as usize { zeros } else { 0 }, 0);
            let disk = new_disk();
            with(&disk, &path(1), &cut);
            let queue = open(&disk, WhenFull::Refuse).unwrap();
            let whole = ends.iter().filter(|end| **end <= length as u64).count().saturating_sub(1);
            assert_eq!(batches(rest(&queue, oldest(&queue)).unwrap()), all[..whole], "{length} bytes");
            queue.publish(&[batch(9, 9, 9)]).unwrap();
            let more = batches(rest(&queue, oldest(&queue)).unwrap());
            assert_eq!(more.len(), whole + 1);
        }
    }
}

#[test]
fn a_damaged_frame_before_others_is_told() {
    let (disk, _, ends) = one_file();
    let bytes = read(&disk, &path(1));
    for at in HEADER..ends[2] {
        let mut damaged = bytes.clone();
        damaged[at as usize] ^= 0x10;
        let disk = new_disk();
        with(&disk, &path(1), &damaged);
        let error = open(&disk, WhenFull::Refuse).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
        assert!(error.context("path").is_some_and(|path| path.ends_with("queue-0000000000000001")));
        let begin = ends.iter().rfind(|end| **end <= at).unwrap();
        assert_eq!(error.context("offset"), Some(&*begin.to_string()), "damaged at {at}");
    }
}

#[test]
fn lines_cannot_pass_for_a_frame() {
    let (disk, _, ends) = one_file();
    let header = Place { at: 0, weight: 0 };
    // As long as what would stand before it: whoever writes lines knows anything but the salt.
    let forged = |at: u64| Segments::new().frame(Place { at, ..header }, 1, vec![1, 2, 3]);
    let mut bytes = read(&disk, &path(1));
    let end = bytes.len() as u64;
    bytes.extend([0x55; HEAD as usize]);
    bytes.extend(forged(end + HEAD));
    with(&disk, &path(1), &bytes);
    let queue = open(&disk, WhenFull::Refuse).unwrap();
    assert_eq!(rest(&queue, oldest(&queue)).unwrap().len(), ends.len() - 1);
}

/// A queue with a few files.
fn some_files() -> (Forgetful, Vec<LogBatch>) {
    let disk = new_disk();
    let queue = open(&disk, WhenFull::Refuse).unwrap();
    queue.subscribe(&group(0)).unwrap();
    let all: Vec<_> = (0..12).map(|number| batch(0, number, 100)).collect();
    all.iter().for_each(|batch| queue.publish(std::slice::from_ref(batch)).unwrap());
    assert!(queue.journal.number() > 3);
    (disk, all)
}

#[test]
fn damage_in_the_middle_is_told_and_not_passed_over() {
    let (disk, all) = some_files();
    let mut bytes = read(&disk, &path(2));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    with(&disk, &path(2), &bytes);
    let queue = open(&disk, WhenFull::Refuse).unwrap();
    let (mut mark, mut file, mut given) = (queue.committed(&group(0)).unwrap(), None, Vec::new());
    let error = loop {
        match queue.after(mark, &mut file) {
            Ok(items) => {
                mark = items.last().unwrap().1;
                given.extend(batches(items));
            }
            Err(error) => break error,
        }
    };
    assert!(given.len() < all.len() && given == all[..given.len()]);
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.context("path").is_some_and(|path| path.ends_with("queue-0000000000000002")), "{error}");
    assert!(error.context("offset").is_some() && error.context("advice").is_some(), "{error}");
    // It stays so, and what is committed before it stays committed.
    queue.commit(&group(0), mark).unwrap();
    assert!(queue.after(mark, &mut file).is_err());
    drop(queue);
    // Taken away, it is a gap.
    disk.remove(&path(2)).unwrap();
    for _ in 0..2 {
        let queue = open(&disk, WhenFull::Refuse).unwrap();
        let mut items = rest(&queue, queue.committed(&group(0)).unwrap()).unwrap();
        let LogItem::Gap { bytes, .. } = items.remove(0).0 else { panic!("no gap") };
        let after = batches(items);
        let missing = &all[given.len()..all.len() - after.len()];
        assert_eq!(after, all[all.len() - after.len()..]);
        assert!(!missing.is_empty() && !after.is_empty());
        assert_eq!(bytes, missing.iter().map(|batch| batch.buffer.len() as u64).sum::<u64>());
    }
}

#[test]
fn what_was_committed_and_is_missing_is_told() {
    let disk = new_disk();
    let queue = open(&disk, WhenFull::Refuse).unwrap();
    queue.subscribe(&group(0)).unwrap();
    let mut end = 0;
    for number in 0..3 {
        end = queue.journal.length();
        queue.publish(&[batch(0, number, 5)]).unwrap();
    }
    let all = rest(&queue, queue.committed(&group(0)).unwrap()).unwrap();
    queue.commit(&group(0), all.last().unwrap().1).unwrap();
    drop(queue);
    let bytes = read(&disk, &path(1));
    with(&disk, &path(1), &bytes[..end as usize]);
    let error = open(&disk, WhenFull::Refuse).unwrap_err();
    assert_eq!((error.kind(), error.context("offset")), (ErrorKind::Internal, Some(&*end.to_string())));
    // Whoever takes the file away goes on.
    disk.remove(&path(1)).unwrap();
    for number in 0..2 {
        let queue = open(&disk, WhenFull::Refuse).unwrap();
        assert_eq!(rest(&queue, queue.committed(&group(0)).unwrap()).unwrap().len(), number);
        queue.publish(&[batch(0, 7, 7)]).unwrap();
    }
}

#[test]
fn what_is_before_a_file_that_was_taken_away_is_given() {
    let (disk, all) = some_files();
    let queue = open(&disk, WhenFull::Refuse).unwrap();
    queue.subscribe(&group(1)).unwrap();
    queue.publish(&[batch(0, 99, 5)]).unwrap();
    let last = rest(&queue, oldest(&queue)).unwrap().last().unwrap().1;
    queue.commit(&group(0), last).unwrap();
    let number = queue.journal.number();
    drop(queue);
    disk.remove(&path(number)).unwrap();
    for _ in 0..2 {
        let queue = open(&disk, WhenFull::Refuse).unwrap();
        assert!(rest(&queue, queue.committed(&group(0)).unwrap()).unwrap().is_empty());
        let mut items = rest(&queue, queue.committed(&group(1)).unwrap()).unwrap();
        let (gap, _) = items.pop().unwrap();
        let missing = batch(0, 99, 5).buffer.len() as u64;
        assert!(matches!(gap, LogItem::Gap { bytes, .. } if bytes == missing), "{gap:?}");
        assert_eq!(batches(items), all);
    }
}

#[test]
fn a_commit_that_comes_late_gives_nothing_back() {
    let (disk, _) = some_files();
    let queue = open(&disk, WhenFull::Refuse).unwrap();
    let all = rest(&queue, queue.committed(&group(0)).unwrap()).unwrap();
    for at in [5, 2] {
        queue.commit(&group(0), all[at].1).unwrap();
        assert_eq!(queue.committed(&group(0)).unwrap(), all[5].1);
    }
}

#[test]
fn a_batch_that_is_too_large_is_refused() {
    let queue = open(&new_disk(), WhenFull::DropOldest).unwrap();
    let error = queue.publish(&[batch(0, 0, 1), batch(0, 1, 2_000)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(rest(&queue, oldest(&queue)).unwrap().is_empty());
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>, cut in 0..600_usize, junk: Vec<u8>) {
        drop(segment::batches(&bytes));
        let (disk, ..) = one_file();
        let mut own = read(&disk, &path(1));
        own.truncate(cut);
        own.extend(&junk);
        with(&disk, &path(1), &own);
        let file = disk.open(&path(1)).unwrap();
        if let Ok(Some(header)) = Header::read(&*file, &path(1), own.len() as u64) {
            drop(segment::end(&*file, &path(1), &header, own.len() as u64));
        }
        if let Ok(queue) = open(&disk, WhenFull::Refuse) {
            drop(rest(&queue, oldest(&queue)));
        }
    }
}
