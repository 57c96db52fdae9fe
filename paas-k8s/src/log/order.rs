//! The order of stamps.
//!
//! The two outputs of a container are stamped apart, and then written to one file: a line may stand after one with a later
//! stamp. It counts with that one's, so that lines of one clock are in order. What it counts with follows from the output
//! alone: what a reading leaves out, as it is older than what was asked for, changes it for no later line.

use std::collections::VecDeque;

/// So much earlier than the one before a stamp may be. More is a clock that was set back.
const LATE: u64 = 100_000_000;
/// So many stamps are remembered.
const REMEMBERED: usize = 256;

/// The stamps of one reading.
#[derive(Debug, Default)]
pub(super) struct Order {
    latest: u64,
    /// Those that came last.
    recent: VecDeque<u64>,
    /// The latest that is not among them any more.
    forgotten: u64,
}

/// What a line counts with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Its stamp, or the one before that it came too late for.
    pub(super) stamp: u64,
    /// Whether it came late, and may be one of the lines before: the kubelet at times reads a file again.
    pub(super) is_doubtful: bool,
}

impl Order {
    /// What the line with this stamp counts with, which comes next.
    pub(super) fn place(&mut self, stamp: u64) -> Place {
        if self.latest.saturating_sub(stamp) > LATE {
            *self = Self::default();
        }
        let is_late = stamp < self.latest;
        // Some runtimes stamp a whole buffer at once.
        let is_next = self.recent.back() == Some(&stamp);
        let is_known = stamp <= self.forgotten || self.recent.contains(&stamp);
        if self.recent.len() == REMEMBERED {
            self.forgotten =
                self.recent.pop_front().map_or(self.forgotten, |oldest| oldest.max(self.forgotten));
        }
        self.recent.push_back(stamp);
        self.latest = self.latest.max(stamp);
        Place { stamp: self.latest, is_doubtful: is_late && !is_next && is_known }
    }
}
