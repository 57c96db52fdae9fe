//! What was read once for many, and what they make of it once.

use std::sync::{Arc, Mutex, PoisonError};

use paas_core::model::{InstanceId, LogBatch, LogItem, Resource};

use super::services::Service;

/// An item of a source, for all who follow.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) item: LogItem,
    done: Mutex<Vec<Made>>,
}

/// What the rules of a service made of events that begin in a batch, or before it.
#[derive(Debug)]
struct Made {
    service: Arc<Service>,
    events: LogBatch,
    batch: Arc<LogBatch>,
}

impl Made {
    /// Events of one output that begin at one place, are as many and as long, are the same.
    fn is_of(&self, service: &Arc<Service>, events: &LogBatch) -> bool {
        Arc::ptr_eq(&self.service, service)
            && self.events.position == events.position
            && self.events.starts == events.starts
            && self.events.buffer.len() == events.buffer.len()
            && self.events.end() == events.end()
    }
}

impl Read {
    pub(super) fn new(item: LogItem) -> Self {
        Self { item, done: Mutex::default() }
    }

    /// Whose it is; `None` where nobody knows.
    pub(super) fn part(&self) -> Option<Resource> {
        match &self.item {
            LogItem::Batch(batch) => Some(batch.origin.resource()),
            LogItem::Gap { origin, .. } => origin.as_ref().map(|origin| origin.resource()),
            LogItem::Notice { resource, .. } => Some(resource.clone()),
            // A kind that a later version knows.
            _ => None,
        }
    }

    pub(super) fn instance(&self) -> Option<&InstanceId> {
        match &self.item {
            LogItem::Batch(batch) => Some(&batch.origin.instance),
            LogItem::Gap { origin, .. } => origin.as_ref().map(|origin| &origin.instance),
            LogItem::Notice { instance, .. } => Some(instance),
            _ => None,
        }
    }

    /// About how much memory it takes.
    pub(super) fn weight(&self) -> usize {
        match &self.item {
            LogItem::Batch(batch) => weight(batch),
            _ => 512,
        }
    }

    /// What a service makes of events that were joined with this. It is made once for all, but for whoever counts what the
    /// rules do.
    pub(super) fn made(&self, service: &Arc<Service>, events: LogBatch, counts: bool) -> Arc<LogBatch> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = done.iter().find(|made| !counts && made.is_of(service, &events)) {
            return Arc::clone(&made.batch);
        }
        let batch = Arc::new(service.processor().process(events.clone(), counts));
        done.push(Made { service: Arc::clone(service), events, batch: Arc::clone(&batch) });
        batch
    }
}

/// About how much memory a batch takes.
pub(super) fn weight(batch: &LogBatch) -> usize {
    batch.buffer.len() + 64 * batch.starts.len() + 512
}
