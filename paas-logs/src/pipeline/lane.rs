//! The lines of one app on their way out: nobody else waits for what holds them up.

use std::sync::Arc;

use futures_util::future::{BoxFuture, OptionFuture};
use paas_core::Result;
use paas_core::model::{LogItem, Resource};
use paas_core::port::LogPorts;
use tokio::time::{Duration, Instant};

use super::follower::Follower;
use super::output::{Outputs, stored};
use super::read::{Read, weight};
use super::services::Services;
use super::sink::{Load, Sinks};
use super::stage::{Done, Stage};
use super::{FIRST_PAUSE, LONGEST_PAUSE, TICK};
use crate::alert::AlertCounts;

/// While so many bytes wait, nothing more is taken: they wait in the inbox, and then the source keeps them, or tells
/// what it could not keep.
const WAITING: usize = 1024 * 1024;
/// An app of which nothing came for so long is left alone until something does.
const REST: Duration = Duration::from_secs(10 * 60);

/// What the lanes of a platform share.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) services: Arc<Services>,
    pub(super) ports: LogPorts,
    pub(super) sinks: Arc<Sinks>,
}

/// Takes the lines of one app to the store, or to the queue before it.
pub(super) struct Lane {
    work: Arc<Work>,
    lines: Follower,
}

/// What is on its way in a lane.
struct Passage {
    stage: Stage,
    alerts: AlertCounts,
    waiting: Load,
    bytes: usize,
}

impl Work {
    /// Up to where the lines of a part are stored.
    pub(super) async fn ends(&self, part: &Resource) -> Result<Outputs> {
        let Some(store) = &self.ports.store else { return Ok(Outputs::new()) };
        Ok(stored(store.ends(&self.ports.scope, part).await?))
    }
}

impl Lane {
    pub(super) fn new(work: Arc<Work>, lines: Follower) -> Self {
        Self { work, lines }
    }

    /// Goes on until nothing comes any more. Whatever fails, it begins anew where the store ends.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let begun = Instant::now();
            let Err(error) = self.pass().await else { return };
            if begun.elapsed() > LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            let app = self.lines.part().clone();
            tracing::warn!(?error, %app, "the lines of an app are not taken in for a moment");
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                match self.work.ends(&app).await {
                    Ok(ends) => break self.lines.restart(ends),
                    Err(error) => tracing::warn!(?error, "the log store does not tell where it ends"),
                }
            }
        }
    }

    async fn pass(&mut self) -> Result<()> {
        let work = Arc::clone(&self.work);
        let stage = Stage::new(Arc::clone(&work.services), work.ports.clone(), true);
        let (alerts, waiting) = (AlertCounts::default(), Load::default());
        let mut passage = Passage { stage, alerts, waiting, bytes: 0 };
        let mut appending: Option<BoxFuture<'_, ()>> = None;
        let outcome = self.pass_on(&work, &mut passage, &mut appending).await;
        if let Some(appending) = appending {
            // Whoever begins anew asks the store what there is.
            appending.await;
        }
        outcome
    }

    async fn pass_on<'w>(
        &mut self,
        work: &'w Work,
        passage: &mut Passage,
        appending: &mut Option<BoxFuture<'w, ()>>,
    ) -> Result<()> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last = Instant::now();
        loop {
            if appending.is_none() && !passage.waiting.is_empty() {
                passage.bytes = 0;
                let load = std::mem::take(&mut passage.waiting);
                *appending = Some(Box::pin(work.sinks.put(&work.ports.scope, load)));
            }
            tokio::select! {
                biased;
                Some(()) = OptionFuture::from(appending.as_mut()) => *appending = None,
                read = self.lines.next(), if passage.bytes < WAITING => {
                    last = Instant::now();
                    let Some(read) = read.transpose()? else { return Ok(()) };
                    passage.take(work, &read).await?;
                }
                _ = tick.tick() => {
                    let done = passage.stage.overdue();
                    passage.put(work, done).await?;
                    if appending.is_none() && passage.is_empty() && last.elapsed() >= REST {
                        self.lines.rest();
                    }
                }
            }
        }
    }
}

impl Passage {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.stage.is_empty()
    }

    async fn take(&mut self, work: &Work, read: &Read) -> Result<()> {
        let done = match &read.item {
            LogItem::Batch(batch) => self.stage.take(read, batch).await?,
            LogItem::Gap { origin, bytes, reason } => {
                let resource = origin.as_ref().map(|origin| origin.resource().to_string());
                tracing::warn!(resource, bytes, reason, "lines are lost");
                self.stage.finish(origin.as_ref().map(|origin| &origin.instance))
            }
            LogItem::Notice { instance, .. } => self.stage.finish(Some(instance)),
            // A kind that a later version knows.
            _ => Vec::new(),
        };
        self.put(work, done).await
    }

    /// Lines are counted before they are stored: what is not stored is counted again after a crash.
    async fn put(&mut self, work: &Work, done: Vec<Done>) -> Result<()> {
        for (service, batch) in done {
            self.alerts.take(&work.ports, service.alerts(), &batch).await?;
            self.bytes += weight(&batch);
            self.waiting.add(work.sinks.part(service.routes(), batch));
        }
        Ok(())
    }
}
