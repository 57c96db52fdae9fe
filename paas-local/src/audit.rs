//! Who did what, in append-only files.

use std::sync::Arc;

use async_trait::async_trait;
use paas_core::model::{AuditEntry, AuditId, AuditOutcome, AuditQuery, AuditRecord, IdSource, Scope};
use paas_core::port::{AuditLog, Backend};
use paas_core::{Error, Result};

use crate::DataDir;
use crate::batch::Batcher;
use crate::data_dir::Part;
use crate::file;
use log::{Log, Work};

mod log;
mod segment;
#[cfg(test)]
mod tests;

/// Longest line of the log, in bytes; a longer entry is refused.
const LINE: usize = 64 * 1024;
/// Longest reason of a failure that is kept, in bytes; a longer one is cut.
const REASON: usize = 16 * 1024;
/// Bytes after which a new file is begun.
const SEGMENT: u64 = 16 * 1024 * 1024;

/// Keeps the audit log as JSON lines in `audit/`, in files of about 16 MiB. Nothing is ever deleted or changed.
///
/// What waits at the same time shares one sync. Calls are not fenced: what a leader whose term is over has done must be
/// on record too. A summary and its entry have at most 64 KiB.
#[derive(Debug)]
pub struct FileAuditLog {
    writer: Batcher<Work>,
    part: Part,
}

impl FileAuditLog {
    /// Opens the log. A last line that a crash cut off is moved to a file of its own, `torn-…`.
    ///
    /// # Errors
    /// `Unavailable` while it is open already, and those of the disk.
    pub async fn open(data: &Arc<DataDir>, ids: IdSource) -> Result<Self> {
        Self::open_with(data, ids, SEGMENT).await
    }

    async fn open_with(data: &Arc<DataDir>, ids: IdSource, segment: u64) -> Result<Self> {
        let data = Arc::clone(data);
        file::blocking(move || {
            let part = data.part("audit")?;
            let mut log = Log::open(part.path(), ids, segment)?;
            let writer = Batcher::start("paas-audit", move |batch| log.commit(batch))?;
            Ok(Self { writer, part })
        })
        .await
    }
}

#[async_trait]
impl Backend for FileAuditLog {
    fn name(&self) -> &'static str {
        "file"
    }

    async fn check(&self) -> Result<()> {
        if !self.writer.alive() {
            return Err(Error::unavailable("the thread of the log has stopped: open the log again"));
        }
        let directory = self.part.path();
        file::blocking(move || segment::numbers(&directory).map(drop)).await
    }
}

#[async_trait]
impl AuditLog for FileAuditLog {
    async fn begin(&self, _: &Scope, entry: AuditEntry) -> Result<AuditId> {
        self.writer.run(|answer| Work::Begin(entry, answer)).await
    }

    async fn end(&self, _: &Scope, id: &AuditId, outcome: AuditOutcome) -> Result<()> {
        let outcome = match outcome {
            AuditOutcome::Failed(reason) if reason.len() > REASON => {
                AuditOutcome::Failed(format!("{}…", &reason[..reason.floor_char_boundary(REASON)]))
            }
            short => short,
        };
        let id = id.clone();
        self.writer.run(|answer| Work::End(id, outcome, answer)).await
    }

    async fn search(&self, _: &Scope, query: &AuditQuery) -> Result<Vec<AuditRecord>> {
        let (directory, query) = (self.part.path(), query.clone());
        file::blocking(move || segment::search(&directory, &query)).await
    }
}
