//! The spool: all output of all processes in segments of memory, bounded, oldest dropped first.
//!
//! Bytes go from the pipe to the segment inside the kernel (`splice`), so a keeper killed in between loses and doubles
//! nothing: what is no longer in the pipe is in the segment, which its followers hold too.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::MemfdFlags;
use rustix::io::Errno;
use rustix::pipe::SpliceFlags;

use super::record::{HEADER, Head, MAX_PAYLOAD, MIN_ROOM, RecordKind, SpoolOffset, lengths};

/// Parts of a tail that still lie in segments; more are cut off.
const MAX_PARTS: usize = 128;

/// What taking from a pipe gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// So many bytes.
    Bytes(usize),
    /// Nothing at the moment.
    Empty,
    /// All writers are gone.
    End,
}

#[derive(Debug)]
struct Segment {
    index: u64,
    memory: OwnedFd,
}

/// The last output of one process: what was copied out of freed segments, then parts of segments.
#[derive(Debug, Default)]
struct Tail {
    kept: Vec<u8>,
    parts: VecDeque<(u64, u64, usize)>,
    bytes: usize,
}

/// The writing side of the spool.
#[derive(Debug)]
pub(crate) struct Spool {
    life: u64,
    segment_bytes: u64,
    max_segments: usize,
    tail_bytes: usize,
    segments: VecDeque<Segment>,
    /// The next segment. Followers get it before anything is put into it, so no byte lies only with the keeper.
    spare: Option<Segment>,
    next_index: u64,
    at: u64,
    committed: u64,
    tails: HashMap<usize, Tail>,
    scratch: Vec<u8>,
    /// Segments made since the last look.
    fresh: Vec<u64>,
    advanced: bool,
    /// Bytes of the spool dropped because it was full, and bytes of output that found no memory.
    pub(crate) dropped: u64,
}

impl Spool {
    pub(crate) fn new(life: u64, segment_bytes: u64, total_bytes: u64, tail_bytes: usize) -> Self {
        let segment_bytes = segment_bytes.clamp(256 * 1024, 64 * 1024 * 1024).next_multiple_of(4096);
        let max_segments = usize::try_from(total_bytes / segment_bytes).unwrap_or(2).clamp(2, 200);
        Self {
            life,
            segment_bytes,
            max_segments,
            tail_bytes,
            segments: VecDeque::new(),
            spare: None,
            next_index: 0,
            at: 0,
            committed: 0,
            tails: HashMap::new(),
            scratch: Vec::with_capacity(128),
            fresh: Vec::new(),
            advanced: false,
            dropped: 0,
        }
    }

    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    pub(crate) fn segment_bytes(&self) -> u64 {
        self.segment_bytes
    }

    pub(crate) fn committed(&self) -> u64 {
        self.committed
    }

    /// The segments that exist, oldest first, with the one to come, and the index of the first.
    pub(crate) fn segments(&self) -> (u64, impl Iterator<Item = BorrowedFd<'_>>) {
        (
            self.segments.front().map_or(self.next_index, |segment| segment.index),
            self.segments.iter().chain(&self.spare).map(|s| s.memory.as_fd()),
        )
    }

    pub(crate) fn segment(&self, index: u64) -> Option<BorrowedFd<'_>> {
        let mut all = self.segments.iter().chain(&self.spare);
        all.find(|segment| segment.index == index).map(|segment| segment.memory.as_fd())
    }

    /// Makes the segment to come, so that it can be announced before it is needed.
    pub(crate) fn prepare(&mut self) -> rustix::io::Result<()> {
        if self.spare.is_none() {
            let memory = rustix::fs::memfd_create("paas-spool", MemfdFlags::CLOEXEC)?;
            self.spare = Some(Segment { index: self.next_index, memory });
            self.fresh.push(self.next_index);
        }
        Ok(())
    }

    /// Whether followers must be told before more is written.
    pub(crate) fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Whether anything was written, and which segments were made, since the last call.
    pub(crate) fn take_advance(&mut self) -> Option<Vec<u64>> {
        let news = std::mem::take(&mut self.advanced) || self.has_fresh();
        news.then(|| std::mem::take(&mut self.fresh))
    }

    /// Moves at most one record's worth from `pipe` into the spool.
    pub(crate) fn take(
        &mut self,
        slot: usize,
        head: &Head<'_>,
        pipe: BorrowedFd<'_>,
    ) -> rustix::io::Result<Taken> {
        self.make_room(HEADER + head.id.len() + 1)?;
        let (start, body) = self.begin(head)?;
        let room = usize::try_from(self.segment_bytes - body).unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD);
        let Some(segment) = self.segments.back() else { return Err(Errno::NOMEM) };
        let mut to = body;
        let spliced =
            rustix::pipe::splice(pipe, None, &segment.memory, Some(&mut to), room, SpliceFlags::NONBLOCK);
        match spliced {
            Ok(0) | Err(Errno::AGAIN | Errno::INTR) => {
                // The header that was begun must not look like payload of a shorter one later.
                rustix::fs::ftruncate(&segment.memory, start)?;
                Ok(if spliced == Ok(0) { Taken::End } else { Taken::Empty })
            }
            Ok(bytes) => {
                self.finish(start, head.id.len(), bytes)?;
                self.remember(slot, body, bytes);
                Ok(Taken::Bytes(bytes))
            }
            Err(error) => Err(error),
        }
    }

    /// Writes one record whose payload is known.
    pub(crate) fn append(&mut self, head: &Head<'_>, payload: &[u8]) -> rustix::io::Result<()> {
        self.make_room(HEADER + head.id.len() + payload.len())?;
        let (start, body) = self.begin(head)?;
        let Some(segment) = self.segments.back() else { return Err(Errno::NOMEM) };
        write_all(&segment.memory, payload, body)?;
        self.finish(start, head.id.len(), payload.len())
    }

    fn begin(&mut self, head: &Head<'_>) -> rustix::io::Result<(u64, u64)> {
        head.encode(&mut self.scratch);
        let Some(segment) = self.segments.back() else { return Err(Errno::NOMEM) };
        write_all(&segment.memory, &self.scratch, self.at)?;
        Ok((self.at, self.at + self.scratch.len() as u64))
    }

    fn finish(&mut self, start: u64, id: usize, payload: usize) -> rustix::io::Result<()> {
        let (word, whole) = lengths(id, payload);
        let Some(segment) = self.segments.back() else { return Err(Errno::NOMEM) };
        write_all(&segment.memory, &word, start)?;
        self.at = start + whole;
        self.advanced = true;
        Ok(())
    }

    fn make_room(&mut self, least: usize) -> rustix::io::Result<()> {
        let left = self.segment_bytes.saturating_sub(self.at);
        if !self.segments.is_empty() && left >= MIN_ROOM.max(least as u64) {
            return Ok(());
        }
        self.prepare()?;
        if left >= HEADER as u64 && !self.segments.is_empty() {
            let head = Head { kind: RecordKind::Pad, id: "", generation: 0, incarnation: 0, position: 0 };
            let (start, _) = self.begin(&head)?;
            self.finish(start, 0, 0)?;
        }
        self.segments.extend(self.spare.take());
        self.next_index += 1;
        self.at = 0;
        self.prepare()?;
        while self.segments.len() > self.max_segments {
            let from = self.segments.front().map_or(0, |segment| segment.index * self.segment_bytes);
            self.dropped += self.segment_bytes - self.committed.saturating_sub(from).min(self.segment_bytes);
            self.free_first();
        }
        Ok(())
    }

    /// Frees the segments that lie wholly before `offset`; an offset of another life changes nothing.
    pub(crate) fn commit(&mut self, offset: SpoolOffset) {
        let head = self.next_index.saturating_sub(1) * self.segment_bytes + self.at;
        if offset.life != self.life || offset.offset <= self.committed || self.segments.is_empty() {
            return;
        }
        self.committed = offset.offset.min(head);
        while self.segments.len() > 1
            && self
                .segments
                .front()
                .is_some_and(|first| (first.index + 1) * self.segment_bytes <= self.committed)
        {
            self.free_first();
        }
    }

    fn free_first(&mut self) {
        let Some(segment) = self.segments.front() else { return };
        for tail in self.tails.values_mut() {
            while tail.parts.front().is_some_and(|(index, ..)| *index == segment.index) {
                let Some((_, at, bytes)) = tail.parts.pop_front() else { break };
                tail.bytes -= bytes;
                append_part(&mut tail.kept, &segment.memory, at, bytes);
            }
            cut_front(&mut tail.kept, self.tail_bytes);
        }
        // A follower that still holds the descriptor must not hold the memory.
        let _best_effort = rustix::fs::ftruncate(&segment.memory, 0);
        self.segments.pop_front();
    }

    fn remember(&mut self, slot: usize, at: u64, bytes: usize) {
        let index = self.next_index - 1;
        let tail = self.tails.entry(slot).or_default();
        tail.parts.push_back((index, at, bytes));
        tail.bytes += bytes;
        while let Some((.., first)) = tail.parts.front().filter(|part| tail.bytes - part.2 >= self.tail_bytes)
        {
            // The parts alone fill the tail, so nothing older is needed.
            tail.bytes -= first;
            tail.kept = Vec::new();
            tail.parts.pop_front();
        }
        if tail.parts.len() > MAX_PARTS {
            for (index, at, length) in tail.parts.drain(..MAX_PARTS / 2) {
                tail.bytes -= length;
                if let Some(segment) = self.segments.iter().find(|segment| segment.index == index) {
                    append_part(&mut tail.kept, &segment.memory, at, length);
                }
            }
            cut_front(&mut tail.kept, self.tail_bytes);
        }
    }

    /// The last output of a process, both streams as they came.
    pub(crate) fn tail(&self, slot: usize) -> Vec<u8> {
        let Some(tail) = self.tails.get(&slot) else { return Vec::new() };
        let mut bytes = tail.kept.clone();
        for (index, at, length) in &tail.parts {
            if let Some(segment) = self.segments.iter().find(|segment| segment.index == *index) {
                append_part(&mut bytes, &segment.memory, *at, *length);
            }
        }
        cut_front(&mut bytes, self.tail_bytes);
        bytes
    }

    pub(crate) fn forget(&mut self, slot: usize) {
        self.tails.remove(&slot);
    }
}

fn append_part(to: &mut Vec<u8>, memory: &OwnedFd, at: u64, bytes: usize) {
    let start = to.len();
    to.resize(start + bytes, 0);
    let read = rustix::io::pread(memory, &mut to[start..], at).unwrap_or(0);
    to.truncate(start + read);
}

fn cut_front(bytes: &mut Vec<u8>, limit: usize) {
    let excess = bytes.len().saturating_sub(limit);
    if excess > 0 {
        bytes.drain(..excess);
        bytes.shrink_to_fit();
    }
}

fn write_all(memory: &OwnedFd, mut bytes: &[u8], mut at: u64) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(memory, bytes, at) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => {
                bytes = &bytes[written..];
                at += written as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
