//! Consecutive lines of one origin.

use bytes::Bytes;

use super::{LogFields, LogOrigin, LogPosition};
use crate::model::filter::Level;
use crate::model::time::Timestamp;

/// Consecutive lines of one origin in one buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogBatch {
    /// Where they were born.
    pub origin: LogOrigin,
    /// All lines, each with the newline that ended it; any bytes.
    pub buffer: Bytes,
    /// Where each line begins in the buffer.
    pub starts: Vec<u32>,
    /// When each line was read.
    pub times: Vec<Timestamp>,
    /// How grave each line is, where that is known; empty where of none.
    pub levels: Vec<Option<Level>>,
    /// What is known of each line beside what stands in it; empty where of none.
    pub fields: LogFields,
    /// Each line's stamp, in nanoseconds since 1970, where positions are stamps; empty where they are offsets.
    pub stamps: Vec<u64>,
    /// The position of the first line.
    pub position: LogPosition,
    /// Where lines that were changed on their way once stood; `None` where the buffer, or the stamps, tell.
    pub places: Option<LogPlaces>,
}

/// Where lines stood in an origin's output before some of them were changed, joined or left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlaces {
    /// Of each line of the batch, where it began.
    pub lines: Vec<LogPosition>,
    /// The position after all that was read, whatever is left of it.
    pub end: LogPosition,
}

/// One line of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    /// Its bytes, without the newline.
    pub bytes: &'a [u8],
    /// When it was read.
    pub time: Timestamp,
    /// How grave it is, where that is known.
    pub level: Option<Level>,
    /// What is known of it beside its bytes, as [`pairs`](crate::model::pairs).
    pub fields: &'a [u8],
    /// Where it begins.
    pub position: LogPosition,
}

impl LogBatch {
    /// Splits a buffer of whole lines that were read at one time; a last line without a newline counts as one.
    ///
    /// The buffer holds at most 4 GiB, since offsets are 32 bits.
    #[must_use]
    pub fn new(origin: LogOrigin, buffer: Bytes, time: Timestamp, position: LogPosition) -> Self {
        let mut starts = Vec::new();
        let mut at = 0;
        while at < buffer.len() {
            starts.push(u32::try_from(at).unwrap_or(u32::MAX));
            at = buffer[at..].iter().position(|b| *b == b'\n').map_or(buffer.len(), |end| at + end + 1);
        }
        let mut batch = Self::stamped(origin, buffer, starts, Vec::new(), position);
        batch.times = vec![time; batch.starts.len()];
        batch
    }

    /// Lines whose positions are stamps: each begins at one of `starts`, and none has an earlier stamp than the one before.
    /// Both lists are as long, and `position` is the first line's.
    #[must_use]
    pub fn stamped(
        origin: LogOrigin,
        buffer: Bytes,
        starts: Vec<u32>,
        stamps: Vec<u64>,
        position: LogPosition,
    ) -> Self {
        let times = stamps.iter().map(|stamp| Timestamp(stamp / 1_000_000)).collect();
        let (levels, fields) = (Vec::new(), LogFields::new());
        Self { origin, buffer, starts, times, levels, fields, stamps, position, places: None }
    }

    /// Its lines in order.
    pub fn lines(&self) -> impl Iterator<Item = LogLine<'_>> {
        let mut after = self.position;
        self.starts.iter().zip(&self.times).enumerate().map(move |(i, (start, time))| {
            let place = self.places.as_ref().and_then(|places| places.lines.get(i));
            let position = match (place, self.stamps.get(i)) {
                (Some(place), _) => *place,
                (None, Some(stamp)) => {
                    let index = if after.sequence == *stamp { after.index } else { 0 };
                    let position = LogPosition { sequence: *stamp, index, ..self.position };
                    after = LogPosition { index: index.saturating_add(1), ..position };
                    position
                }
                (None, None) => {
                    LogPosition { sequence: self.position.sequence + u64::from(*start), ..self.position }
                }
            };
            LogLine {
                bytes: self.line(i),
                time: *time,
                level: self.levels.get(i).copied().flatten(),
                fields: self.fields.of(i),
                position,
            }
        })
    }

    /// The bytes of one of its lines, without the newline; none where it has no such line.
    #[must_use]
    pub fn line(&self, at: usize) -> &[u8] {
        let Some(from) = self.starts.get(at) else { return &[] };
        let to = self.starts.get(at + 1).map_or(self.buffer.len(), |next| *next as usize);
        let bytes = &self.buffer[*from as usize..to];
        bytes.strip_suffix(b"\n").unwrap_or(bytes)
    }

    /// What is left of it without so many of its first lines: `None` where that is nothing, not even a later end.
    #[must_use]
    pub fn without_first(&self, lines: usize) -> Option<Self> {
        let (Some(first), Some(start)) = (self.lines().nth(lines), self.starts.get(lines).copied()) else {
            return if lines == 0 { Some(self.clone()) } else { self.only_end() };
        };
        let places = self.places.as_ref().map(|places| LogPlaces {
            lines: places.lines.get(lines..).unwrap_or_default().to_vec(),
            end: places.end,
        });
        Some(Self {
            origin: self.origin.clone(),
            position: first.position,
            buffer: self.buffer.slice(start as usize..),
            starts: self.starts[lines..].iter().map(|own| own - start).collect(),
            times: self.times[lines..].to_vec(),
            levels: self.levels.get(lines..).unwrap_or_default().to_vec(),
            fields: self.fields.without_first(lines),
            stamps: self.stamps.get(lines..).unwrap_or_default().to_vec(),
            places,
        })
    }

    /// No line, and where this batch ends, where that is known apart from its lines.
    fn only_end(&self) -> Option<Self> {
        let end = self.places.as_ref()?.end;
        let mut rest = Self::new(self.origin.clone(), Bytes::new(), Timestamp(0), end);
        rest.places = Some(LogPlaces { lines: Vec::new(), end });
        Some(rest)
    }

    /// The position after its last line, and after those that were left out behind it.
    #[must_use]
    pub fn end(&self) -> LogPosition {
        if let Some(places) = &self.places {
            return places.end;
        }
        let Some(last) = self.stamps.last() else {
            return LogPosition {
                sequence: self.position.sequence + self.buffer.len() as u64,
                ..self.position
            };
        };
        let same = self.stamps.iter().rev().take_while(|stamp| *stamp == last).count();
        let before = if *last == self.position.sequence { self.position.index } else { 0 };
        let index = before.saturating_add(u32::try_from(same).unwrap_or(u32::MAX));
        LogPosition { sequence: *last, index, ..self.position }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AppId, EnvironmentId, InstanceId, LogStream, Resource, RevisionNumber, ServiceId, TenantId,
    };

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

    #[test]
    fn lines_that_were_changed_keep_their_places() {
        let at = |offset| LogPosition::offset(1, offset);
        let mut batch = LogBatch::new(origin(), Bytes::from("a\nb\n"), Timestamp(1), at(10));
        batch.places = Some(LogPlaces { lines: vec![at(20), at(40)], end: at(70) });
        let positions = |batch: &LogBatch| batch.lines().map(|line| line.position).collect::<Vec<_>>();
        assert_eq!((positions(&batch), batch.end()), (vec![at(20), at(40)], at(70)));
        let rest = batch.without_first(1).unwrap();
        assert_eq!((positions(&rest), rest.position, rest.end()), (vec![at(40)], at(40), at(70)));
        let end = rest.without_first(1).unwrap();
        assert_eq!((end.starts.len(), end.end()), (0, at(70)));
    }

    #[test]
    fn stamped_lines_are_told_apart_by_how_many_have_the_same_stamp() {
        let at = |sequence, index| LogPosition { incarnation: 2, sequence, index };
        let batch = |stamps: &[u64], first| {
            let (buffer, starts) = (Bytes::from("a\n".repeat(stamps.len())), (0..).step_by(2));
            let starts = starts.take(stamps.len()).collect();
            LogBatch::stamped(origin(), buffer, starts, stamps.to_vec(), first)
        };
        let all = batch(&[7_000_000, 7_000_000, 9_000_000], at(7_000_000, 3));
        let positions: Vec<_> = all.lines().map(|line| line.position).collect();
        assert_eq!(positions, [at(7_000_000, 3), at(7_000_000, 4), at(9_000_000, 0)]);
        assert_eq!((all.end(), all.times[2]), (at(9_000_000, 1), Timestamp(9)));
        assert_eq!(batch(&[7, 7], at(7, 3)).end(), at(7, 5));
    }
}
