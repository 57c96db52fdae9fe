//! One reading of what there is of an instance's output, and of what comes.

use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::io::{AsyncBufRead, AsyncBufReadExt};
use paas_core::model::{LogItem, LogOrigin, LogPosition, Timestamp};
use paas_core::{Error, Result};
use tokio::time::{Instant, timeout};

use super::super::cursor::Verdict;
use super::super::lines::Lines;
use super::super::request::{self, Which};
use super::{End, Instance};

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

impl Instance {
    /// Reads the newest output, and before it what is left of the one before.
    pub(super) async fn outputs(&mut self, has_ended: bool) -> Result<End> {
        let since = self.cursor.since(now());
        self.cursor.open(self.restarts());
        // The newest first: whatever is found in the one before it then, no output lies between the two.
        let newest = self.request(Which::Newest, since, self.follow && !self.is_search).await?;
        let opened = now();
        let mut found = false;
        while let Some(previous) = self.request(Which::Previous, since, false).await? {
            self.cursor.begin(false, now());
            let before = self.cursor.position();
            let end = self.pump(previous, true, false).await;
            match end {
                // The node has thrown it away.
                End::Nothing => break,
                End::Clean | End::Torn => found = true,
                end => return Ok(end),
            }
            // The server ends a broken stream as if it was whole: it is when nothing more comes.
            if matches!(end, End::Clean) && self.cursor.position() == before {
                break;
            }
        }
        let Some(newest) = newest else {
            return Ok(if found { End::Clean } else { End::Nothing });
        };
        self.cursor.begin(true, opened);
        let end = self.pump(newest, has_ended, true).await;
        self.looks += u32::from(matches!(end, End::Stale));
        let was_search = std::mem::replace(&mut self.is_search, matches!(end, End::Lost));
        Ok(if was_search && matches!(end, End::Clean) { End::Again } else { end })
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
        let end = self.pump_into(&mut lines, stream, is_newest).await;
        if self.flush(&mut lines).await.is_err() {
            return End::Closed;
        }
        let Some(torn) = lines.torn(&self.writer.origin) else { return end };
        let is_clean = matches!(end, End::Clean);
        // It may be a last line without a newline: what ends at the same place again was not cut there by chance.
        if is_clean && has_ended && self.torn.as_ref() == Some(&torn) {
            self.torn = None;
            return self.give(LogItem::Batch(torn)).await.map_or(End::Closed, |()| End::Clean);
        }
        self.cursor.put_back(torn.position);
        self.torn = Some(torn);
        if is_clean { End::Torn } else { end }
    }

    async fn pump_into(
        &mut self,
        lines: &mut Lines,
        mut stream: impl AsyncBufRead + Unpin + Send,
        is_newest: bool,
    ) -> End {
        let begun = Instant::now();
        let (mut heard, mut bytes) = (begun, 0);
        loop {
            let is_more = stream.fill_buf().now_or_never().is_some();
            if (!is_more || lines.len() >= BATCH) && self.flush(lines).await.is_err() {
                return End::Closed;
            }
            if !self.late.is_empty() {
                return End::Turn;
            }
            if is_newest && begun.elapsed() > SLICE && self.shared.streams.is_waited_for() {
                return End::Turn;
            }
            let chunk = tokio::select! {
                chunk = timeout(QUIET, stream.fill_buf()) => chunk,
                () = self.items.closed() => return End::Closed,
            };
            match chunk {
                Ok(Ok([])) => return self.end(lines, is_newest),
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
                    let is_looking = self.follow && is_newest && !self.is_search && self.cursor.is_looking();
                    if is_looking && begun.elapsed() >= QUIET {
                        return End::Lost;
                    }
                }
                Ok(Err(cause)) => {
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
            return Some(End::Lost);
        }
        let first = if bytes >= BUSY { QUIET } else { CALM };
        let trust = first.saturating_mul(TRUST.saturating_pow(self.looks));
        (silence >= trust.min(SILENCE)).then_some(End::Stale)
    }

    /// The stream is over.
    fn end(&mut self, lines: &Lines, is_newest: bool) -> End {
        if is_newest && self.cursor.is_looking() {
            // Once may be a stream that broke before it: the server ends that as if it was whole.
            if !self.is_search {
                return End::Lost;
            }
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
                    if self.give(item).await.is_err() {
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
        self.give(LogItem::Batch(batch)).await
    }

    /// Gives an item on. Where the reader has no room for it, and others wait for the stream, it is kept until the reading is
    /// over.
    async fn give(&mut self, item: LogItem) -> Result<(), ()> {
        while self.late.is_empty() {
            match timeout(SLICE, self.items.reserve()).await {
                Ok(Ok(room)) => {
                    room.send(Ok(item));
                    return Ok(());
                }
                Ok(Err(_)) => return Err(()),
                Err(_) if self.shared.streams.is_waited_for() => break,
                Err(_) => {}
            }
        }
        self.late.push_back(item);
        Ok(())
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
