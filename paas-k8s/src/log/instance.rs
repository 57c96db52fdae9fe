//! Reads the output of one instance, through its restarts, for one reader.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use paas_core::model::{LogBatch, LogItem, LogPosition};
use paas_core::{Error, Result};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

mod reading;

use super::Shared;
use super::cursor::Cursor;
use crate::scheduler::{Output, Writer};

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
    /// The last line that was given was not there: one more reading, to the end, tells whether that is so.
    is_search: bool,
    /// What came of a line whose end did not come when it was read last.
    torn: Option<LogBatch>,
    /// What the reader had no room for while others waited for the stream.
    late: VecDeque<LogItem>,
}

/// How a reading ended.
#[derive(Debug)]
enum End {
    /// There is no output.
    Nothing,
    /// Where the output ended.
    Clean,
    /// In the middle of a line.
    Torn,
    /// Too early.
    Cut(Error),
    /// It is to begin again.
    Again,
    /// It fell silent, and is to be asked for again.
    Stale,
    /// It has not come to the last line that was given.
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
        let (follow, is_whole, looks, is_search, torn, late) = (false, true, 0, false, None, VecDeque::new());
        Self { shared, writer, view, items, follow, cursor, is_whole, looks, is_search, torn, late }
    }

    /// Reads what is there.
    pub(super) async fn read(mut self) {
        let has_ended = matches!(*self.view.borrow(), View::Here(Output::Ended(_)));
        let (mut pause, mut tries) = (FIRST_PAUSE, 1);
        loop {
            let before = self.cursor.position();
            let end = self.turn(has_ended).await;
            if self.deliver().await.is_err() {
                return;
            }
            match end {
                End::Closed | End::Nothing => return,
                // More of it is still to be written.
                End::Torn if !has_ended => return,
                End::Clean if !has_ended || self.cursor.position() == before => return,
                End::Clean | End::Turn => {}
                End::Cut(error) if tries >= TRIES => return drop(self.items.send(Err(error)).await),
                End::Cut(_) | End::Torn | End::Again | End::Stale | End::Lost => {
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
            if self.deliver().await.is_err() {
                return;
            }
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
            (End::Clean | End::Torn | End::Nothing, _) => Next::Pause,
        }
    }

    async fn changed(&mut self) -> Result<(), ()> {
        tokio::select! {
            changed = self.view.changed() => changed.map_err(drop),
            () = self.items.closed() => Err(()),
        }
    }

    /// It is gone, and with it what was not read.
    async fn leave(mut self) {
        if let Some(torn) = self.torn.take_if(|torn| self.cursor.position() == Some(torn.position)) {
            drop(self.items.send(Ok(LogItem::Batch(torn))).await);
        }
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

    /// Gives on what waits for room, for as long as that takes: it keeps no stream meanwhile.
    async fn deliver(&mut self) -> Result<(), ()> {
        while let Some(item) = self.late.pop_front() {
            self.items.send(Ok(item)).await.map_err(drop)?;
        }
        Ok(())
    }

    /// Reads the outputs that there are, while nobody else waits for a stream.
    async fn turn(&mut self, has_ended: bool) -> End {
        let shared = Arc::clone(&self.shared);
        let Some(_stream) = shared.streams.acquire().await else { return End::Closed };
        self.outputs(has_ended).await.unwrap_or_else(End::Cut)
    }
}

#[cfg(test)]
mod tests;
