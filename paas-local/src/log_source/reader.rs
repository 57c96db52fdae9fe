//! One reader of the ring.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use paas_core::Result;
use paas_core::model::{InstanceId, LogBatch, LogItem, LogPosition, LogSelector, LogStream};
use tokio::sync::watch;

use super::Shared;

/// Where a reader is. It does not keep the source alive.
pub(super) struct Reader {
    shared: Weak<Shared>,
    changed: watch::Receiver<u64>,
    selector: LogSelector,
    next: u64,
    /// Where to stop, for one that does not follow.
    until: Option<u64>,
    /// The position after what was given of each output.
    given: BTreeMap<(InstanceId, LogStream), LogPosition>,
    /// What comes before the next look into the ring.
    held: Option<LogItem>,
}

impl Reader {
    pub(super) fn new(shared: &Arc<Shared>, selector: LogSelector) -> Self {
        let changed = shared.changed.subscribe();
        let until = (!selector.follow).then(|| shared.ring().end());
        let given =
            selector.after.iter().map(|(id, stream, position)| ((id.clone(), *stream), *position)).collect();
        Self { shared: Arc::downgrade(shared), changed, selector, next: 0, until, given, held: None }
    }

    pub(super) fn stream(self) -> BoxStream<'static, Result<LogItem>> {
        stream::unfold(self, |mut reader| async move {
            let item = reader.item().await?;
            Some((Ok(item), reader))
        })
        .boxed()
    }

    async fn item(&mut self) -> Option<LogItem> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        loop {
            self.changed.mark_unchanged();
            if let Some(item) = self.look()? {
                return Some(item);
            }
            self.changed.changed().await.ok()?;
        }
    }

    /// The next item that concerns this reader; the inner `None` when it must wait, the outer at the end.
    fn look(&mut self) -> Option<Option<LogItem>> {
        let shared = self.shared.upgrade()?;
        loop {
            if self.until.is_some_and(|until| self.next >= until) {
                return None;
            }
            let found = shared
                .ring()
                .at(self.next)
                .map(|(number, item)| (number, self.selects(item).then(|| item.clone())));
            let Some((number, item)) = found else {
                return if self.until.is_some() { None } else { Some(None) };
            };
            self.next = number + 1;
            if let Some(item) = item.and_then(|item| self.admit(item)) {
                return Some(Some(item));
            }
        }
    }

    fn selects(&self, item: &LogItem) -> bool {
        let (resource, instance) = match item {
            LogItem::Batch(batch) => (batch.origin.resource(), Some(&batch.origin.instance)),
            LogItem::Notice { resource, instance, .. } => (resource.clone(), Some(instance)),
            // Nobody knows whose it was, so everybody is told.
            _ => return true,
        };
        let wanted = self.selector.instance.as_ref();
        self.selector.resource.contains(&resource) && wanted.is_none_or(|wanted| Some(wanted) == instance)
    }

    /// Passes over what was given before, and tells what is missing in between.
    fn admit(&mut self, item: LogItem) -> Option<LogItem> {
        let LogItem::Batch(batch) = item else { return Some(item) };
        let key = (batch.origin.instance.clone(), batch.origin.stream);
        let Some(given) = self.given.insert(key.clone(), batch.end()) else {
            return Some(LogItem::Batch(batch));
        };
        if batch.end() <= given {
            self.given.insert(key, given);
            return None;
        }
        // Sequences begin anew with each incarnation.
        let begun = LogPosition::offset(batch.position.incarnation, 0);
        let given = given.max(begun);
        if batch.position > given {
            let bytes = batch.position.sequence - given.sequence;
            let reason = "older lines made room for newer ones".to_owned();
            let gap = LogItem::Gap { origin: Some(batch.origin.clone()), bytes, reason };
            self.held = Some(LogItem::Batch(batch));
            return Some(gap);
        }
        Some(LogItem::Batch(after(&batch, given)))
    }
}

/// The part of a batch from a position on.
fn after(batch: &LogBatch, position: LogPosition) -> LogBatch {
    let skip =
        usize::try_from(position.sequence.saturating_sub(batch.position.sequence)).unwrap_or(usize::MAX);
    let buffer = batch.buffer.slice(skip.min(batch.buffer.len())..);
    let time = batch.times.first().copied().unwrap_or_default();
    LogBatch::new(batch.origin.clone(), buffer, time, position)
}
