//! The newest items, bounded by bytes.

use std::collections::VecDeque;

use paas_core::model::LogItem;

use crate::keeper::SpoolOffset;

/// The most bytes of lines that are kept.
const BYTES: usize = 8 * 1024 * 1024;
/// The most items that are kept.
const ITEMS: usize = 100_000;
/// How many bytes must have left before the keeper is told.
const COMMIT: usize = 1024 * 1024;

/// A bounded queue that many readers follow by number.
#[derive(Debug, Default)]
pub(super) struct Ring {
    items: VecDeque<(LogItem, SpoolOffset)>,
    bytes: usize,
    /// The number of the oldest item.
    first: u64,
    /// Left since the last commit.
    freed: usize,
    freed_to: Option<SpoolOffset>,
}

fn size(item: &LogItem) -> usize {
    match item {
        LogItem::Batch(batch) => batch.buffer.len() + batch.starts.len() * 12,
        _ => 0,
    }
}

impl Ring {
    /// Adds an item; `next` is where the spool goes on after it.
    pub(super) fn push(&mut self, item: LogItem, next: SpoolOffset) {
        self.bytes += size(&item);
        self.items.push_back((item, next));
        while (self.bytes > BYTES || self.items.len() > ITEMS) && self.items.len() > 1 {
            let Some((item, next)) = self.items.pop_front() else { return };
            self.bytes -= size(&item);
            self.freed += size(&item).max(64);
            self.freed_to = Some(next);
            self.first += 1;
        }
    }

    /// How far the keeper may forget, once that is worth telling.
    pub(super) fn take_freed(&mut self) -> Option<SpoolOffset> {
        if self.freed < COMMIT {
            return None;
        }
        self.freed = 0;
        self.freed_to.take()
    }

    /// The number of the next item to come.
    pub(super) fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// The item of this number, or the oldest after it.
    pub(super) fn at(&self, number: u64) -> Option<(u64, &LogItem)> {
        let number = number.max(self.first);
        let index = usize::try_from(number - self.first).ok()?;
        Some((number, &self.items.get(index)?.0))
    }
}
