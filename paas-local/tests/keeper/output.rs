//! The spool.

use std::time::Duration;

use futures_util::StreamExt;
use paas_local::keeper::{Ended, Exit, Keeper, KeeperOptions, RecordKind, Restart, SpoolItem};

use super::{Bench, Seen, cases, json};

cases![
    both_streams_arrive_between_start_and_exit,
    binary_output_is_intact,
    a_flood_is_bounded_and_its_gaps_are_counted,
    a_keen_reader_of_a_flood_misses_nothing,
    the_tail_survives_the_spool,
    reading_resumes_where_it_was_committed,
    positions_tell_what_is_missing,
];

async fn both_streams_arrive_between_start_and_exit() {
    let bench = Bench::new().await;
    let task = bench.shell("task", "echo out; echo err >&2; exit 3").restart(Restart::Never);
    bench.keeper.spawn(&task).await.unwrap();
    let mut spool = bench.keeper.spool(None);
    let mut kinds = Vec::new();
    while let Some(Ok(SpoolItem::Record(record))) = spool.next().await {
        kinds.push(record.kind);
        if record.kind == RecordKind::Exit {
            assert_eq!(json::<Ended>(&record).exit, Exit::Code(3));
            break;
        }
    }
    assert_eq!((kinds[0], kinds[kinds.len() - 1], kinds.len()), (RecordKind::Start, RecordKind::Exit, 4));
    bench.end().await;
}

async fn binary_output_is_intact() {
    let bench = Bench::new().await;
    let bytes: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(bench.path("bytes"), &bytes).unwrap();
    bench
        .keeper
        .spawn(&bench.shell("binary", "cat bytes; cat bytes >&2").restart(Restart::Never))
        .await
        .unwrap();
    let mut spool = bench.keeper.spool(None);
    let mut seen = Seen::default();
    seen.until(&mut spool, |seen| seen.records.len() == 2).await;
    assert!(seen.out("binary") == bytes && seen.err("binary") == bytes);
    assert_eq!(seen.gaps, 0);
    bench.end().await;
}

fn small() -> KeeperOptions {
    KeeperOptions::default().spool_bytes(4 * 1024 * 1024).segment_bytes(1024 * 1024)
}

async fn a_flood_is_bounded_and_its_gaps_are_counted() {
    let bench = Bench::with(small()).await;
    // A reader that holds the descriptors but does not read must not hold the memory.
    let mut spool = bench.keeper.spool(None);
    let script = "echo first; while [ ! -e go ]; do sleep 0.01; done; head -c 300000000 /dev/zero; echo last; exec sleep 1000";
    let flood = bench.shell("flood", script);
    bench.keeper.spawn(&flood).await.unwrap();
    let mut seen = Seen::default();
    seen.until(&mut spool, |seen| !seen.out("flood").is_empty()).await;
    let mut late = bench.keeper.spool(None);
    // Both are there before it begins: what they miss is what they are told.
    std::fs::write(bench.path("go"), "").unwrap();
    let done = async {
        let mut tail = Vec::new();
        while !tail.ends_with(b"last\n") {
            // Paced by the calls themselves.
            tail = bench.keeper.tail("flood").await.unwrap();
        }
    };
    tokio::time::timeout(super::DEADLINE, done).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", bench.keeper.pid())).unwrap();
    let held = shared_memory(bench.keeper.pid());
    assert!(held <= 6 * 1024 * 1024, "{held}: {status}");
    for spool in [&mut spool, &mut late] {
        let mut seen = Seen::default();
        seen.until(spool, |seen| seen.out("flood").ends_with(b"last\n")).await;
        let total = seen.gap_bytes + seen.out("flood").len() as u64;
        assert!(seen.gaps >= 1 && total >= 300_000_000, "{} gaps, {total}", seen.gaps);
    }
    bench.end().await;
}

/// The memory of the segments that a keeper holds.
fn shared_memory(pid: u32) -> u64 {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let target = std::fs::read_link(&path).ok()?;
            target
                .to_str()?
                .contains("paas-spool")
                .then(|| std::fs::metadata(&path).ok().map(|meta| meta.len()))?
        })
        .sum()
}

async fn a_keen_reader_of_a_flood_misses_nothing() {
    let bench = Bench::new().await;
    let mut spool = bench.keeper.spool(None);
    let flood = bench.shell("flood", "seq 1 4000000").restart(Restart::Never);
    bench.keeper.spawn(&flood).await.unwrap();
    let mut seen = Seen::default();
    loop {
        let item = tokio::time::timeout(super::DEADLINE, spool.next()).await.unwrap().unwrap().unwrap();
        if let SpoolItem::Record(record) = &item
            && record.offset.offset % 1_000_000 < 65_536
        {
            bench.keeper.commit(record.next).await.unwrap();
        }
        seen.take(item);
        if seen.records.len() == 2 {
            break;
        }
    }
    let wanted: usize = (1..=4_000_000_u64).map(|number| number.to_string().len() + 1).sum();
    // The reader may fall behind on a busy machine; then it says so.
    assert!(seen.gaps > 0 || seen.out("flood").len() == wanted, "{}", seen.out("flood").len());
    assert_eq!(seen.gaps, 0);
    bench.end().await;
}

async fn the_tail_survives_the_spool() {
    let mut bench = Bench::with(small()).await;
    let crashed =
        bench.shell("crashed", "seq 1 30; echo 'fatal: no database' >&2; exit 1").restart(Restart::Never);
    bench.keeper.spawn(&crashed).await.unwrap();
    bench.state("crashed", |state| matches!(state.phase, paas_local::keeper::Phase::Exited { .. })).await;
    let flood = bench.shell("flood", "head -c 20000000 /dev/zero").restart(Restart::Never);
    bench.keeper.spawn(&flood).await.unwrap();
    bench.state("flood", |state| matches!(state.phase, paas_local::keeper::Phase::Exited { .. })).await;
    let tail = bench.keeper.tail("crashed").await.unwrap();
    let text = String::from_utf8(tail).unwrap();
    assert!(text.contains("30\n") && text.contains("fatal: no database\n"), "{text}");
    assert_eq!(bench.keeper.tail("flood").await.unwrap().len(), 8192);
    bench.end().await;
}

async fn reading_resumes_where_it_was_committed() {
    let bench = Bench::new().await;
    let spec = bench.shell("web", "seq 1 1000; while read line; do :; done; exec sleep 1000");
    bench.keeper.spawn(&spec).await.unwrap();
    let mut spool = bench.keeper.spool(None);
    let mut seen = Seen::default();
    seen.until(&mut spool, |seen| seen.out("web").ends_with(b"1000\n")).await;
    drop(spool);
    let mut spool = bench.keeper.spool(None);
    let Some(Ok(SpoolItem::Record(first))) = spool.next().await else { panic!("no record") };
    assert_eq!(first.kind, RecordKind::Start);
    bench.keeper.commit(first.next).await.unwrap();
    // Another platform.
    let other = Keeper::open(bench.dir.path(), KeeperOptions::default()).await.unwrap();
    for from in [None, Some(first.next)] {
        let mut spool = other.spool(from);
        let Some(Ok(SpoolItem::Record(record))) = spool.next().await else { panic!("no record") };
        assert_eq!((record.offset, record.kind), (first.next, RecordKind::Out));
        assert!(record.payload.starts_with(b"1\n2\n"));
    }
    bench.end().await;
}

async fn positions_tell_what_is_missing() {
    let bench = Bench::with(small()).await;
    bench
        .keeper
        .spawn(&bench.shell("flood", "head -c 20000000 /dev/zero").restart(Restart::Never))
        .await
        .unwrap();
    let mut spool = bench.keeper.spool(None);
    let (mut expected, mut missing, mut got) = (0, 0, 0);
    loop {
        let item =
            tokio::time::timeout(Duration::from_secs(20), spool.next()).await.unwrap().unwrap().unwrap();
        let SpoolItem::Record(record) = item else { continue };
        match record.kind {
            RecordKind::Out => {
                let position = record.position & ((1 << 48) - 1);
                missing += position - expected;
                got += record.payload.len() as u64;
                expected = position + record.payload.len() as u64;
            }
            RecordKind::Exit => break,
            _ => {}
        }
    }
    assert_eq!(got + missing, 20_000_000);
    bench.end().await;
}
