//! Looks at a file of the journal.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use paas_core::Result;

use super::super::journal::{self, Frame, Synced};
use super::super::report::{LogLoss, LogStoreSeverity};
use super::super::segment::extend;
use super::{Checked, Journaled};
use crate::disk::Disk;

/// What a file of the journal has.
pub(in crate::store) struct Walked {
    pub(in crate::store) content: Vec<u8>,
    /// Where the payloads of frames begin and end that are whole, and can be read.
    pub(in crate::store) whole: Vec<(usize, usize)>,
    /// Where frames begin and end that are whole, and cannot be read.
    strange: Vec<(usize, usize)>,
    /// Where something begins and ends that is no frame.
    broken: Vec<(usize, usize)>,
}

pub(in crate::store) fn files(disk: &dyn Disk, folder: &Path) -> Result<Vec<PathBuf>> {
    let numbers = journal::counting(disk, folder)?;
    Ok(numbers.into_iter().map(|number| journal::path(folder, number)).collect())
}

/// Reads a file from its beginning to its end, whatever is in between.
///
/// Where the head of a frame is damaged, what comes after it is not looked for: whatever somebody writes to a log may look like
/// a frame of any tenant's.
pub(in crate::store) fn walk(disk: &dyn Disk, path: &Path, mut each: impl FnMut(Frame)) -> Result<Walked> {
    let content = journal::content(disk, path)?.unwrap_or_default();
    let (mut whole, mut strange, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    while at < content.len() {
        let Some((payload, rest)) = journal::frame(&content[at..]) else {
            let end = said_end(&content, at);
            broken.push((at, end));
            at = end;
            continue;
        };
        let end = content.len() - rest.len();
        match Frame::of_bytes(payload) {
            Ok(frame) => {
                whole.push((end - payload.len(), end));
                each(frame);
            }
            Err(_) => strange.push((at, end)),
        }
        at = end;
    }
    Ok(Walked { content, whole, strange, broken })
}

/// Where a frame ends whose payload is not whole, if another one begins there; or else the end of all.
fn said_end(content: &[u8], at: usize) -> usize {
    let said = || {
        let length = u32::from_le_bytes(*content.get(at..)?.first_chunk()?);
        let end = at.checked_add(journal::HEAD)?.checked_add(length as usize)?;
        journal::frame(content.get(end..)?).map(|_| end)
    };
    said().unwrap_or(content.len())
}

/// Whether something after a place looks like a frame.
fn is_one_after(content: &[u8], at: usize) -> bool {
    let looks_like_one = |rest: &[u8]| {
        // Its kind, and how long the id of its tenant is.
        matches!(rest.get(journal::HEAD..), Some([1..=3, 1..=64, ..])) && journal::frame(rest).is_some()
    };
    (at + 1..content.len()).any(|from| looks_like_one(&content[from..]))
}

pub(in crate::store) fn check(disk: &dyn Disk, path: &Path, journaled: &mut Journaled) -> Result<Checked> {
    let (mut checked, mut lines) = (Checked::default(), 0);
    let walked = walk(disk, path, |frame| {
        lines += self::lines(&frame);
        match frame {
            Frame::Lines(id, life, batches) => {
                let ends = journaled.ends.entry((id, life)).or_default();
                for batch in &batches {
                    extend(ends, [(Arc::new(batch.origin.clone()), batch.end())]);
                }
            }
            Frame::Forgotten(id, life) => drop(journaled.over.insert((id, life))),
            Frame::Synced(all) => journaled.synced.extend(all.into_iter().map(Synced::keyed)),
            Frame::Anew => {}
        }
    })?;
    (checked.bytes, checked.lines) = (walked.content.len() as u64, lines);
    for (at, end) in &walked.strange {
        let what = "a frame that cannot be read: a store of a later version may have written it";
        let loss = LogLoss::of_bytes((end - at) as u64);
        checked.find(LogStoreSeverity::Fatal, path, Some(*at as u64), what, loss);
    }
    for (at, end) in &walked.broken {
        let at = *at;
        if *end == walked.content.len() && !is_one_after(&walked.content, at) {
            let what = "its end was not written whole, and was not acknowledged";
            checked.find(LogStoreSeverity::Harmless, path, Some(at as u64), what, LogLoss::default());
        } else {
            let what = "no frame stands here, and what comes after it is not read: it was not acknowledged, or the file is damaged";
            let loss = LogLoss::of_bytes((end - at) as u64);
            checked.find(LogStoreSeverity::Wrong, path, Some(at as u64), what, loss);
        }
    }
    Ok(checked)
}

/// What is lost of a file of which only whole frames are kept.
pub(in crate::store) fn loss(walked: &Walked) -> LogLoss {
    let gone = walked.strange.iter().chain(&walked.broken).map(|(at, end)| (end - at) as u64);
    LogLoss::of_bytes(gone.sum())
}

/// How many lines a frame has.
pub(in crate::store) fn lines(frame: &Frame) -> u64 {
    match frame {
        Frame::Lines(_, _, batches) => batches.iter().map(|batch| batch.starts.len() as u64).sum(),
        Frame::Forgotten(..) | Frame::Synced(_) | Frame::Anew => 0,
    }
}
