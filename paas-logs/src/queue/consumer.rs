//! Those who take lines out of a queue.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use paas_core::model::{LogGroup, LogItem};
use paas_core::port::LogConsumer;
use paas_core::{Error, Result};
use tokio::sync::{Mutex, OwnedMutexGuard, watch};

use super::Inner;
use super::groups::Mark;
use super::segment::{self, HEADER, Header, Segments};
use crate::codec::Damage;
use crate::disk::DiskFile;
use crate::error::{damaged_at, failed};
use crate::folder::blocking;
use crate::journal::{self, Format, Part};

/// A file that is read.
#[derive(Clone, Debug)]
pub(super) struct Open {
    number: u64,
    header: Header,
    file: Arc<dyn DiskFile>,
}

/// What comes next, each with the mark after it.
type Items = Vec<(LogItem, Mark)>;

impl Inner {
    /// What comes after a mark: the rest of a frame, or a gap. Nothing where the queue ends there.
    pub(super) fn after(&self, mut mark: Mark, open: &mut Option<Open>) -> Result<Items> {
        loop {
            let part = self.journal.part_after(mark.at);
            if part.start.at > mark.at {
                let after = Mark::of(&part);
                // Where a file ends, the next one may begin later.
                if let Some(bytes) = after.weight.checked_sub(mark.weight).filter(|bytes| *bytes > 0) {
                    let reason = "dropped to make room for newer lines, or taken away".into();
                    return Ok(vec![(LogItem::Gap { origin: None, bytes, reason }, after)]);
                }
                mark = after;
            }
            let offset = (mark.at - part.start.at).max(HEADER);
            if part.start.at + offset < part.end {
                if let Some(items) = self.frame(&part, offset, mark, open)? {
                    return Ok(items);
                }
            } else if part.number >= self.journal.number() {
                return Ok(Vec::new());
            } else {
                mark.at = mark.at.max(part.end);
            }
        }
    }

    /// The batches of a frame that were not given yet; `None` where its file has just gone.
    fn frame(&self, part: &Part, offset: u64, mark: Mark, open: &mut Option<Open>) -> Result<Option<Items>> {
        let path = journal::path(&self.folder, Segments::NAME, part.number);
        let broken = |cause| failed("read a file of the queue", &path, cause);
        let opened = match open.take().filter(|open| open.number == part.number) {
            Some(opened) => opened,
            None => match self.disk.open(&path) {
                Ok(file) => {
                    let length = file.length().map_err(broken)?;
                    let header = Header::read(&*file, &path, length)?.filter(|own| own.start == part.start);
                    let damage = Damage("it is not the file that belongs there");
                    let header = header.ok_or_else(|| damaged_at(&path, damage, 0))?;
                    Open { number: part.number, header, file: file.into() }
                }
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                    let is_gone = self.journal.oldest().number > part.number;
                    return if is_gone { Ok(None) } else { Err(broken(cause)) };
                }
                Err(cause) => return Err(broken(cause)),
            },
        };
        // What comes after the end may be half written, and may not be there: it is not looked at.
        let length = opened.file.length().map_err(broken)?.min(part.end - part.start.at);
        let found = segment::frame(&*opened.file, &opened.header, offset, length).map_err(broken)?;
        let read = found.and_then(|(head, payload)| Ok((head, segment::batches(&payload)?)));
        let (head, batches) = read.map_err(|damage| damaged_at(&path, damage, offset))?;
        *open = Some(opened);
        let mut after = Mark { at: head.place.at, skip: 0, weight: head.place.weight, number: part.number };
        let mut items = Vec::with_capacity(batches.len());
        for batch in batches {
            after.skip += 1;
            after.weight += batch.buffer.len() as u64;
            if mark.at != head.place.at || after.skip > mark.skip {
                items.push((LogItem::Batch(batch), after));
            }
        }
        match items.last_mut() {
            Some((_, last)) => *last = Mark { at: head.end().at, skip: 0, ..after },
            None => return Err(damaged_at(&path, Damage("a frame has too few batches"), offset)),
        }
        Ok(Some(items))
    }
}

/// One of a group. The first that asks has the lines until it is dropped.
#[derive(Debug)]
pub(super) struct Consumer {
    queue: Arc<Inner>,
    group: LogGroup,
    turn: Arc<Mutex<()>>,
    changed: watch::Receiver<()>,
    reader: Option<Reader>,
}

/// Where the consumer is that has the lines.
#[derive(Debug)]
struct Reader {
    /// After what was given.
    mark: Mark,
    /// The rest of a frame.
    ready: VecDeque<(LogItem, Mark)>,
    open: Option<Open>,
    _turn: OwnedMutexGuard<()>,
}

impl Reader {
    fn take(&mut self) -> Option<LogItem> {
        let (item, mark) = self.ready.pop_front()?;
        self.mark = mark;
        Some(item)
    }
}

impl Consumer {
    pub(super) fn new(queue: Arc<Inner>, group: LogGroup, turn: Arc<Mutex<()>>) -> Self {
        let changed = queue.changed.subscribe();
        Self { queue, group, turn, changed, reader: None }
    }

    /// Where it is, once it has its turn.
    async fn reader(&mut self) -> Result<&mut Reader> {
        if self.reader.is_none() {
            let turn = Arc::clone(&self.turn).lock_owned().await;
            let (queue, group) = (Arc::clone(&self.queue), self.group.clone());
            let mark = blocking(move || queue.committed(&group)).await?;
            self.reader = Some(Reader { mark, ready: VecDeque::new(), open: None, _turn: turn });
        }
        self.reader.as_mut().ok_or_else(|| Error::internal("a reader has no turn"))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LogConsumer for Consumer {
    async fn next(&mut self) -> Result<LogItem> {
        loop {
            self.changed.borrow_and_update();
            let queue = Arc::clone(&self.queue);
            let reader = self.reader().await?;
            if let Some(item) = reader.take() {
                return Ok(item);
            }
            let (mark, mut open) = (reader.mark, reader.open.clone());
            let work = move || queue.after(mark, &mut open).map(|items| (items, open));
            let (items, open) = blocking(work).await?;
            (reader.ready, reader.open) = (items.into(), open);
            if reader.ready.is_empty() {
                // The queue tells for as long as this has it.
                drop(self.changed.changed().await);
            }
        }
    }

    async fn commit(&mut self) -> Result<()> {
        let Some(reader) = &self.reader else { return Ok(()) };
        let (queue, group, mark) = (Arc::clone(&self.queue), self.group.clone(), reader.mark);
        blocking(move || queue.commit(&group, mark)).await
    }
}
