//! Shows lines as they are born, and before them those that are stored.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt};
use paas_core::Result;
use paas_core::model::{
    InstanceId, LogEntry, LogItem, LogMatcher, LogOrder, LogOrigin, LogPosition, LogQuery, LogSelector,
    LogStream, LogTail, Scope, TailItem, TailLines, Timestamp,
};
use paas_core::port::{LogPorts, LogStore};
use tokio::sync::mpsc;

use super::services::Services;
use super::stage::{Done, Stage};

/// So many items may wait for a watcher; who is slower than that reads later, or hears of a gap.
const WAITING: usize = 4;
/// How many stored lines are read at once.
const PAGE: usize = 1_000;
/// How many items of a source are shown together at most.
const TOGETHER: usize = 16;

/// How much older than the last that was read a line of another output may be, in milliseconds.
const LATE: u64 = 60_000;

/// Where outputs are read up to.
type Ends = HashMap<(InstanceId, LogStream), LogPosition>;

/// Begins a tail.
pub(super) async fn open(
    services: Arc<Services>,
    scope: Scope,
    ports: LogPorts,
    tail: LogTail,
) -> Result<BoxStream<'static, Result<TailItem>>> {
    let matcher = tail.filter.matcher()?;
    let (shown, watcher) = mpsc::channel(WAITING);
    let now = ports.clock.now();
    let from = tail.since.unwrap_or(if tail.follow { now } else { Timestamp(0) });
    let stored = match &ports.store {
        Some(store) => store.ends(&scope, &tail.resource).await?,
        None => Vec::new(),
    };
    let work =
        Tail { stage: Stage::new(services, ports.clone(), false), scope, ports, tail, matcher, from, shown };
    tokio::spawn(async move {
        let shown = work.shown.clone();
        tokio::select! {
            biased;
            () = shown.closed() => {}
            outcome = work.run(stored) => {
                if let Err(error) = outcome {
                    // Who has gone need not know.
                    let _ = shown.send(Err(error)).await;
                }
            }
        }
    });
    Ok(stream::unfold(watcher, async |mut watcher| Some((watcher.recv().await?, watcher))).boxed())
}

struct Tail {
    stage: Stage,
    scope: Scope,
    ports: LogPorts,
    tail: LogTail,
    matcher: LogMatcher,
    from: Timestamp,
    shown: mpsc::Sender<Result<TailItem>>,
}

impl Tail {
    /// First what is stored, up to where it ended when this began; from there on what the source has.
    async fn run(mut self, stored: Vec<(LogOrigin, LogPosition)>) -> Result<()> {
        let mut ends: Ends =
            self.tail.after.iter().map(|(own, stream, at)| ((own.clone(), *stream), *at)).collect();
        if let Some(store) = self.ports.store.clone() {
            let stored: Ends =
                stored.into_iter().map(|(own, end)| ((own.instance, own.stream), end)).collect();
            if self.tail.since.is_some() {
                self.history(&*store, &ends, &stored).await?;
            }
            for (output, end) in stored {
                ends.entry(output).and_modify(|own| *own = end.max(*own)).or_insert(end);
            }
        }
        self.live(ends).await
    }

    /// Shows lines that are stored.
    async fn history(&self, store: &dyn LogStore, known: &Ends, stored: &Ends) -> Result<()> {
        let mut query = LogQuery::of(self.tail.resource.clone()).matching(self.tail.filter.clone());
        (query.instance, query.from) = (self.tail.instance.clone(), self.from);
        if !known.is_empty() {
            // Lines of another output may be older than the last that was read.
            query.from = Timestamp(self.from.0.saturating_sub(LATE));
        }
        (query.order, query.limit) = (LogOrder::Oldest, PAGE);
        loop {
            let page = store.search(&self.scope, &query).await?;
            let is_wanted = |entry: &LogEntry| {
                let output = (entry.origin.instance.clone(), entry.origin.stream);
                let is_new = match known.get(&output) {
                    Some(at) => entry.position >= *at,
                    None => entry.time >= self.from,
                };
                // What was stored meanwhile comes from the source.
                is_new && stored.get(&output).is_some_and(|end| entry.position < *end)
            };
            let lines = TailLines::stored(page.entries.into_iter().filter(is_wanted).collect());
            if !lines.entries.is_empty() && !self.show(TailItem::Lines(lines)).await {
                return Ok(());
            }
            match page.next {
                Some(next) => query.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Shows what the source has after these places.
    async fn live(&mut self, ends: Ends) -> Result<()> {
        let mut selector = LogSelector::existing(self.tail.resource.clone());
        (selector.follow, selector.instance) = (self.tail.follow, self.tail.instance.clone());
        selector.after = ends.into_iter().map(|((instance, stream), at)| (instance, stream, at)).collect();
        let items = self.ports.source.lines(&self.scope, selector).await?;
        let mut items = items.ready_chunks(TOGETHER);
        let mut tick = tokio::time::interval(super::TICK);
        loop {
            let items = tokio::select! {
                biased;
                items = items.next() => items,
                _ = tick.tick() => {
                    let done = batches(self.stage.overdue()).collect();
                    if !self.show_together(done).await {
                        return Ok(());
                    }
                    continue;
                }
            };
            let Some(items) = items else { break };
            let mut done = Vec::new();
            for item in items {
                match item? {
                    LogItem::Batch(batch) => done.extend(batches(self.stage.take(batch).await?)),
                    item => {
                        // Nothing goes on after it.
                        if let LogItem::Gap { origin, .. } = &item {
                            let instance = origin.as_ref().map(|origin| &origin.instance);
                            done.extend(batches(self.stage.finish(instance)));
                        }
                        done.push(item);
                    }
                }
            }
            if !self.show_together(done).await {
                return Ok(());
            }
        }
        let rest = batches(self.stage.finish(None)).collect();
        self.show_together(rest).await;
        Ok(())
    }

    /// Shows items that came together, lines in the order of time. `false` where nobody watches any more.
    async fn show_together(&self, items: Vec<LogItem>) -> bool {
        let mut lines = TailLines::default();
        for item in items {
            let from = match &item {
                LogItem::Batch(batch) if self.tail.start(&batch.origin).is_some() => Timestamp(0),
                _ => self.from,
            };
            match TailItem::of(item, &self.matcher, from) {
                TailItem::Lines(more) => lines.merge(more),
                other => {
                    if !self.show_lines(std::mem::take(&mut lines)).await || !self.show(other).await {
                        return false;
                    }
                }
            }
        }
        self.show_lines(lines).await
    }

    async fn show_lines(&self, lines: TailLines) -> bool {
        lines.ends.is_empty() || self.show(TailItem::Lines(lines)).await
    }

    async fn show(&self, item: TailItem) -> bool {
        self.shown.send(Ok(item)).await.is_ok()
    }
}

fn batches(done: Vec<Done>) -> impl Iterator<Item = LogItem> {
    done.into_iter().map(|(_, batch)| LogItem::Batch(batch))
}
