use paas_core::model::{
    AppId, EnvironmentId, InstanceId, LogStream, Resource, RevisionNumber, ServiceId, TenantId,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::cursor::Cursor;
use super::*;

const SECOND: u64 = 1_000_000_000;

fn origin() -> LogOrigin {
    let service = Resource::Service(
        TenantId::new("t-1").unwrap(),
        EnvironmentId::new("e-1").unwrap(),
        AppId::new("a-1").unwrap(),
        ServiceId::new("s-1").unwrap(),
    );
    let instance = InstanceId::new("i-1").unwrap();
    LogOrigin::new(&service, RevisionNumber(1), instance, LogStream::Combined).unwrap()
}

fn stamp(nanos: u64) -> String {
    format!("{:.9}", jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap())
}

/// As the kubelet sends it.
fn sent(lines: &[(u64, Vec<u8>)]) -> Vec<u8> {
    let line = |(nanos, text): &(u64, Vec<u8>)| [stamp(*nanos).as_bytes(), b" ", text, b"\n"].concat();
    lines.iter().flat_map(line).collect()
}

/// Feeds chunks to somebody who has nothing yet, and gives the batches.
fn read(chunks: &[&[u8]], is_over: bool) -> Vec<LogBatch> {
    let (mut lines, mut cursor, mut batches) = (Lines::default(), Cursor::after(None), Vec::new());
    cursor.begin(true, 0);
    for chunk in chunks {
        let mut used = 0;
        while used < chunk.len() {
            let (taken, stop) = lines.feed(&chunk[used..], |stamp| cursor.admit(stamp, stamp));
            used += taken;
            if stop.is_some() || taken == 0 {
                batches.extend(lines.take(&origin()));
            }
        }
    }
    batches.extend(lines.take(&origin()));
    if is_over {
        batches.extend(lines.torn(&origin()));
    }
    batches
}

fn texts(batches: &[LogBatch]) -> Vec<(u64, Vec<u8>)> {
    let lines = batches.iter().flat_map(LogBatch::lines);
    lines.map(|line| (line.position.sequence, line.bytes.to_vec())).collect()
}

proptest! {
    /// Any bytes, cut anywhere, also within a stamp, with equal stamps, empty lines and carriage returns.
    #[test]
    fn lines_are_what_was_written_wherever_chunks_are_cut(
        texts_in in vec((0..3_u64, vec(prop_oneof![Just(b'\r'), Just(b' '), any::<u8>()], 0..60)), 1..20),
        cuts in vec(0..2_000_usize, 0..12),
    ) {
        let mut nanos = SECOND * 1_700_000_000;
        let written: Vec<(u64, Vec<u8>)> = texts_in
            .into_iter()
            .map(|(later, text)| {
                nanos += later;
                (nanos, text.into_iter().filter(|byte| *byte != b'\n').collect())
            })
            .collect();
        let bytes = sent(&written);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(bytes.len());
        let mut chunks = Vec::new();
        let mut from = 0;
        for cut in cuts {
            chunks.push(&bytes[from..cut]);
            from = cut;
        }
        let batches = read(&chunks, false);
        prop_assert_eq!(texts(&batches), written);
        let mut ends = batches.iter().map(|batch| (batch.position, batch.end()));
        prop_assert!(ends.all(|(begin, end)| begin < end));
    }
}

#[test]
fn stamps_are_told_apart_whatever_time_zone_the_node_is_in() {
    let all = parse(b"2026-11-25T19:47:39.000000001Z");
    assert_eq!(parse(b"2026-11-25T20:47:39.000000001+01:00"), all);
    assert_eq!(parse(b"2026-11-25T19:47:39Z"), all.map(|all| all - 1));
    for wrong in [&b"unable"[..], b"", b"2026-11-25", b"1960-01-01T00:00:00Z", b"\xff"] {
        assert_eq!(parse(wrong), None);
    }
}

#[test]
fn what_has_no_newline_is_a_line_of_its_own_once_the_output_is_over() {
    let mut bytes = sent(&[(SECOND, b"one".to_vec()), (SECOND, b"two".to_vec())]);
    bytes.pop();
    assert_eq!(texts(&read(&[&bytes], false)), [(SECOND, b"one".to_vec())]);
    assert_eq!(texts(&read(&[&bytes], true)), [(SECOND, b"one".to_vec()), (SECOND, b"two".to_vec())]);
    // Of a line that is too long, only the last piece is open.
    let long = sent(&[(SECOND, vec![b'x'; LINE + 5])]);
    let pieces = texts(&read(&[&long[..long.len() - 1]], true));
    assert_eq!(pieces.iter().map(|(_, piece)| piece.len()).collect::<Vec<_>>(), [LINE, 5]);
    // A stamp alone says that something was to come.
    let cut = stamp(SECOND);
    assert_eq!(texts(&read(&[cut.as_bytes()], true)), []);
}

#[test]
fn what_has_no_stamp_is_no_line_and_is_remembered() {
    let mut lines = Lines::default();
    let mut cursor = Cursor::after(None);
    cursor.begin(true, 0);
    let mut feed = |lines: &mut Lines, text: &[u8]| {
        let (used, stop) = lines.feed(text, |stamp| cursor.admit(stamp, stamp));
        assert_eq!((used, stop), (text.len(), None));
    };
    // The rest of a long line whose beginning is older than what was asked for.
    feed(&mut lines, b"rest of a line\n");
    feed(&mut lines, &sent(&[(SECOND, b"one".to_vec())]));
    assert_eq!(lines.remark(), None);
    feed(&mut lines, b"unable to retrieve container logs for containerd://1");
    assert_eq!(lines.remark().as_deref(), Some("unable to retrieve container logs for containerd://1"));
    let long = vec![b'x'; 10_000];
    feed(&mut lines, &long);
    assert!(lines.remark().unwrap().len() <= REMARK);
    assert_eq!(texts(&[lines.take(&origin()).unwrap()]), [(SECOND, b"one".to_vec())]);
}

#[test]
fn a_line_is_cut_only_where_it_is_too_long_and_always_at_the_same_places() {
    for (length, pieces) in [
        (LINE - 1, vec![LINE - 1]),
        (LINE, vec![LINE]),
        (LINE + 1, vec![LINE, 1]),
        (2 * LINE + 5, vec![LINE, LINE, 5]),
    ] {
        let bytes = sent(&[(SECOND, vec![b'x'; length]), (SECOND, b"next".to_vec())]);
        for chunk in [bytes.len(), LINE, 65_536, 999] {
            let chunks: Vec<&[u8]> = bytes.chunks(chunk).collect();
            let batches = read(&chunks, false);
            let lines: Vec<_> = batches.iter().flat_map(LogBatch::lines).collect();
            let lengths: Vec<usize> = lines.iter().map(|line| line.bytes.len()).collect();
            assert_eq!(lengths, [pieces.clone(), vec![4]].concat(), "{length} in chunks of {chunk}");
            let indices: Vec<u32> = lines.iter().map(|line| line.position.index).collect();
            assert_eq!(indices, (0..).take(pieces.len() + 1).collect::<Vec<_>>());
        }
    }
}
