//! The files of the log: `0000000001.jsonl` and so on, each with what was open when it was begun in its first line.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use paas_core::Result;
use paas_core::model::{AuditEntry, AuditId, AuditOutcome, AuditQuery, AuditRecord};
use serde::{Deserialize, Serialize};

use crate::error::file as failed;
use crate::file;

/// One line of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// The entries that were open when the file was begun.
    Open(Vec<AuditId>),
    Begin {
        id: AuditId,
        entry: AuditEntry,
    },
    End {
        id: AuditId,
        outcome: AuditOutcome,
    },
}

impl Line {
    /// Reads a line; one that makes no sense is passed over, as the rest of the log is worth more.
    pub(super) fn read(path: &Path, line: &[u8]) -> Option<Self> {
        let read = serde_json::from_slice(line);
        if let Err(error) = &read {
            tracing::warn!(path = %path.display(), %error, "a line of the audit log cannot be read");
        }
        read.ok()
    }
}

pub(super) fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:010}.jsonl"))
}

/// The files there are, oldest first.
pub(super) fn numbers(directory: &Path) -> Result<Vec<u64>> {
    let names = file::names(directory)?;
    Ok(names.iter().filter_map(|name| name.strip_suffix(".jsonl")?.parse().ok()).collect())
}

/// Entries, newest first. Memory holds one block of a file, the answer, and the outcomes whose entries come later.
pub(super) fn search(directory: &Path, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
    let mut outcomes: HashMap<AuditId, AuditOutcome> = HashMap::new();
    let mut found = Vec::new();
    for number in numbers(directory)?.into_iter().rev() {
        let mut lines = Backwards::open(&path(directory, number))?;
        while let Some(line) = lines.next()? {
            match Line::read(&lines.path, &line) {
                // The first outcome stays, which comes last here.
                Some(Line::End { id, outcome }) => drop(outcomes.insert(id, outcome)),
                Some(Line::Begin { id, entry }) => {
                    let mut record = AuditRecord::new(id, entry);
                    record.outcome = outcomes.remove(&record.id);
                    if query.matches(&record) {
                        found.push(record);
                    }
                    if found.len() == query.bounded_limit() {
                        return Ok(found);
                    }
                }
                Some(Line::Open(_)) | None => {}
            }
        }
    }
    Ok(found)
}

/// What became of an entry: `None` where there is no such entry, else whether it is closed.
pub(super) fn closed(directory: &Path, wanted: &AuditId) -> Result<Option<bool>> {
    for number in numbers(directory)?.into_iter().rev() {
        let mut lines = Backwards::open(&path(directory, number))?;
        while let Some(line) = lines.next()? {
            let text = wanted.as_str().as_bytes();
            if !line.windows(text.len()).any(|part| part == text) {
                continue;
            }
            match Line::read(&lines.path, &line) {
                Some(Line::End { id, .. }) if id == *wanted => return Ok(Some(true)),
                Some(Line::Begin { id, .. }) if id == *wanted => return Ok(Some(false)),
                _ => {}
            }
        }
    }
    Ok(None)
}

/// The whole lines of a file, last one first. What follows the last line's end is left out: it is being written, or was
/// cut off.
pub(super) struct Backwards {
    pub(super) path: PathBuf,
    file: File,
    /// Where `buffer` begins in the file.
    at: u64,
    buffer: Vec<u8>,
    started: bool,
}

const BLOCK: u64 = 64 * 1024;

impl Backwards {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (at, file) = opened.map_err(|cause| failed("read the audit log", path, cause))?;
        Ok(Self { path: path.to_owned(), file, at, buffer: Vec::new(), started: false })
    }

    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.iter().rposition(|byte| *byte == b'\n') {
                let line = self.buffer.split_off(end + 1);
                self.buffer.pop();
                if self.started {
                    return Ok(Some(line));
                }
                self.started = true;
            } else if self.at > 0 {
                self.fill()?;
            } else if self.started {
                self.started = false;
                return Ok(Some(std::mem::take(&mut self.buffer)));
            } else {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> Result<()> {
        let size = self.at.min(BLOCK);
        let mut block = vec![0; size as usize];
        self.at -= size;
        let read = self.file.read_exact_at(&mut block, self.at);
        read.map_err(|cause| failed("read the audit log", &self.path, cause))?;
        block.append(&mut self.buffer);
        self.buffer = block;
        Ok(())
    }
}
