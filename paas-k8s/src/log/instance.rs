//! Reads the output of one instance, through its restarts, for one reader.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::io::{AsyncBufRead, AsyncBufReadExt};
use paas_core::model::{LogItem, LogOrigin, LogPosition, Timestamp};
use paas_core::{Error, Result};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use super::Shared;
use super::cursor::{Cursor, Verdict};
use super::lines::Lines;
use super::request::{self, Which};
use crate::scheduler::{Output, Writer};

/// So many bytes of whole lines are given on at once, where more are there already.
const BATCH: usize = 256 * 1024;
/// A follower looks after its stream so often while nothing comes.
const QUIET: Duration = Duration::from_secs(3);
/// A stream that falls silent may be one that has missed the change to a new file: after so much, it is asked for again soon.
const BUSY: usize = 64 * 1024;
/// After less, it is asked for again once it is silent for so long.
const CALM: Duration = Duration::from_secs(10);
/// The one that is opened then may miss a change, too: each that gives nothing new is trusted for so many times longer.
const TRUST: u32 = 4;
/// A stream that is silent for so long is opened anew: its connection may be dead.
const SILENCE: Duration = Duration::from_secs(300);
/// How long a stream is kept while others wait for one.
const SLICE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often somebody who does not follow tries.
const TRIES: u32 = 5;

/// What a task knows of the instance it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum View {
    Here(Output),
    Gone,
}

/// The task of one reader for one instance.
pub(super) struct Instance {
    shared: Arc<Shared>,
    writer: Writer,
    view: watch::Receiver<View>,
    items: mpsc::Sender<Result<LogItem>>,
    follow: bool,
    cursor: Cursor,
    /// The newest output's last reading ended where the output ended, as far as can be known.
    is_whole: bool,
    /// How often the newest output was asked for again because it fell silent, and nothing new has come since.
    looks: u32,
    /// The last line that was given did not come for long, while others did: one reading to the end tells whether it is there.
    is_lost: bool,
}

/// How a reading ended.
#[derive(Debug)]
enum End {
    /// There is no output.
    Nothing,
    /// Where the output ended.
    Clean,
    /// Too early.
    Cut(Error),
    /// It is to begin again.
    Again,
    /// It fell silent, and is to be asked for again.
    Stale,
    /// What comes does not end, and has not come to the last line that was given.
    Lost,
    /// Somebody else has waited for the stream.
    Turn,
    /// The reader is gone.
    Closed,
}

/// What to do after a reading.
enum Next {
    Again,
    Pause,
    /// Wait for the instance to change.
    Change,
    Leave,
}

impl Instance {
    pub(super) fn new(
        shared: Arc<Shared>,
        writer: Writer,
        view: watch::Receiver<View>,
        items: mpsc::Sender<Result<LogItem>>,
        position: Option<LogPosition>,
    ) -> Self {
        let cursor = Cursor::after(position);
        let (is_whole, looks, is_lost) = (true, 0, false);
        Self { shared, writer, view, items, follow: false, cursor, is_whole, looks, is_lost }
    }

    /// Reads what is there.
    pub(super) async fn read(mut self) {
        let has_ended = matches!(*self.view.borrow(), View::Here(Output::Ended(_)));
        let (mut pause, mut tries) = (FIRST_PAUSE, 1);
        loop {
            let before = self.cursor.position();
            match self.turn(has_ended).await {
                End::Closed | End::Nothing => return,
                // Its last line may have no newline: that is sure once nothing else comes.
                End::Clean if !has_ended || self.cursor.position() == before => return,
                End::Clean | End::Turn => {}
                End::Cut(error) if tries >= TRIES => return drop(self.items.send(Err(error)).await),
                End::Cut(_) | End::Again | End::Stale | End::Lost => {
                    tokio::time::sleep(pause).await;
                    (pause, tries) = ((pause * 2).min(LONGEST_PAUSE), tries + 1);
                }
            }
        }
    }

    /// Reads what is there, and on until the instance is gone.
    pub(super) async fn follow(mut self) {
        self.follow = true;
        let (mut pause, mut failures) = (FIRST_PAUSE, 0);
        loop {
            let view = self.view.borrow_and_update().clone();
            let (before, began) = (self.cursor.position(), Instant::now());
            let end = self.turn(!matches!(view, View::Here(Output::Open(_)))).await;
            let is_new = self.cursor.position() != before;
            if is_new || began.elapsed() > LONGEST_PAUSE {
                (pause, failures) = (FIRST_PAUSE, 0);
            }
            failures += u32::from(matches!(end, End::Nothing | End::Cut(_)));
            self.is_whole = matches!(end, End::Clean) || self.is_whole && matches!(end, End::Nothing);
            match self.next(&view, end, is_new, failures) {
                Next::Leave => return self.leave().await,
                Next::Again => {}
                Next::Change => {
                    if self.changed().await.is_err() {
                        return;
                    }
                }
                Next::Pause => {
                    if view == View::Gone {
                        tokio::time::sleep(pause).await;
                    } else {
                        // A change is worth a look at once.
                        drop(timeout(pause, self.view.changed()).await);
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// What to do after a reading.
    fn next(&mut self, view: &View, end: End, is_new: bool, failures: u32) -> Next {
        match (end, view) {
            (End::Closed, _) => {
                self.is_whole = true;
                Next::Leave
            }
            (End::Again | End::Stale | End::Lost | End::Turn, _) => Next::Again,
            (End::Clean, _) if is_new => Next::Again,
            (End::Clean | End::Nothing, View::Gone) => Next::Leave,
            (End::Clean, View::Here(Output::Ended(restarts))) => {
                self.cursor.complete(*restarts);
                Next::Change
            }
            (End::Nothing, View::Here(Output::None)) => Next::Change,
            // The node has forgotten it.
            (End::Nothing, View::Here(Output::Ended(_))) if failures >= TRIES => Next::Change,
            (End::Cut(_), View::Gone) if failures >= TRIES => Next::Leave,
            (End::Cut(error), _) => {
                tracing::debug!(?error, pod = self.writer.pod, "output was cut off");
                Next::Pause
            }
            (End::Clean | End::Nothing, _) => Next::Pause,
        }
    }

    async fn changed(&mut self) -> Result<(), ()> {
        tokio::select! {
            changed = self.view.changed() => changed.map_err(drop),
            () = self.items.closed() => Err(()),
        }
    }

    /// It is gone, and with it what was not read.
    async fn leave(self) {
        if !self.is_whole {
            let reason = "the instance was removed before its last lines were read".to_owned();
            let gap = LogItem::Gap { origin: Some(self.writer.origin), bytes: 0, reason };
            drop(self.items.send(Ok(gap)).await);
        }
    }

    fn restarts(&self) -> u32 {
        match *self.view.borrow() {
            View::Here(Output::Open(restarts) | Output::Ended(restarts)) => restarts,
            View::Here(Output::None) | View::Gone => 0,
        }
    }

    /// Reads the outputs that there are, while nobody else waits for a stream.
    async fn turn(&mut self, has_ended: bool) -> End {
        let shared = Arc::clone(&self.shared);
        let Some(_stream) = shared.streams.acquire().await else { return End::Closed };
        self.outputs(has_ended).await.unwrap_or_else(End::Cut)
    }

    async fn outputs(&mut self, has_ended: bool) -> Result<End> {
        let since = self.cursor.since(now());
        self.cursor.open(self.restarts());
        // Only where the output ends it is sure what is not in it.
        let is_search = std::mem::take(&mut self.is_lost);
        // The newest first: whatever is found in the one before it then, no output lies between the two.
        let newest = self.request(Which::Newest, since, self.follow && !is_search).await?;
        let opened = now();
        let mut found = newest.is_some();
        loop {
            let Some(previous) = self.request(Which::Previous, since, false).await? else { break };
            found = true;
            self.cursor.begin(false, now());
            let before = self.cursor.position();
            match self.pump(previous, true, false).await {
                End::Clean if self.cursor.position() == before => break,
                // The server ends a broken stream as if it was whole: it is when nothing more comes.
                End::Clean => {}
                end => return Ok(end),
            }
        }
        let Some(newest) = newest else {
            return Ok(if found { End::Clean } else { End::Nothing });
        };
        self.cursor.begin(true, opened);
        let end = self.pump(newest, has_ended, true).await;
        self.looks += u32::from(matches!(end, End::Stale));
        self.is_lost = matches!(end, End::Lost);
        Ok(if is_search && matches!(end, End::Clean) { End::Again } else { end })
    }

    async fn request(
        &self,
        which: Which,
        since: Option<u64>,
        follow: bool,
    ) -> Result<Option<impl AsyncBufRead + Unpin + Send + use<>>> {
        let (connection, writer) = (&self.shared.connection, &self.writer);
        let Some(stream) = request::open(connection, writer, which, since, follow).await? else {
            return Ok(None);
        };
        Ok(writer.is_there(connection).await?.then_some(stream))
    }

    /// Gives on what comes from a stream, in whole lines.
    async fn pump(
        &mut self,
        stream: impl AsyncBufRead + Unpin + Send,
        has_ended: bool,
        is_newest: bool,
    ) -> End {
        let mut lines = Lines::default();
        let end = self.pump_into(&mut lines, stream, has_ended, is_newest).await;
        if let Some(position) = lines.unfinished() {
            self.cursor.put_back(position);
        }
        end
    }

    async fn pump_into(
        &mut self,
        lines: &mut Lines,
        mut stream: impl AsyncBufRead + Unpin + Send,
        has_ended: bool,
        is_newest: bool,
    ) -> End {
        let (begun, before) = (Instant::now(), self.cursor.position());
        let (mut heard, mut bytes) = (begun, 0);
        loop {
            let is_more = stream.fill_buf().now_or_never().is_some();
            if (!is_more || lines.len() >= BATCH) && self.flush(lines).await.is_err() {
                return End::Closed;
            }
            if is_newest && begun.elapsed() > SLICE && self.shared.streams.is_waited_for() {
                return End::Turn;
            }
            let chunk = tokio::select! {
                chunk = timeout(QUIET, stream.fill_buf()) => chunk,
                () = self.items.closed() => return End::Closed,
            };
            match chunk {
                Ok(Ok([])) => {
                    if has_ended && lines.unfinished().is_some_and(|at| Some(at) == before) {
                        lines.finish();
                    }
                    return self.end(lines, is_newest).await;
                }
                Ok(Ok(chunk)) => {
                    let (taken, at) = (chunk.len(), self.cursor.position());
                    if let Some(end) = self.take(chunk, lines).await {
                        return end;
                    }
                    if self.cursor.position() != at {
                        self.looks = 0;
                    }
                    stream.consume_unpin(taken);
                    (heard, bytes) = (Instant::now(), bytes + taken);
                    if self.follow && is_newest && self.cursor.is_looking() && begun.elapsed() >= QUIET {
                        return End::Lost;
                    }
                }
                Ok(Err(cause)) => {
                    let Ok(()) = self.flush(lines).await else { return End::Closed };
                    return End::Cut(Error::unavailable("the output was cut off").with_source(cause));
                }
                Err(_) if !is_newest => {
                    if heard.elapsed() > SILENCE {
                        return End::Cut(Error::unavailable("the output does not come"));
                    }
                }
                Err(_) => {
                    if let Some(end) = self.quiet(heard.elapsed(), bytes) {
                        return end;
                    }
                }
            }
        }
    }

    /// The stream says nothing for a while.
    fn quiet(&mut self, silence: Duration, bytes: usize) -> Option<End> {
        if self.cursor.is_looking() {
            self.cursor.give_up();
            return Some(End::Again);
        }
        let first = if bytes >= BUSY { QUIET } else { CALM };
        let trust = first.saturating_mul(TRUST.saturating_pow(self.looks));
        (silence >= trust.min(SILENCE)).then_some(End::Stale)
    }

    async fn end(&mut self, lines: &mut Lines, is_newest: bool) -> End {
        if self.flush(lines).await.is_err() {
            return End::Closed;
        }
        if is_newest && self.cursor.is_looking() {
            self.cursor.give_up();
            return End::Again;
        }
        let Some(remark) = lines.remark() else { return End::Clean };
        tracing::debug!(remark, pod = self.writer.pod, "the kubelet gives no output");
        End::Nothing
    }

    /// Takes in a chunk. Gives how the reading ends, if it does.
    async fn take(&mut self, chunk: &[u8], lines: &mut Lines) -> Option<End> {
        let now = now();
        let mut used = 0;
        while used < chunk.len() {
            let cursor = &mut self.cursor;
            let (taken, stop) = lines.feed(&chunk[used..], |stamp| cursor.admit(stamp, now));
            used += taken;
            let Some(stop) = stop else { continue };
            if self.flush(lines).await.is_err() {
                return Some(End::Closed);
            }
            match stop {
                Verdict::Again => return Some(End::Again),
                Verdict::Gap(after) => {
                    let item = gap(&self.writer.origin, after);
                    if self.items.send(Ok(item)).await.is_err() {
                        return Some(End::Closed);
                    }
                }
                Verdict::Take(_) | Verdict::Skip | Verdict::Part => {}
            }
        }
        None
    }

    async fn flush(&mut self, lines: &mut Lines) -> Result<(), ()> {
        let Some(batch) = lines.take(&self.writer.origin) else { return Ok(()) };
        self.items.send(Ok(LogItem::Batch(batch))).await.map_err(drop)
    }
}

fn gap(origin: &LogOrigin, after: Option<LogPosition>) -> LogItem {
    let last = after.map_or_else(String::new, |after| {
        format!(" (the last line that was given is of {})", Timestamp(after.sequence / 1_000_000))
    });
    let reason = format!("the node has thrown away what came before this{last}: lines may be missing");
    LogItem::Gap { origin: Some(origin.clone()), bytes: 0, reason }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
