//! What is done to the batches of many outputs, one after the other.

use std::collections::HashMap;
use std::sync::Arc;

use paas_core::Result;
use paas_core::model::{InstanceId, LogBatch, LogOrigin};
use paas_core::port::LogPorts;

use super::read::Read;
use super::services::{Service, Services};
use crate::process::Joiner;

/// Lines that are done, and whose they are.
pub(super) type Done = (Arc<Service>, Arc<LogBatch>);

/// Joins and processes.
#[derive(Debug)]
pub(super) struct Stage {
    services: Arc<Services>,
    ports: LogPorts,
    /// Whether what the rules do is counted.
    counts: bool,
    /// Outputs whose last event may not be whole yet.
    waiting: HashMap<LogOrigin, (Joiner, Arc<Service>)>,
}

impl Stage {
    pub(super) fn new(services: Arc<Services>, ports: LogPorts, counts: bool) -> Self {
        Self { services, ports, counts, waiting: HashMap::new() }
    }

    /// What comes of a batch that was read. Where it fails nothing has become of it.
    pub(super) async fn take(&mut self, read: &Read, batch: &LogBatch) -> Result<Vec<Done>> {
        let service = self.services.of(&self.ports, &batch.origin).await?;
        let (mut done, counts) = (Vec::new(), self.counts);
        let mut joiner = match self.waiting.remove(&batch.origin) {
            Some((joiner, own)) if Arc::ptr_eq(&own, &service) => joiner,
            // Other rules from now on.
            before => {
                done.extend(before.and_then(|(mut joiner, own)| processed(&own, joiner.finish(), counts)));
                service.joiner(&batch.origin)
            }
        };
        if let Some(events) = joiner.push(batch.clone()) {
            done.push((Arc::clone(&service), read.made(&service, events, counts)));
        }
        if joiner.is_waiting() {
            self.waiting.insert(batch.origin.clone(), (joiner, service));
        }
        Ok(done)
    }

    /// Whether no event waits for more lines.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Events for which no more lines come, as it seems.
    pub(super) fn overdue(&mut self) -> Vec<Done> {
        let (mut done, counts) = (Vec::new(), self.counts);
        self.waiting.retain(|_, (joiner, service)| {
            done.extend(processed(service, joiner.overdue(), counts));
            joiner.is_waiting()
        });
        done
    }

    /// Events of an instance that has ended, or of all.
    pub(super) fn finish(&mut self, instance: Option<&InstanceId>) -> Vec<Done> {
        let (mut done, counts) = (Vec::new(), self.counts);
        self.waiting.retain(|origin, (joiner, service)| {
            if instance.is_some_and(|instance| *instance != origin.instance) {
                return true;
            }
            done.extend(processed(service, joiner.finish(), counts));
            false
        });
        done
    }
}

/// What the rules of a service leave of events.
fn processed(service: &Arc<Service>, events: Option<LogBatch>, counts: bool) -> Option<Done> {
    Some((Arc::clone(service), Arc::new(service.processor().process(events?, counts))))
}
