//! Shows lines as they are born, and before them those that are stored.

use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use paas_core::Result;
use paas_core::model::{
    LogBatch, LogEntry, LogItem, LogMatcher, LogOrder, LogQuery, LogSelector, LogTail, Scope, TailItem,
    TailLines, Timestamp,
};
use paas_core::port::{LogPorts, LogStore};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use super::TICK;
use super::feed::Feeds;
use super::follower::Follower;
use super::output::{Outputs, after, stored};
use super::read::Read;
use super::services::Services;
use super::stage::{Done, Stage};
use crate::keyword::Keywords;

/// So many items may wait for a watcher; who is slower than that reads later, or hears of a gap.
const WAITING: usize = 4;
/// How many stored lines are read at once.
const PAGE: usize = 1_000;
/// How many items of a source are shown together at most.
const TOGETHER: usize = 16;

/// How much older than the last that was read a line of another output may be, in milliseconds.
const LATE: u64 = 60_000;

/// Where lines come from that are born now.
pub(super) struct Live {
    pub(super) feeds: Feeds,
    /// Those that others send.
    pub(super) pushed: broadcast::Receiver<Arc<LogBatch>>,
    /// Whether the source is read. Where it is not, places in the store are none of the source's.
    pub(super) reads_instances: bool,
}

/// Begins a tail.
pub(super) async fn open(
    services: Arc<Services>,
    live: Live,
    scope: Scope,
    ports: LogPorts,
    tail: LogTail,
) -> Result<BoxStream<'static, Result<TailItem>>> {
    let (matcher, query) = (tail.filter.matcher()?, Keywords::new([&tail.filter])?);
    let (shown, watcher) = mpsc::channel(WAITING);
    let now = ports.clock.now();
    let from = tail.since.unwrap_or(if tail.follow { now } else { Timestamp(0) });
    let ends = match &ports.store {
        Some(store) => stored(store.ends(&scope, &tail.resource).await?),
        None => Outputs::new(),
    };
    // What is born once this has been answered is shown, whoever stores it before it is read.
    let begins_now = tail.follow && tail.since.is_none() && tail.after.is_empty() && live.reads_instances;
    let follower = begins_now.then(|| live.feeds.follow_on(&ports, &selector(&tail), ends.clone()));
    let stage = Stage::new(services, ports.clone(), false);
    let (waiting, told) = (TailLines::default(), Instant::now());
    let work = Tail { stage, live, scope, ports, tail, matcher, query, from, waiting, told, shown };
    tokio::spawn(async move {
        let shown = work.shown.clone();
        tokio::select! {
            biased;
            () = shown.closed() => {}
            outcome = work.run(ends, follower) => {
                if let Err(error) = outcome {
                    // Who has gone need not know.
                    let _ = shown.send(Err(error)).await;
                }
            }
        }
    });
    Ok(stream::unfold(watcher, async |mut watcher| Some((watcher.recv().await?, watcher))).boxed())
}

fn selector(tail: &LogTail) -> LogSelector {
    let mut selector = LogSelector::existing(tail.resource.clone());
    (selector.follow, selector.instance) = (tail.follow, tail.instance.clone());
    selector
}

struct Tail {
    stage: Stage,
    live: Live,
    scope: Scope,
    ports: LogPorts,
    tail: LogTail,
    matcher: LogMatcher,
    /// The same, for many lines at once.
    query: Keywords,
    from: Timestamp,
    /// What is to be told, and when something was last.
    waiting: TailLines,
    told: Instant,
    shown: mpsc::Sender<Result<TailItem>>,
}

impl Tail {
    /// First what is stored, up to where it ended when this began; from there on what the source has.
    /// Who shows only what comes has followed since this began.
    async fn run(mut self, stored: Outputs, follower: Option<Follower>) -> Result<()> {
        let mut ends: Outputs =
            self.tail.after.iter().map(|(own, stream, at)| ((own.clone(), *stream), *at)).collect();
        if let Some(store) = self.ports.store.clone() {
            if self.tail.since.is_some() || !(self.tail.follow || self.live.reads_instances) {
                self.history(&*store, &ends, &stored).await?;
            }
            for (output, end) in stored {
                ends.entry(output).and_modify(|own| *own = end.max(*own)).or_insert(end);
            }
        }
        self.live(ends, follower).await
    }

    /// Shows lines that are stored.
    async fn history(&self, store: &dyn LogStore, known: &Outputs, stored: &Outputs) -> Result<()> {
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
    async fn live(&mut self, ends: Outputs, follower: Option<Follower>) -> Result<()> {
        let mut selector = selector(&self.tail);
        let known = ends.clone();
        let reads = if !self.live.reads_instances {
            if self.tail.follow { stream::pending().boxed() } else { stream::empty().boxed() }
        } else if self.tail.follow {
            let follower = follower.unwrap_or_else(|| self.live.feeds.follow(&self.ports, &selector, ends));
            let next = async |mut follower: Follower| Some((follower.next().await?, follower));
            stream::unfold(follower, next).boxed()
        } else {
            selector.after = after(ends);
            let items = self.ports.source.lines(&self.scope, selector).await?;
            items.map_ok(|item| Arc::new(Read::new(item))).boxed()
        };
        let mut reads = reads.ready_chunks(TOGETHER);
        let mut tick = tokio::time::interval(TICK);
        let mut is_told = self.tail.follow;
        loop {
            let shown = tokio::select! {
                biased;
                pushed = self.live.pushed.recv(), if is_told => {
                    is_told = !matches!(pushed, Err(RecvError::Closed));
                    match self.pushed(&known, pushed) {
                        Some(item) => self.show(item).await,
                        None => true,
                    }
                }
                reads = reads.next() => {
                    let Some(reads) = reads else { break };
                    self.show_together(reads).await?
                }
                _ = tick.tick() => {
                    let done = self.stage.overdue();
                    let lines = self.lines(done);
                    self.show_lines(lines).await
                }
            };
            if !shown {
                return Ok(());
            }
        }
        let rest = self.stage.finish(None);
        let mut rest = self.lines(rest);
        rest.merge(std::mem::take(&mut self.waiting));
        if !rest.ends.is_empty() {
            self.show(TailItem::Lines(rest)).await;
        }
        Ok(())
    }

    /// What is to be shown of lines that somebody sent: nothing of those that are not asked for, or were shown before.
    fn pushed(
        &self,
        ends: &Outputs,
        pushed: std::result::Result<Arc<LogBatch>, RecvError>,
    ) -> Option<TailItem> {
        let batch = match pushed {
            Ok(batch) => batch,
            Err(RecvError::Lagged(_)) => {
                let reason =
                    "lines that others sent may be missing here: more came than were read; they are stored"
                        .to_owned();
                return Some(TailItem::Gap { origin: None, bytes: 0, reason });
            }
            // The pipeline is gone.
            Err(RecvError::Closed) => return None,
        };
        let (origin, tail) = (&batch.origin, &self.tail);
        let is_wanted = tail.resource.contains(&origin.resource())
            && tail.instance.as_ref().is_none_or(|instance| *instance == origin.instance);
        let known = ends.get(&(origin.instance.clone(), origin.stream));
        if !is_wanted || known.is_some_and(|end| batch.end() <= *end) {
            return None;
        }
        // They came now, whenever they were written.
        Some(TailItem::Lines(TailLines::of(&batch, &self.matcher, Timestamp(0))))
    }

    /// Shows what came together, lines in the order of time. `false` where nobody watches any more.
    async fn show_together(&mut self, reads: Vec<Result<Arc<Read>>>) -> Result<bool> {
        let mut lines = TailLines::default();
        for read in reads {
            let read = read?;
            let done = match &read.item {
                LogItem::Batch(batch) => self.stage.take(&read, batch).await?,
                // Nothing goes on after it.
                LogItem::Gap { origin, .. } => {
                    self.stage.finish(origin.as_ref().map(|origin| &origin.instance))
                }
                _ => Vec::new(),
            };
            lines.merge(self.lines(done));
            if !matches!(read.item, LogItem::Batch(_)) {
                let other = TailItem::of(read.item.clone(), &self.matcher, self.from);
                if !self.show_lines(std::mem::take(&mut lines)).await || !self.show(other).await {
                    return Ok(false);
                }
            }
        }
        Ok(self.show_lines(lines).await)
    }

    /// What of lines is watched.
    fn lines(&self, done: Vec<Done>) -> TailLines {
        let mut lines = TailLines::default();
        for (_, batch) in done {
            let from = match self.tail.start(&batch.origin) {
                Some(_) => Timestamp(0),
                None => self.from,
            };
            let mut wanted = Vec::new();
            self.query.find(&batch, |_, line| {
                if batch.times[line] >= from {
                    wanted.push(line);
                }
            });
            lines.merge(TailLines::of_lines(&batch, &wanted));
        }
        lines
    }

    /// Shows lines. Up to where outputs are read is told with them; where nothing matches, from time to time.
    async fn show_lines(&mut self, lines: TailLines) -> bool {
        self.waiting.merge(lines);
        let is_due = !self.waiting.entries.is_empty() || self.told.elapsed() >= TICK;
        if !is_due || self.waiting.ends.is_empty() {
            return true;
        }
        self.told = Instant::now();
        let lines = std::mem::take(&mut self.waiting);
        self.show(TailItem::Lines(lines)).await
    }

    async fn show(&self, item: TailItem) -> bool {
        self.shown.send(Ok(item)).await.is_ok()
    }
}
