//! Where a reader is in the output of one instance, whichever of its containers wrote it.
//!
//! The kubelet gives the output of the container that runs, from some second on, and that of the one before it; it tells
//! neither how much came before nor which of the two it is. What all lines have is a stamp, so a line's position is its
//! stamp. A reader asks from a little before the last line it has, finds that line, and goes on after it, in the order of
//! the output: stamps may go back, where a node's clock was set.

use paas_core::model::LogPosition;

use super::order::{Order, Place};

const SECOND: u64 = 1_000_000_000;
/// How far before the last line is asked from: as far as a clock may be set back while nobody reads.
const MARGIN: u64 = 60 * SECOND;
/// No file is written in less. The kubelet looks every few seconds whether a container's file is to be replaced by a new
/// one, but containers wait for each other there, so it may look at one twice in a moment.
const FILE: u64 = SECOND / 4;
/// Who takes a line so late is behind.
const BEHIND: u64 = SECOND;

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is new.
    Take(LogPosition),
    /// It was given before.
    Skip,
    /// It is new, and of another incarnation than those before it: ask again once those are given on.
    Part,
    /// It is new, and lines may be lost between the position and it: ask again once that was told.
    Gap(Option<LogPosition>),
    /// It may be an old one, or lines before it may be lost: the output is to be asked for again.
    Again,
}

/// How far the output was given.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// The position after the last line that was given.
    at: Option<LogPosition>,
    /// While that line is looked for: how many with its stamp have been passed over.
    looking: Option<u32>,
    /// Whether any line was passed over so far.
    skipped: bool,
    /// Whether lines are lost if it is not found.
    loses: bool,
    /// Whether all that the newest container wrote is new.
    all_new: bool,
    /// Whether no line of this reading was taken so far: one with an earlier stamp then comes from a clock set back.
    first: bool,
    /// The earliest stamp that came after a later one.
    back: Option<u64>,
    /// The stamps of this reading.
    order: Order,
    /// When this reading began, and when the last line was taken, by our own clock.
    begun: u64,
    taken: u64,
    /// All that the container after so many restarts wrote was given.
    complete: Option<u32>,
}

impl Cursor {
    /// After what a reader has.
    pub(super) fn after(position: Option<LogPosition>) -> Self {
        Self { at: position, ..Self::default() }
    }

    pub(super) fn position(&self) -> Option<LogPosition> {
        self.at
    }

    /// From which second on the output is to be asked for; `None` from its beginning.
    pub(super) fn since(&mut self, now: u64) -> Option<u64> {
        let at = self.at.filter(|_| !self.all_new)?;
        let from = self.back.take().map_or(at.sequence, |back| back.min(at.sequence));
        // A stamp from the future: the node's clock was ahead, and may be right by now.
        (at.sequence <= now + MARGIN).then_some(from.saturating_sub(MARGIN) / SECOND)
    }

    /// The outputs of an instance that was restarted so often are asked for.
    pub(super) fn open(&mut self, restarts: u32) {
        // Where the last line was, it need not be any more.
        self.looking = None;
        // What comes right after a container whose output is complete misses nothing.
        self.loses = self.at.is_some() && self.complete.is_none_or(|complete| restarts > complete + 1);
    }

    /// One of them is read from now on.
    pub(super) fn begin(&mut self, is_newest: bool, opened: u64) {
        // It was the last line of the output before this.
        self.loses &= !self.is_found();
        let knows = self.at.is_some() && !(self.all_new && is_newest);
        self.looking = knows.then_some(0);
        (self.skipped, self.first, self.begun) = (false, true, opened);
        self.order = Order::default();
    }

    /// What becomes of the line with this stamp that comes next.
    pub(super) fn admit(&mut self, own: u64, now: u64) -> Verdict {
        let Place { stamp, is_doubtful } = self.order.place(own);
        let new = LogPosition { incarnation: 0, sequence: stamp, index: 0 };
        let Some(at) = self.at else { return self.take(new, now) };
        if let Some(passed) = self.looking {
            if !self.is_past(at, passed, stamp) {
                self.looking = Some(passed + u32::from(stamp == at.sequence));
                self.skipped = true;
                return Verdict::Skip;
            }
            // What begins where it should is not missed, either.
            self.loses &= !self.is_found() && (at.index > 0 || stamp != at.sequence);
            self.looking = None;
        }
        if std::mem::take(&mut self.loses) {
            return Verdict::Gap(self.at);
        }
        if !self.first && (is_doubtful || stamp < at.sequence) {
            // The kubelet reads a file again, or the clock was set back: it stands in the file which it was.
            self.back = Some(own);
            return Verdict::Again;
        }
        let next = LogPosition { sequence: stamp, index: 0, ..at };
        if stamp == at.sequence {
            self.take(at, now)
        } else if stamp < at.sequence {
            self.at = Some(LogPosition { incarnation: at.incarnation + 1, ..next });
            Verdict::Part
        } else if self.may_miss(at, stamp) {
            Verdict::Again
        } else {
            self.take(next, now)
        }
    }

    /// Whether the last line that was given is behind, or cannot come any more.
    fn is_past(&self, at: LogPosition, passed: u32, stamp: u64) -> bool {
        if stamp == at.sequence {
            return passed >= at.index;
        }
        // After a clock was set back, lines that were given may have later stamps.
        passed > 0 && passed >= at.index || stamp > at.sequence && (at.incarnation == 0 || passed > 0)
    }

    /// The kubelet goes on with the newest file after it has read one to its end, and passes over those in between: it was
    /// behind, then, and all of the file in between was written since this reading began, and none of it is here.
    fn may_miss(&self, at: LogPosition, stamp: u64) -> bool {
        let pause = stamp - at.sequence;
        pause >= FILE
            && self.taken.saturating_sub(at.sequence) >= BEHIND
            && self.taken.saturating_sub(self.begun) >= pause
    }

    fn take(&mut self, position: LogPosition, now: u64) -> Verdict {
        self.at = Some(LogPosition { index: position.index.saturating_add(1), ..position });
        (self.first, self.all_new, self.taken, self.complete) = (false, false, now, None);
        Verdict::Take(position)
    }

    /// The line at this position, which was taken last, is not given: its end did not come.
    pub(super) fn put_back(&mut self, position: LogPosition) {
        self.at = Some(position);
    }

    /// Whether all lines with the stamp of the last one that was given, as many as were given, have been passed over.
    fn is_found(&self) -> bool {
        self.looking.zip(self.at).is_some_and(|(passed, at)| passed > 0 && passed == at.index)
    }

    /// Whether the last line is looked for still, and other lines were passed over.
    pub(super) fn is_looking(&self) -> bool {
        self.looking.is_some() && self.skipped && !self.is_found()
    }

    /// It is in none of what the newest container wrote so far: that is all new, then.
    pub(super) fn give_up(&mut self) {
        self.all_new = true;
    }

    /// All that the container after so many restarts wrote was given.
    pub(super) fn complete(&mut self, restarts: u32) {
        self.complete = Some(restarts);
    }
}

#[cfg(test)]
mod tests;
