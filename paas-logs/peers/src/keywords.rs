//! Words that alerts look for: blocks of lines, beside Hyperscan.
//!
//! Ours finds whole words in any case, and tells the lines that have one. Hyperscan is asked for less: it finds words within
//! others, too, and does not know lines.

use paas_core::model::{LogBatch, LogFilter};
use paas_logs::measure::Scanner;

use crate::clock::processor;
use crate::corpus::{Dice, FREQUENT};
use crate::line::{Goal, alone};

/// How often the two take turns.
const ROUNDS: usize = 9;

/// What people look for; one line of a hundred has the first, none has another.
const WORDS: [&str; 16] = [
    FREQUENT,
    "OutOfMemoryError",
    "panicked",
    "segfault",
    "StackOverflowError",
    "deadlock",
    "unauthorized",
    "certificate",
    "NullPointerException",
    "corrupted",
    "refused",
    "unreachable",
    "throttled",
    "overflow",
    "quota",
    "fatal",
];

/// So many words: those above, then any letters.
fn words(count: usize) -> Vec<String> {
    let mut words: Vec<String> = WORDS.iter().map(ToString::to_string).collect();
    let mut dice = Dice(7);
    while words.len() < count {
        let length = 5 + dice.next() % 8;
        words.push((0..length).map(|_| char::from(b'a' + (dice.next() % 26) as u8)).collect());
    }
    words
}

/// Gigabytes for each second of a processor, and how much is found.
fn speed(batches: &[LogBatch], scan: impl FnMut(&LogBatch) -> usize) -> (f64, usize) {
    let bytes: usize = batches.iter().map(|batch| batch.buffer.len()).sum();
    let (used, found) = processor(|| batches.iter().map(scan).sum());
    (bytes as f64 / used / 1e9, found)
}

pub(crate) fn measure(batches: &[LogBatch]) {
    for (count, least, ratio) in [(16, Goal::AtLeast(4.0), 1.5), (1_000, Goal::None, 0.5)] {
        let words = words(count);
        let filters: Vec<LogFilter> = words.iter().map(|word| word.parse().unwrap()).collect();
        let scanner = Scanner::new(&filters).unwrap();
        let ours = || speed(batches, |batch| scanner.count(batch));
        let name = format!("keywords: {count} words, GB/CPU-s");
        alone(&name, (0..ROUNDS).map(|_| ours().0), least);
        for is_caseless in [true, false] {
            let name =
                if is_caseless { "  beside Hyperscan, any case" } else { "  beside Hyperscan, one case" };
            beside(name, ratio, batches, &words, is_caseless, &ours);
        }
    }
}

#[cfg(hyperscan)]
fn beside(
    name: &str,
    ratio: f64,
    batches: &[LogBatch],
    words: &[String],
    is_caseless: bool,
    ours: &impl Fn() -> (f64, usize),
) {
    let mut peer = crate::peer::hyperscan::Hyperscan::new(words, is_caseless);
    let mut round = |_| {
        let (ours, peer) = (ours(), speed(batches, |batch| peer.count(&batch.buffer)));
        assert_eq!(ours.1, peer.1, "both find the same");
        (ours.0, peer.0)
    };
    let rounds: Vec<(f64, f64)> = (0..ROUNDS).map(&mut round).collect();
    crate::line::beside(name, &rounds, Goal::RatioAtLeast(ratio));
}

#[cfg(not(hyperscan))]
fn beside(name: &str, ratio: f64, _: &[LogBatch], _: &[String], _: bool, _: &impl Fn() -> (f64, usize)) {
    let reason = "needs the package libhyperscan-dev";
    crate::line::ignored(name, Goal::RatioAtLeast(ratio), reason);
}
