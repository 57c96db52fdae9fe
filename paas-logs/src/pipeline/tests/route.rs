//! Lines that are stored elsewhere.

use paas_core::port::LogSink;

use super::*;

fn routed() -> (Bed, MemoryLogStore) {
    let mut bed = bed(r#"{"route":[{"match":"audit","to":"archive"},{"match":"lost","to":"nowhere"}]}"#);
    let archive = MemoryLogStore::new();
    bed.ports = bed.ports.clone().with_sink("archive", LogSink::Store(Arc::new(archive.clone())));
    (bed, archive)
}

async fn lines_in(bed: &Bed, store: &MemoryLogStore) -> Vec<String> {
    let mut query = LogQuery::of(Resource::Tenant(origin().tenant));
    (query.order, query.limit) = (LogOrder::Oldest, 5_000);
    let page = store.search(&bed.ports.scope, &query).await.unwrap();
    page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.line).into_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn each_line_is_in_one_place_whenever_it_all_ends() {
    let (bed, archive) = routed();
    for round in 0..30 {
        let collecting = bed.collect();
        for number in round * 10..round * 10 + 10 {
            bed.source.push(&origin(), format!("line {number}"));
            bed.source.push(&origin(), format!("audit {number}"));
        }
        for _ in 0..round * 2 {
            tokio::task::yield_now().await;
        }
        drop(collecting);
    }
    let _collecting = bed.collect();
    assert_eq!(bed.wait_for(300).await, numbered(0..300));
    let audit: Vec<String> = (0..300).map(|number| format!("audit {number}")).collect();
    assert_eq!(lines_in(&bed, &archive).await, audit);
}

#[tokio::test(start_paused = true)]
async fn lines_for_a_place_that_is_not_there_any_more_go_where_all_go() {
    let (bed, archive) = routed();
    let _collecting = bed.collect();
    let mut tail = bed.tail(LogTail::follow(service())).await;
    for line in ["lost 1", "audit 1", "lost 2"] {
        bed.source.push(&origin(), line);
    }
    assert_eq!(bed.wait_for(2).await, ["lost 1", "lost 2"]);
    assert_eq!(lines_in(&bed, &archive).await, ["audit 1"]);
    // Whoever watches sees all of them.
    assert_eq!(lines(&mut tail, 3).await, ["lost 1", "audit 1", "lost 2"]);
}
