//! Lines on their way to the store through a queue.

use paas_core::memory::MemoryLogQueue;
use paas_core::model::{LogGroup, WhenFull};
use paas_core::port::LogQueue;

use super::*;

fn queued(json: &str, bytes: usize) -> (Bed, MemoryLogQueue) {
    let mut bed = bed(json);
    let queue = MemoryLogQueue::with_capacity(bytes, WhenFull::Refuse);
    bed.ports = bed.ports.clone().with_queue(Arc::new(queue.clone()));
    (bed, queue)
}

#[tokio::test(start_paused = true)]
async fn lines_come_to_the_store_once_whenever_it_all_ends() {
    let (bed, _queue) = queued(r#"{"drop":["dropped"]}"#, 1024 * 1024);
    for round in 0..20 {
        let collecting = bed.collect();
        bed.push(round * 10..round * 10 + 10);
        bed.source.push(&origin(), "dropped");
        for _ in 0..round * 2 {
            tokio::task::yield_now().await;
        }
        drop(collecting);
    }
    let _collecting = bed.collect();
    assert_eq!(bed.wait_for(200).await, numbered(0..200));
}

#[tokio::test(start_paused = true)]
async fn others_get_the_lines_as_the_rules_leave_them() {
    let (bed, queue) = queued(r#"{"redact":["email"]}"#, 1024 * 1024);
    let group = LogGroup::new("audit").unwrap();
    let mut consumer = queue.subscribe(&bed.ports.scope, &group).await.unwrap();
    let _collecting = bed.collect();
    bed.source.push(&origin(), "mail of a@b.io, key hunter2!");
    let item = timeout(Duration::from_secs(60), consumer.next()).await.unwrap().unwrap();
    let LogItem::Batch(batch) = item else { panic!("{item:?}") };
    assert_eq!(batch.line(0), b"mail of [redacted:email], key [redacted:secret]");
    assert_eq!(bed.wait_for(1).await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_makes_lines_wait() {
    let (bed, _queue) = queued("{}", 64 * 1024);
    bed.store.failures.store(20, Ordering::Relaxed);
    let _collecting = bed.collect();
    for round in 0..100 {
        bed.push(round * 100..round * 100 + 50);
        tokio::time::sleep(Duration::from_millis(100)).await;
        bed.push(round * 100 + 50..round * 100 + 100);
    }
    let mut query = LogQuery::of(Resource::Tenant(origin().tenant));
    (query.order, query.limit) = (LogOrder::Oldest, 5_000);
    bed.wait_for(5_000).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let mut all = Vec::new();
    loop {
        let page = bed.store.inner.search(&bed.ports.scope, &query).await.unwrap();
        all.extend(page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()));
        let Some(next) = page.next else { break };
        query.after = Some(next);
    }
    assert_eq!(all, numbered(0..10_000));
}
