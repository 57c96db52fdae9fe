//! Cuts what the kubelet sends, each line after its stamp, into lines.

use bytes::{Bytes, BytesMut};
use k8s_openapi::jiff;
use paas_core::model::{LogBatch, LogOrigin, LogPosition};

use super::cursor::Verdict;

/// A longer line is cut; each piece counts as a line with the same stamp.
pub(super) const LINE: usize = 1024 * 1024;
/// The longest stamp: nanoseconds and an offset from UTC take 35 bytes.
const STAMP: usize = 40;
/// How much of what is no line is repeated to people.
const REMARK: usize = 200;

/// Lines that have come and are not yet given on.
#[derive(Debug, Default)]
pub(super) struct Lines {
    state: State,
    buffer: BytesMut,
    /// Where each whole line begins in the buffer, and its stamp.
    starts: Vec<u32>,
    stamps: Vec<u64>,
    /// The position of the first whole line.
    first: Option<LogPosition>,
    /// How many bytes the whole lines have.
    whole: usize,
    /// What came without a stamp last.
    remark: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// In a stamp, of which so much came in an earlier chunk.
    Stamp(Vec<u8>),
    /// Before a line, or a piece of one.
    Begin(u64),
    /// In a line that is kept, or passed over; of the piece there are so many bytes.
    Kept(u64, LogPosition),
    Passed(u64, usize),
    /// In something that has no stamp: the kubelet's own words, or the rest of a line that began before what was asked for.
    Unstamped,
}

impl Default for State {
    fn default() -> Self {
        Self::Stamp(Vec::new())
    }
}

impl Lines {
    /// Takes in a chunk, as far as `ask` lets it: called with the stamp of each line, it says what becomes of it. Gives how
    /// much of the chunk was taken in, and the verdict that it stopped at; asked again, that line comes first.
    pub(super) fn feed(
        &mut self,
        chunk: &[u8],
        mut ask: impl FnMut(u64) -> Verdict,
    ) -> (usize, Option<Verdict>) {
        let mut used = 0;
        loop {
            let rest = &chunk[used..];
            used += match &mut self.state {
                State::Begin(stamp) => {
                    let stamp = *stamp;
                    self.remark.clear();
                    self.state = match ask(stamp) {
                        Verdict::Take(position) => State::Kept(stamp, position),
                        Verdict::Skip => State::Passed(stamp, 0),
                        stop => return (used, Some(stop)),
                    };
                    0
                }
                _ if rest.is_empty() => return (used, None),
                State::Stamp(begun) => {
                    let (taken, next) = stamp(begun, rest);
                    if let Some(next) = next {
                        if matches!(next, State::Unstamped) {
                            self.remark = std::mem::take(begun);
                        }
                        self.state = next;
                    }
                    taken
                }
                State::Kept(stamp, position) => {
                    let (stamp, position) = (*stamp, *position);
                    self.keep(rest, stamp, position)
                }
                State::Passed(stamp, length) => {
                    let (taken, end) = piece(rest, *length);
                    *length += taken;
                    match end {
                        End::Line => self.state = State::default(),
                        End::Piece => self.state = State::Begin(*stamp),
                        End::Open => {}
                    }
                    taken
                }
                State::Unstamped => {
                    let end = newline(rest);
                    let room = REMARK.saturating_sub(self.remark.len());
                    let text = &rest[..end.unwrap_or(rest.len())];
                    self.remark.extend_from_slice(&text[..text.len().min(room)]);
                    if end.is_some() {
                        self.state = State::default();
                    }
                    end.map_or(rest.len(), |end| end + 1)
                }
            };
        }
    }

    fn keep(&mut self, rest: &[u8], stamp: u64, position: LogPosition) -> usize {
        let (taken, end) = piece(rest, self.buffer.len() - self.whole);
        self.buffer.extend_from_slice(&rest[..taken]);
        if !matches!(end, End::Open) {
            self.end_line(stamp, position);
            self.state = if matches!(end, End::Line) { State::default() } else { State::Begin(stamp) };
        }
        taken
    }

    fn end_line(&mut self, stamp: u64, position: LogPosition) {
        // A batch is given on long before it has 4 GiB.
        self.starts.push(u32::try_from(self.whole).unwrap_or(u32::MAX));
        self.stamps.push(stamp);
        self.first.get_or_insert(position);
        self.whole = self.buffer.len();
    }

    /// The line whose end has not come, as far as it is there, once the whole lines are given on.
    pub(super) fn torn(self, origin: &LogOrigin) -> Option<LogBatch> {
        let State::Kept(stamp, position) = self.state else { return None };
        Some(LogBatch::stamped(origin.clone(), self.buffer.freeze(), vec![0], vec![stamp], position))
    }

    /// How many bytes of whole lines there are.
    pub(super) const fn len(&self) -> usize {
        self.whole
    }

    /// What came without a stamp last.
    pub(super) fn remark(&self) -> Option<String> {
        (!self.remark.is_empty()).then(|| String::from_utf8_lossy(&self.remark).into_owned())
    }

    /// The whole lines, which are given on.
    pub(super) fn take(&mut self, origin: &LogOrigin) -> Option<LogBatch> {
        let position = self.first.take()?;
        let buffer: Bytes = self.buffer.split_to(self.whole).freeze();
        self.whole = 0;
        let (starts, stamps) = (std::mem::take(&mut self.starts), std::mem::take(&mut self.stamps));
        Some(LogBatch::stamped(origin.clone(), buffer, starts, stamps, position))
    }
}

fn newline(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|byte| *byte == b'\n')
}

/// Where a piece of a line ends.
enum End {
    /// With the line, of which the newline is the last byte.
    Line,
    /// Before more of the line.
    Piece,
    /// Not yet.
    Open,
}

/// How much of these bytes belongs to a piece that has so many already.
fn piece(bytes: &[u8], has: usize) -> (usize, End) {
    let room = LINE.saturating_sub(has);
    match newline(&bytes[..bytes.len().min(room + 1)]) {
        Some(end) => (end + 1, End::Line),
        None if bytes.len() > room => (room, End::Piece),
        None => (bytes.len(), End::Open),
    }
}

/// Reads on in a stamp; gives how many bytes it took, and what comes after it once it is whole.
fn stamp(begun: &mut Vec<u8>, rest: &[u8]) -> (usize, Option<State>) {
    let room = (STAMP + 1).saturating_sub(begun.len());
    let seen = &rest[..rest.len().min(room)];
    let Some(end) = seen.iter().position(|byte| matches!(byte, b' ' | b'\n')) else {
        begun.extend_from_slice(seen);
        return (seen.len(), (begun.len() > STAMP).then_some(State::Unstamped));
    };
    let parsed = if begun.is_empty() {
        parse(&seen[..end])
    } else {
        begun.extend_from_slice(&seen[..end]);
        parse(begun)
    };
    match parsed {
        Some(stamp) if seen[end] == b' ' => (end + 1, Some(State::Begin(stamp))),
        // What ends it is still to be read.
        _ => {
            if begun.is_empty() {
                begun.extend_from_slice(&seen[..end]);
            }
            (end, Some(State::Unstamped))
        }
    }
}

/// The nanoseconds from 1970 to a moment as RFC 3339 writes it.
fn parse(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_nanosecond()).ok()
}

#[cfg(test)]
mod tests;
