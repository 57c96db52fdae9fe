use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Some moment.
const THEN: u64 = 1_700_000_000 * SECOND;

fn at(sequence: u64, index: u32) -> LogPosition {
    LogPosition { incarnation: 0, sequence, index }
}

/// What a node keeps of one instance's output: stamps that tell lines apart with their numbers.
struct Node {
    previous: Vec<u64>,
    newest: Vec<u64>,
}

/// What somebody was given.
#[derive(Default)]
struct Given {
    positions: Vec<LogPosition>,
    /// The stamps of the lines.
    lines: Vec<u64>,
    gaps: usize,
}

impl Node {
    fn new(previous: &[u64], newest: &[u64]) -> Self {
        Self { previous: previous.to_vec(), newest: newest.to_vec() }
    }

    /// Asks for both outputs, and reads at most so many lines of them; tells whether that was all.
    fn read(&self, cursor: &mut Cursor, most: usize, given: &mut Given) -> bool {
        let since = cursor.since(THEN + 10_000 * SECOND).unwrap_or(0) * SECOND;
        cursor.open(u32::from(!self.previous.is_empty()));
        let mut left = most;
        for (lines, is_newest) in [(&self.previous, false), (&self.newest, true)] {
            cursor.begin(is_newest, THEN);
            // The kubelet leaves out what has an earlier stamp, wherever it stands.
            for stamp in lines.iter().filter(|stamp| **stamp >= since) {
                loop {
                    match cursor.admit(*stamp, *stamp) {
                        Verdict::Take(position) => {
                            given.positions.push(position);
                            given.lines.push(*stamp);
                            break;
                        }
                        Verdict::Skip => break,
                        Verdict::Part => {}
                        Verdict::Gap(_) => given.gaps += 1,
                        Verdict::Again => return false,
                    }
                }
                left -= 1;
                if left == 0 {
                    return false;
                }
            }
        }
        if cursor.is_looking() {
            cursor.give_up();
            return false;
        }
        true
    }

    /// Reads until all is read.
    fn read_all(&self, cursor: &mut Cursor) -> Given {
        let mut given = Given::default();
        for _ in 0..1_000 {
            if self.read(cursor, usize::MAX, &mut given) {
                return given;
            }
        }
        panic!("it never ends after {:?}", given.positions);
    }
}

/// What is left of an output, after a position.
fn after(node: &Node, position: LogPosition) -> (Vec<u64>, usize) {
    let given = node.read_all(&mut Cursor::after(Some(position)));
    (given.lines, given.gaps)
}

fn stamps(offsets: &[u64]) -> Vec<u64> {
    offsets.iter().map(|offset| THEN + offset * SECOND).collect()
}

#[test]
fn reading_goes_on_after_the_last_line() {
    let all = stamps(&[1, 2, 2, 2, 3]);
    let node = Node::new(&[], &all);
    assert_eq!(after(&node, at(all[1], 2)), (all[3..].to_vec(), 0));
    assert_eq!(after(&node, at(all[1], 3)), (all[4..].to_vec(), 0));
    // The beginning of a line is the end of what comes before it.
    assert_eq!(after(&node, at(all[1], 0)), (all[1..].to_vec(), 0));
    assert_eq!(after(&node, at(all[4], 1)), (Vec::new(), 0));
}

#[test]
fn a_line_that_is_not_there_any_more_is_a_gap() {
    let left = stamps(&[5, 6]);
    let node = Node::new(&[], &left);
    assert_eq!(after(&node, at(THEN + 4 * SECOND, 1)), (left.clone(), 1));
    // Some of the lines with that stamp are gone.
    assert_eq!(after(&node, at(left[0], 2)), (left[1..].to_vec(), 1));
    // Nothing is lost as long as nothing newer has come.
    assert_eq!(after(&Node::new(&[], &[]), at(THEN, 1)), (Vec::new(), 0));
}

/// It was found in an earlier reading, and everything after it was written and thrown away since.
#[test]
fn a_line_that_is_gone_since_it_was_found_is_a_gap() {
    let all = stamps(&[1, 2]);
    let (node, mut cursor) = (Node::new(&[], &all), Cursor::after(None));
    assert_eq!(node.read_all(&mut cursor).positions.len(), 2);
    assert_eq!(node.read_all(&mut cursor).positions.len(), 0);
    let given = Node::new(&[], &stamps(&[5])).read_all(&mut cursor);
    assert_eq!((given.positions.len(), given.gaps), (1, 1));
}

/// Two outputs are stamped apart, and then written to one file.
#[test]
fn lines_that_are_a_little_late_are_read_at_once() {
    let all: Vec<u64> = [10, 30, 20, 20, 40, 35, 35, 36, 50].map(|micros| THEN + micros * 1_000).to_vec();
    let node = Node::new(&[], &all);
    let (mut cursor, mut given) = (Cursor::after(None), Given::default());
    assert!(node.read(&mut cursor, usize::MAX, &mut given), "it has to be read again");
    assert_eq!(given.lines, all);
    assert!(given.positions.is_sorted_by(|one, next| one < next));
    // A position is the same for whoever comes later.
    for (line, position) in given.positions.iter().enumerate() {
        let left = node.read_all(&mut Cursor::after(Some(*position)));
        assert_eq!((&left.lines[..], left.gaps), (&all[line..], 0), "{line}");
        assert_eq!(left.positions, given.positions[line..]);
    }
}

#[test]
fn the_last_lines_of_a_container_come_before_those_of_the_next() {
    let (old, new) = (stamps(&[1, 2, 3]), stamps(&[4, 5]));
    let node = Node::new(&old, &new);
    assert_eq!(node.read_all(&mut Cursor::after(None)).positions.len(), 5);
    assert_eq!(after(&node, at(old[1], 1)), (vec![old[2], new[0], new[1]], 0));
    assert_eq!(after(&node, at(old[2], 1)), (new.clone(), 0));
    assert_eq!(after(&node, at(new[0], 1)), (vec![new[1]], 0));
    // While it waits for its next start, both are the same.
    let waits = Node::new(&old, &old);
    assert_eq!(waits.read_all(&mut Cursor::after(None)).positions.len(), 3);
    assert_eq!(after(&waits, at(old[1], 1)), (vec![old[2]], 0));
}

#[test]
fn what_comes_after_a_complete_output_misses_nothing() {
    let (old, new) = (stamps(&[1, 2]), stamps(&[4]));
    for (restarts, gaps) in [(1, 0), (2, 1)] {
        let mut cursor = Cursor::after(None);
        Node::new(&[], &old).read_all(&mut cursor);
        cursor.complete(0);
        cursor.open(restarts);
        // The node has forgotten the old one.
        cursor.begin(true, THEN);
        let first = cursor.admit(new[0], new[0]);
        assert_eq!(matches!(first, Verdict::Gap(_)), gaps == 1, "{first:?}");
    }
}

#[test]
fn a_clock_that_is_set_back_begins_a_new_incarnation_and_loses_nothing() {
    // By less than what is asked for again, and by more.
    for back in [30, 3_000] {
        let all = stamps(&[4_000, 4_001, 4_001 - back, 4_002 - back]);
        let node = Node::new(&[], &all);
        let given = node.read_all(&mut Cursor::after(None));
        let read: Vec<(u64, u64)> =
            given.positions.iter().map(|position| (position.incarnation, position.sequence)).collect();
        assert_eq!(read, [(0, all[0]), (0, all[1]), (1, all[2]), (1, all[3])]);
        assert!(given.positions.is_sorted());
        let end = LogPosition { index: 1, ..given.positions[2] };
        assert_eq!(after(&node, end), (vec![all[3]], 0), "{back}");
    }
    // What was written before a step and is looked for after it.
    let gone = Node::new(&[], &stamps(&[90, 91]));
    assert_eq!(after(&gone, at(THEN + 100 * SECOND, 1)), (stamps(&[90, 91]), 1));
}

#[test]
fn a_file_that_is_read_twice_is_given_once() {
    // Over minutes, or all within a moment; however many lines it has.
    for (step, lines) in [(SECOND, 3), (1_000, 3), (1_000, 2_000)] {
        let more: Vec<u64> = (0..=lines).map(|line| THEN + line * step).collect();
        let all = &more[..more.len() - 1];
        let mut cursor = Cursor::after(None);
        cursor.begin(true, THEN);
        for stamp in all {
            assert!(matches!(cursor.admit(*stamp, *stamp), Verdict::Take(_)));
        }
        assert_eq!(cursor.admit(all[0], all[2]), Verdict::Again);
        let given = Node::new(&[], &more).read_all(&mut cursor);
        assert_eq!((given.positions, given.gaps), (vec![at(more[all.len()], 0)], 0));
    }
}

#[test]
fn a_pause_in_what_comes_late_is_looked_into() {
    const MS: u64 = 1_000_000;
    // A line of so long after the reading began comes so late, and the next one is of so much later.
    let late = |delay: u64, open: u64, pause: u64| {
        let mut cursor = Cursor::after(None);
        cursor.begin(true, THEN);
        cursor.admit(THEN + open * MS, THEN + (open + delay) * MS);
        cursor.admit(THEN + (open + pause) * MS, THEN + (open + pause + delay) * MS)
    };
    assert_eq!(late(5_000, 0, 4_000), Verdict::Again);
    // Two files in a row may be replaced by new ones soon after each other.
    assert_eq!(late(9_000, 10_000, 1_900), Verdict::Again);
    // Neither what comes in time, nor what was there at first, nor what comes without a pause, nor a longer one than the
    // reading has lasted.
    assert!(matches!(late(0, 5_000, 100_000), Verdict::Take(_)));
    assert!(matches!(late(900, 5_000, 5_000), Verdict::Take(_)));
    assert!(matches!(late(5_000, 0, 200), Verdict::Take(_)));
    assert!(matches!(late(5_000, 0, 6_000), Verdict::Take(_)));
    let mut cursor = Cursor::after(None);
    cursor.begin(true, THEN);
    cursor.admit(THEN - 900 * SECOND, THEN);
    assert!(matches!(cursor.admit(THEN + 10 * SECOND, THEN + 10 * SECOND), Verdict::Take(_)));
}

#[test]
fn a_position_from_the_future_is_looked_for_in_all_that_is_there() {
    let mut cursor = Cursor::after(Some(at(THEN + 100 * SECOND, 1)));
    assert_eq!(cursor.since(THEN), None);
    let mut cursor = Cursor::after(Some(at(THEN, 1)));
    assert_eq!(cursor.since(THEN + SECOND), Some(THEN / SECOND - 60));
}

proptest! {
    /// Whoever is cut off again and again, or is followed by somebody who has its position, is given every line once.
    #[test]
    fn every_line_is_given_once_however_often_reading_is_cut_off(
        runs in vec((1..5_u64, 1..4_usize, proptest::bool::weighted(0.1), 0..3_u64), 1..40),
        cuts in vec(1..30_usize, 1..60),
        restart in any::<prop::sample::Index>(),
        successor in any::<bool>(),
    ) {
        let (mut now, mut lines) = (THEN, Vec::new());
        for (run, (later, times, back, late)) in runs.iter().enumerate() {
            // A stamp of a run is no other run's.
            now = (if *back { now - 20 * SECOND } else { now + later * SECOND }) / 1_000 * 1_000 + run as u64;
            lines.extend(vec![now; *times]);
            // Lines of the other output come a little late.
            lines.extend((0..*late).map(|line| now - (line + 1) * 7_000));
            lines.extend((0..*late).map(|_| now));
        }
        // It is restarted, unless the clock is set back meanwhile: that is another case.
        let (previous, newest) = lines.split_at(restart.index(lines.len()));
        let is_in_order = previous.iter().max() < newest.iter().min();
        let node = if is_in_order { Node::new(previous, newest) } else { Node::new(&[], &lines) };
        let (mut cursor, mut given) = (Cursor::after(None), Given::default());
        let mut cuts = cuts.into_iter();
        let mut readings = 0;
        while !node.read(&mut cursor, cuts.next().unwrap_or(usize::MAX), &mut given) {
            readings += 1;
            prop_assert!(readings < 1_000, "it never ends after {:?}", given.positions);
            // Where it has just found out that all is new, a successor would have to find that out first.
            if successor && !cursor.all_new {
                cursor = Cursor::after(cursor.position());
            }
        }
        prop_assert_eq!(given.lines, lines);
        prop_assert_eq!(given.gaps, 0);
        prop_assert!(given.positions.is_sorted_by(|one, next| one < next));
    }
}
