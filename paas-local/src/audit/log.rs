//! The one writer of the log.

use std::collections::{BTreeSet, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paas_core::model::{AuditEntry, AuditId, AuditOutcome, IdSource};
use paas_core::{Error, Result};

use super::LINE;
use super::segment::{self, Line};
use crate::batch::Answer;
use crate::error::file as failed;
use crate::file;

/// Most open entries that are remembered; older ones are looked up in the files.
pub(super) const OPEN: usize = 10_000;

#[derive(Debug)]
pub(super) enum Work {
    Begin(AuditEntry, Answer<AuditId>),
    End(AuditId, AuditOutcome, Answer<()>),
}

#[derive(Debug)]
pub(super) struct Log {
    directory: PathBuf,
    ids: IdSource,
    /// Bytes after which a new file is begun.
    limit: u64,
    number: u64,
    /// `None` before the first entry, and after a failure: then a new file is begun.
    segment: Option<Segment>,
    open: BTreeSet<AuditId>,
}

#[derive(Debug)]
struct Segment {
    file: File,
    path: PathBuf,
    /// Bytes that are on the disk.
    length: u64,
}

/// What a piece of work comes to once the batch is on the disk.
enum Verdict {
    Begun(Answer<AuditId>, AuditId),
    Ended(Answer<()>, Option<AuditId>),
    BeginRefused(Answer<AuditId>, Error),
    EndRefused(Answer<()>, Error),
}

impl Log {
    pub(super) fn open(directory: PathBuf, ids: IdSource, limit: u64) -> Result<Self> {
        let numbers = segment::numbers(&directory)?;
        let number = numbers.last().copied().unwrap_or(0);
        let segment = numbers.last().map(|_| Segment::open(&directory, number)).transpose()?;
        let mut log = Self { directory, ids, limit, number, segment, open: BTreeSet::new() };
        log.replay(&numbers)?;
        Ok(log)
    }

    /// Learns what is open from the newest file whose first line says what was open before it.
    fn replay(&mut self, numbers: &[u64]) -> Result<()> {
        for (at, number) in numbers.iter().enumerate().rev() {
            let whole = self.replay_from(*number)?;
            if whole || at == 0 {
                for later in &numbers[at + 1..] {
                    self.replay_from(*later)?;
                }
                return Ok(());
            }
            self.open.clear();
        }
        Ok(())
    }

    /// Whether the file's first line could be read.
    fn replay_from(&mut self, number: u64) -> Result<bool> {
        let path = segment::path(&self.directory, number);
        let read = |cause| failed("read the audit log", &path, cause);
        let mut lines = BufReader::new(File::open(&path).map_err(read)?);
        let mut line = Vec::new();
        let mut whole = false;
        while lines.read_until(b'\n', &mut line).map_err(read)? > 0 {
            match Line::read(&path, line.trim_ascii_end()) {
                Some(Line::Open(open)) => {
                    self.open = open.into_iter().collect();
                    whole = true;
                }
                Some(Line::Begin { id, .. }) => self.remember(id),
                Some(Line::End { id, .. }) => drop(self.open.remove(&id)),
                None => {}
            }
            line.clear();
        }
        Ok(whole)
    }

    fn remember(&mut self, id: AuditId) {
        self.open.insert(id);
        if self.open.len() > OPEN {
            self.open.pop_first();
        }
    }

    /// Writes a batch with one sync, then answers.
    pub(super) fn commit(&mut self, batch: &mut Vec<Work>) {
        let mut text = Vec::new();
        let mut closed = HashSet::new();
        let verdicts: Vec<_> =
            batch.drain(..).map(|work| self.decide(work, &mut text, &mut closed)).collect();
        let written = if text.is_empty() { Ok(()) } else { self.write(&text).map_err(Arc::new) };
        for verdict in verdicts {
            match (verdict, &written) {
                (Verdict::Begun(answer, id), Ok(())) => {
                    self.remember(id.clone());
                    answer.send(Ok(id));
                }
                (Verdict::Begun(answer, _), Err(cause)) => answer.send(Err(again(cause))),
                (Verdict::Ended(answer, _), Ok(())) => answer.send(Ok(())),
                // It was closed before; nothing had to be written for it.
                (Verdict::Ended(answer, None), Err(_)) => answer.send(Ok(())),
                (Verdict::Ended(answer, Some(id)), Err(cause)) => {
                    self.remember(id);
                    answer.send(Err(again(cause)));
                }
                (Verdict::BeginRefused(answer, error), _) => answer.send(Err(error)),
                (Verdict::EndRefused(answer, error), _) => answer.send(Err(error)),
            }
        }
    }

    fn decide(&mut self, work: Work, text: &mut Vec<u8>, closed: &mut HashSet<AuditId>) -> Verdict {
        match work {
            Work::Begin(entry, answer) => {
                let id = AuditId::generate(&self.ids);
                match append(text, &Line::Begin { id: id.clone(), entry }) {
                    Ok(()) => Verdict::Begun(answer, id),
                    Err(error) => Verdict::BeginRefused(answer, error),
                }
            }
            Work::End(id, outcome, answer) => match self.is_closed(&id, closed) {
                Err(error) => Verdict::EndRefused(answer, error),
                // Written by an earlier call, or by one of this batch, whose fate it shares.
                Ok(true) => Verdict::Ended(answer, closed.contains(&id).then_some(id)),
                Ok(false) => match append(text, &Line::End { id: id.clone(), outcome }) {
                    Err(error) => Verdict::EndRefused(answer, error),
                    Ok(()) => {
                        self.open.remove(&id);
                        closed.insert(id.clone());
                        Verdict::Ended(answer, Some(id))
                    }
                },
            },
        }
    }

    fn is_closed(&self, id: &AuditId, closed: &HashSet<AuditId>) -> Result<bool> {
        if closed.contains(id) {
            return Ok(true);
        }
        if self.open.contains(id) {
            return Ok(false);
        }
        let found = segment::closed(&self.directory, id)?;
        found.ok_or_else(|| Error::not_found("no such entry in the audit log").with("id", id))
    }

    fn write(&mut self, text: &[u8]) -> Result<()> {
        let mut segment = match self.segment.take() {
            Some(segment) if segment.length < self.limit => segment,
            _ => self.begin_segment()?,
        };
        let written = segment.file.write_all(text).and_then(|()| segment.file.sync_data());
        if let Err(cause) = written {
            // Takes back what came through. Where that fails too, the next file begins after a line that was cut off.
            let taken_back = segment.file.set_len(segment.length).and_then(|()| segment.file.sync_data());
            let error = failed("write the audit log", &segment.path, cause);
            if taken_back.is_ok() {
                self.segment = Some(segment);
            }
            return Err(error);
        }
        segment.length += text.len() as u64;
        self.segment = Some(segment);
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<Segment> {
        let number = self.number + 1;
        let mut header = Vec::new();
        append(&mut header, &Line::Open(self.open.iter().cloned().collect()))?;
        file::replace(&segment::path(&self.directory, number), &header)?;
        self.number = number;
        Segment::open(&self.directory, number)
    }
}

impl Segment {
    /// Opens a file to append to it, after what a crash cut off has been put aside.
    fn open(directory: &Path, number: u64) -> Result<Self> {
        let path = segment::path(directory, number);
        let opened = |cause| failed("open the audit log", &path, cause);
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(opened)?;
        let content = file::read(&path)?.unwrap_or_default();
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = &content[whole..];
        let whole = whole as u64;
        if !torn.is_empty() {
            let aside = directory.join(format!("torn-{number:010}-{}", file::unique()?));
            tracing::warn!(path = %aside.display(), "a line of the audit log was cut off and is put aside");
            file::create_new(&aside, torn)?;
            file.set_len(whole).and_then(|()| file.sync_all()).map_err(opened)?;
        }
        Ok(Self { file, path, length: whole })
    }
}

fn append(text: &mut Vec<u8>, line: &Line) -> Result<()> {
    let before = text.len();
    serde_json::to_writer(&mut *text, line)
        .map_err(|cause| Error::internal("an entry of the audit log has no text").with_source(cause))?;
    text.push(b'\n');
    if text.len() - before > LINE && !matches!(line, Line::Open(_)) {
        text.truncate(before);
        return Err(Error::invalid("the entry of the audit log is too long").with("longest", LINE));
    }
    Ok(())
}

fn again(cause: &Arc<Error>) -> Error {
    let error = Error::new(cause.kind(), cause.message());
    let error = cause.context("path").into_iter().fold(error, |error, path| error.with("path", path));
    error.with_source(Arc::clone(cause))
}
