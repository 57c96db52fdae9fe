//! Many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use paas_core::ErrorKind;
use paas_core::model::{LogItem, WhenFull};

use super::{batch, group, new_disk, open};

const WRITERS: u64 = 8;
const BATCHES: u64 = 100;

/// Publishes from many threads while one consumes. Gives what came of each origin, and how many bytes are missing.
fn run(full: WhenFull) -> (Vec<Vec<u64>>, u64) {
    let queue = Arc::new(open(&new_disk(), full).unwrap());
    queue.subscribe(&group(0)).unwrap();
    let is_over = Arc::new(AtomicBool::new(false));
    let write = |of| {
        let queue = Arc::clone(&queue);
        move || {
            for number in 0..BATCHES {
                while let Err(error) = queue.publish(&[batch(of, number, 20)]) {
                    assert_eq!(error.kind(), ErrorKind::Throttled);
                    std::thread::yield_now();
                }
            }
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|of| std::thread::spawn(write(of))).collect();
    let reader = std::thread::spawn({
        let (queue, is_over) = (Arc::clone(&queue), Arc::clone(&is_over));
        move || {
            let (mut seen, mut missing) = (vec![Vec::new(); WRITERS as usize], 0);
            let (mut mark, mut open) = (queue.committed(&group(0)).unwrap(), None);
            loop {
                let ends = is_over.load(Ordering::Acquire);
                let items = queue.after(mark, &mut open).unwrap();
                let Some((_, last)) = items.last() else {
                    if ends {
                        return (seen, missing);
                    }
                    std::thread::yield_now();
                    continue;
                };
                mark = *last;
                for (item, _) in items {
                    match item {
                        LogItem::Batch(batch) => {
                            let of: u64 = batch.origin.tenant.as_str()[2..].parse().unwrap();
                            seen[of as usize].push(batch.times[0].0);
                        }
                        LogItem::Gap { bytes, .. } => missing += bytes,
                        other => panic!("{other:?}"),
                    }
                }
                queue.commit(&group(0), mark).unwrap();
            }
        }
    });
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    is_over.store(true, Ordering::Release);
    reader.join().unwrap()
}

#[test]
fn all_of_many_writers_comes_in_order() {
    let (seen, missing) = run(WhenFull::Refuse);
    assert_eq!(missing, 0);
    assert!(seen.iter().all(|numbers| numbers.iter().copied().eq(0..BATCHES)), "{seen:?}");
}

#[test]
fn what_many_writers_make_room_for_is_counted() {
    let (seen, missing) = run(WhenFull::DropOldest);
    assert!(seen.iter().all(|numbers| numbers.is_sorted_by(|a, b| a < b)), "{seen:?}");
    let bytes = |number: u64| batch(0, number, 20).buffer.len() as u64;
    let all: u64 = WRITERS * (0..BATCHES).map(bytes).sum::<u64>();
    assert_eq!(seen.iter().flatten().copied().map(bytes).sum::<u64>() + missing, all);
}
