//! Lines of one output, gathered from records.

use paas_core::model::{Level, LogFields, Timestamp};

use super::record::Record;

/// Lines of one output, in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    pub(super) text: Vec<u8>,
    pub(super) starts: Vec<u32>,
    pub(super) times: Vec<Timestamp>,
    pub(super) levels: Vec<Option<Level>>,
    pub(super) fields: LogFields,
}

impl Draft {
    /// Adds the line of a record that was read then.
    pub(crate) fn push(&mut self, record: &Record<'_>, read: Timestamp) {
        let (line, pairs) = (record.line(), record.pairs());
        self.begin(record.time().unwrap_or(read), record.level());
        self.text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
        if record.is_wide() {
            self.text.push(b' ');
            self.text.extend_from_slice(pairs);
        }
        self.text.push(b'\n');
        self.fields.push(if record.is_wide() { b"" } else { pairs });
    }

    /// Adds a line of which nothing is known.
    pub(crate) fn push_line(&mut self, line: &[u8], read: Timestamp) {
        self.begin(read, None);
        self.text.extend_from_slice(line);
        self.text.push(b'\n');
        self.fields.push(b"");
    }

    /// Adds the lines of another one.
    pub(crate) fn append(&mut self, other: Self) {
        if self.starts.is_empty() {
            *self = other;
            return;
        }
        let before = self.text.len();
        let moved = |start: u32| u32::try_from(start as usize + before).unwrap_or(u32::MAX);
        self.starts.extend(other.starts.into_iter().map(moved));
        self.text.extend_from_slice(&other.text);
        (0..other.times.len()).for_each(|line| self.fields.push(other.fields.of(line)));
        self.times.extend(other.times);
        self.levels.extend(other.levels);
    }

    fn begin(&mut self, time: Timestamp, level: Option<Level>) {
        self.starts.push(u32::try_from(self.text.len()).unwrap_or(u32::MAX));
        self.times.push(time);
        self.levels.push(level);
    }

    pub(crate) fn lines(&self) -> usize {
        self.starts.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.text.len()
    }
}
