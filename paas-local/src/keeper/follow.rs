//! Following the spool: from memory that the follower holds itself, across the deaths of keepers.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::OwnedFd;

use bytes::{Bytes, BytesMut};
use paas_core::{Error, Result};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

use super::client::Keeper;
use super::record::{HEADER, Parsed, SpoolItem, SpoolOffset, parse};
use super::wire::{Answer, Ask};

const BLOCK: usize = 256 * 1024;

/// One keeper's spool, as far as it was shared.
#[derive(Debug)]
struct View {
    life: u64,
    segment_bytes: u64,
    segments: BTreeMap<u64, OwnedFd>,
    bell: Receiver,
    more: mpsc::UnboundedReceiver<(u64, OwnedFd)>,
    lost: bool,
}

/// Reads the spool in order.
#[derive(Debug)]
pub(crate) struct Follower {
    keeper: Keeper,
    at: Option<SpoolOffset>,
    view: Option<View>,
    items: VecDeque<SpoolItem>,
}

impl Follower {
    pub(crate) fn new(keeper: Keeper, from: Option<SpoolOffset>) -> Self {
        Self { keeper, at: from, view: None, items: VecDeque::new() }
    }

    /// The next item; `None` after the keeper was shut down.
    pub(crate) async fn next(&mut self) -> Option<Result<SpoolItem>> {
        loop {
            if let Some(item) = self.items.pop_front() {
                return Some(Ok(item));
            }
            let Some(view) = self.view.as_mut() else {
                match self.join().await {
                    Ok(()) => continue,
                    Err(error) if error.context("keeper") == Some("closed") => return None,
                    Err(error) => return Some(Err(error)),
                }
            };
            while let Ok((index, segment)) = view.more.try_recv() {
                view.segments.insert(index, segment);
            }
            let lost = view.lost;
            if self.read(false) {
                continue;
            }
            if !lost {
                self.wait().await;
            } else if let Err(error) = self.rejoin().await {
                if error.context("keeper") != Some("closed") {
                    return Some(Err(error));
                }
                // Nobody writes any more.
                return if self.read(true) { self.items.pop_front().map(Ok) } else { None };
            }
        }
    }

    async fn wait(&mut self) {
        let Some(view) = self.view.as_mut() else { return };
        let more = tokio::select! {
            more = view.more.recv() => more,
            _ = view.bell.readable() => {
                let mut rings = [0; 256];
                loop {
                    match view.bell.try_read(&mut rings) {
                        // The keeper is gone, and the connection will say so.
                        Ok(0) => break view.more.recv().await,
                        Ok(count) if count == rings.len() => {}
                        // The bell is shared: somebody else may have emptied it.
                        Ok(_) | Err(_) => return,
                    }
                }
            }
        };
        match more {
            Some((index, segment)) => drop(view.segments.insert(index, segment)),
            None => view.lost = true,
        }
    }

    /// The spool of the keeper that serves now, where to begin, and what was committed.
    async fn open(&self) -> Result<(View, SpoolOffset, u64)> {
        let reply = self.keeper.ask(Ask::Follow).await?;
        let unfit = || Error::internal("the keeper's answer does not fit the question");
        let (Answer::Spool { life, segment_bytes, first, committed }, Some(more)) =
            (reply.answer, reply.segments)
        else {
            return Err(unfit());
        };
        let mut descriptors = reply.descriptors.into_iter();
        let bell = descriptors.next().ok_or_else(unfit)?;
        let bell = Receiver::from_owned_fd(bell)
            .map_err(|error| Error::unavailable("cannot wait for the spool").with_source(error))?;
        let segments: BTreeMap<u64, OwnedFd> = (first..).zip(descriptors).collect();
        let view = View { life, segment_bytes, segments, bell, more, lost: false };
        // What was committed may lie before what is still there.
        Ok((view, SpoolOffset { life, offset: committed.max(first * segment_bytes) }, committed))
    }

    async fn join(&mut self) -> Result<()> {
        let (view, start, committed) = self.open().await?;
        match self.at {
            Some(at) if at.life == view.life => {
                let oldest =
                    view.segments.keys().next().map_or(at.offset, |first| first * view.segment_bytes);
                if oldest > at.offset {
                    let to = SpoolOffset { life: at.life, offset: oldest };
                    self.items.push_back(SpoolItem::Gap { from: at, to, bytes: Some(oldest - at.offset) });
                    self.at = Some(to);
                }
            }
            // An earlier keeper died with its memory while we were away.
            Some(at) => {
                self.items.push_back(SpoolItem::Gap { from: at, to: start, bytes: None });
                self.at = Some(start);
            }
            None => {
                let from = SpoolOffset { offset: committed, ..start };
                if start > from {
                    let bytes = Some(start.offset - from.offset);
                    self.items.push_back(SpoolItem::Gap { from, to: start, bytes });
                }
                self.at = Some(start);
            }
        }
        self.view = Some(view);
        Ok(())
    }

    /// After the connection was lost: the same keeper still, or the next one.
    async fn rejoin(&mut self) -> Result<()> {
        let (view, ..) = self.open().await?;
        let Some(old) = self.view.as_mut() else { return Ok(()) };
        if old.life == view.life {
            let kept = std::mem::replace(old, view);
            // Segments that were freed meanwhile read as empty, and count as a gap.
            for (index, segment) in kept.segments {
                old.segments.entry(index).or_insert(segment);
            }
            return Ok(());
        }
        // The old keeper is dead: read to the very end of what it left.
        let mut before = None;
        while before != self.at {
            before = self.at;
            self.read(false);
        }
        self.read(true);
        // A new keeper's followers may have been slow to come, too: then its first segments are gone.
        let oldest = view.segments.keys().next().copied().unwrap_or(0) * view.segment_bytes;
        let begin = SpoolOffset { life: view.life, offset: 0 };
        let start = SpoolOffset { offset: oldest, ..begin };
        if oldest > 0 {
            self.items.push_back(SpoolItem::Gap { from: begin, to: start, bytes: Some(oldest) });
        }
        self.at = Some(start);
        self.view = Some(view);
        Ok(())
    }

    /// Reads a block and takes its records apart; whether that gave anything. With `unfinished`, the last record of a
    /// dead keeper counts.
    fn read(&mut self, unfinished: bool) -> bool {
        let (Some(view), Some(at)) = (self.view.as_mut(), self.at.as_mut()) else { return false };
        loop {
            let index = at.offset / view.segment_bytes;
            let place = at.offset % view.segment_bytes;
            view.segments = view.segments.split_off(&index);
            // One segment ahead is always there, and still empty.
            let newest = !view.segments.iter().any(|(other, segment)| *other > index && size(segment) > 0);
            let block =
                view.segments.get(&index).map(|segment| read_block(segment, place)).unwrap_or_default();
            let (used, ended) = take_apart(&block, *at, unfinished && newest, &mut self.items);
            at.offset += used as u64;
            let next = SpoolOffset { life: at.life, offset: (index + 1) * view.segment_bytes };
            if ended {
                *at = next;
            } else if used == 0 {
                if newest {
                    return !self.items.is_empty();
                }
                // A newer segment exists, so this one was complete: what can't be read was dropped.
                let bytes = next.offset - at.offset;
                if bytes >= HEADER as u64 {
                    push_gap(&mut self.items, *at, next, bytes);
                }
                *at = next;
                continue;
            }
            if !self.items.is_empty() {
                return true;
            }
        }
    }
}

fn push_gap(items: &mut VecDeque<SpoolItem>, from: SpoolOffset, to: SpoolOffset, bytes: u64) {
    if let Some(SpoolItem::Gap { to: end, bytes: Some(sum), .. }) = items.back_mut()
        && *end == from
    {
        *end = to;
        *sum += bytes;
        return;
    }
    items.push_back(SpoolItem::Gap { from, to, bytes: Some(bytes) });
}

fn take_apart(
    block: &Bytes,
    base: SpoolOffset,
    unfinished: bool,
    items: &mut VecDeque<SpoolItem>,
) -> (usize, bool) {
    let mut used = 0;
    while used < block.len() {
        match parse(block, used, base, unfinished) {
            Parsed::Record { record, whole } => {
                // The padding of the last record may not be there.
                used += whole;
                items.push_back(SpoolItem::Record(record));
            }
            Parsed::End => return (used, true),
            Parsed::Nothing | Parsed::Short => break,
        }
    }
    (used, false)
}

fn read_block(segment: &OwnedFd, place: u64) -> Bytes {
    let mut block =
        BytesMut::zeroed(BLOCK.min(usize::try_from(size(segment).saturating_sub(place)).unwrap_or(BLOCK)));
    let read = rustix::io::pread(segment, &mut block[..], place).unwrap_or(0);
    block.truncate(read);
    // Cut off while we read: zeros may have come instead of bytes.
    if size(segment) < place + read as u64 { Bytes::new() } else { block.freeze() }
}

fn size(segment: &OwnedFd) -> u64 {
    rustix::fs::fstat(segment).map_or(0, |stat| stat.st_size.unsigned_abs())
}
