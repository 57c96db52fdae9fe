//! A reader beside a store that writes.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use paas_core::model::{LogBatch, LogPosition, LogQuery, Resource, Timestamp};

use super::super::ask::Ask;
use super::super::reader::Look;
use super::{FOLDER, new_disk, open, origin, tenant};
use crate::disk::forgetful::{Dice, Forgetful};

fn look(disk: &Forgetful) -> Look {
    Look::open(Arc::new(disk.clone()), FOLDER.into()).unwrap()
}

fn batch(number: u64) -> LogBatch {
    let text = format!("line {number:06} {}\n", "x".repeat(Dice(number).roll(30) as usize));
    let position = LogPosition { incarnation: number, sequence: 0, index: 0 };
    LogBatch::new(origin(0, 0), Bytes::from(text), Timestamp(1_000 + number), position)
}

fn count(look: &Look) -> usize {
    let mut query = LogQuery::of(Resource::Tenant(tenant(0)));
    query.limit = 5_000;
    look.search(&query, &AtomicBool::new(false)).unwrap().entries.len()
}

#[test]
fn a_reader_sees_all_that_was_acknowledged_while_the_store_writes() {
    let (disk, stored) = (new_disk(), AtomicUsize::new(0));
    let store = open(&disk).unwrap();
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for number in 0..1_500 {
                store.append(&[batch(number)]).unwrap();
                stored.store(number as usize + 1, Ordering::SeqCst);
            }
        });
        loop {
            let before = stored.load(Ordering::SeqCst);
            let look = look(&disk);
            let (first, second) = (count(&look), count(&look));
            assert!(first >= before, "{first} of {before}");
            // A tenant that was not there is looked for again.
            assert!(first == second || first == 0, "{first}, then {second}");
            if before == 1_500 {
                break;
            }
        }
    });
}

#[test]
fn a_reader_changes_nothing_and_shows_what_is_there_once_it_is_told_to() {
    let disk = new_disk();
    let store = open(&disk).unwrap();
    for number in 0..50 {
        store.append(&[batch(number)]).unwrap();
    }
    // A crash left files that are not whole.
    let disk = disk.after_crash(&mut Dice(7));
    let before = disk.contents();
    let reader = look(&disk);
    assert_eq!(count(&reader), 50);
    assert_eq!(reader.ends(&Resource::Platform).unwrap(), reader.ends(&Resource::Tenant(tenant(0))).unwrap());
    assert_eq!(disk.contents(), before);
    let store = open(&disk).unwrap();
    store.append(&[batch(50)]).unwrap();
    assert_eq!(count(&reader), 50);
    reader.refresh();
    assert_eq!(count(&reader), 51);
    store.purge(&tenant(0), None).unwrap();
    assert!(count(&reader) <= 51);
    reader.refresh();
    assert_eq!(count(&reader), 0);
}

#[test]
fn there_is_nothing_to_read_where_there_is_no_store() {
    let error = Look::open(Arc::new(new_disk()), Path::new("/elsewhere").to_owned()).unwrap_err();
    assert_eq!(error.kind(), paas_core::ErrorKind::NotFound);
}
