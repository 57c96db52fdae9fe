//! Cuts chunks of output into whole lines.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use paas_core::model::{InstanceId, LogBatch, LogItem, LogOrigin, LogPosition, LogStream, Timestamp};

use crate::keeper::{Ended, Exit, LIFE_SHIFT, RecordKind, SpoolRecord};
use crate::scheduler::Origins;

/// A longer line is cut.
const LINE: usize = 1024 * 1024;

/// Beginnings of lines whose ends have not come yet.
#[derive(Debug)]
pub(super) struct Lines {
    origins: Origins,
    /// By process and stream; the origin is kept, since the process may be forgotten before its last bytes are read.
    open: BTreeMap<(String, LogStream), Open>,
}

#[derive(Debug)]
struct Open {
    origin: LogOrigin,
    position: LogPosition,
    bytes: BytesMut,
    time: Timestamp,
}

impl Lines {
    pub(super) fn new(origins: Origins) -> Self {
        Self { origins, open: BTreeMap::new() }
    }

    /// What a record of the spool completes.
    pub(super) fn take(&mut self, record: SpoolRecord) -> Vec<LogItem> {
        match record.kind {
            RecordKind::Out => self.output(record, LogStream::Stdout),
            RecordKind::Err => self.output(record, LogStream::Stderr),
            RecordKind::Start => self.notice(&record, "started".to_owned()),
            RecordKind::Exit => {
                let mut items = self.flush(&record.id);
                let ended = serde_json::from_slice::<Ended>(&record.payload).ok();
                items.extend(self.notice(&record, describe(ended)));
                items
            }
            _ => Vec::new(),
        }
    }

    fn notice(&self, record: &SpoolRecord, text: String) -> Vec<LogItem> {
        let Some(origin) = self.origins.of(&record.id, LogStream::Stdout) else { return Vec::new() };
        let Ok(instance) = InstanceId::new(&record.id) else { return Vec::new() };
        let at = Timestamp::from(record.time);
        vec![LogItem::Notice { resource: origin.resource(), instance, at, text }]
    }

    fn output(&mut self, record: SpoolRecord, stream: LogStream) -> Vec<LogItem> {
        let position = position(&record);
        let time = Timestamp::from(SystemTime::max(record.time, SystemTime::UNIX_EPOCH));
        let key = (record.id, stream);
        let mut items = Vec::new();
        let follows = |open: &Open| {
            let end = open.position.sequence + open.bytes.len() as u64;
            open.position.incarnation == position.incarnation && end == position.sequence
        };
        let mut open = match self.open.remove(&key) {
            Some(open) if follows(&open) => open,
            other => {
                items.extend(other.and_then(Open::finish));
                let Some(origin) = self.origins.of(&key.0, stream) else { return items };
                Open { origin, position, bytes: BytesMut::new(), time }
            }
        };
        open.time = time;
        open.bytes.extend_from_slice(&record.payload);
        let whole = open.bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        if whole > 0 {
            items.push(open.cut(whole));
        }
        while open.bytes.len() >= LINE {
            items.push(open.cut(LINE));
        }
        if !open.bytes.is_empty() {
            self.open.insert(key, open);
        }
        items
    }

    /// A process that ended finishes its lines.
    fn flush(&mut self, id: &str) -> Vec<LogItem> {
        let of = |stream| (id.to_owned(), stream);
        let open = [LogStream::Stdout, LogStream::Stderr].map(|stream| self.open.remove(&of(stream)));
        open.into_iter().flatten().filter_map(Open::finish).collect()
    }
}

impl Open {
    fn cut(&mut self, at: usize) -> LogItem {
        let buffer: Bytes = self.bytes.split_to(at).freeze();
        let batch = LogBatch::new(self.origin.clone(), buffer, self.time, self.position);
        self.position.sequence += at as u64;
        LogItem::Batch(batch)
    }

    fn finish(mut self) -> Option<LogItem> {
        let rest = self.bytes.len();
        (rest > 0).then(|| self.cut(rest))
    }
}

/// A new keeper counts a process's bytes anew, as a new run does. Runs are numbered by the clock and keepers one by one,
/// so the sum grows with either.
fn position(record: &SpoolRecord) -> LogPosition {
    let (life, sequence) = (record.position >> LIFE_SHIFT, record.position & ((1 << LIFE_SHIFT) - 1));
    LogPosition::offset(record.incarnation + life, sequence)
}

fn describe(ended: Option<Ended>) -> String {
    match ended.map(|ended| ended.exit) {
        Some(Exit::Code(code)) => format!("ended with exit code {code}"),
        Some(Exit::Signal(signal)) => format!("ended by signal {signal}"),
        _ => "ended unseen".to_owned(),
    }
}
