//! What is told of a store's files that are not as they should be.

use std::fmt;
use std::path::PathBuf;

use paas_core::model::{LogOrigin, Timestamp};

/// So much is told one by one.
const MOST: usize = 1_000;
/// So many origins of lines that are lost are named.
const ORIGINS: usize = 100;

/// What the files of a log store are like. `Display` gives a line for each finding, and a last one that sums up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStoreReport {
    /// How many files were read.
    pub files: u64,
    /// How many bytes they have.
    pub bytes: u64,
    /// How many lines stand whole in segments and in the journal; one that is in both counts twice.
    pub lines: u64,
    /// What was found, at most 1,000.
    pub findings: Vec<LogStoreFinding>,
    /// How much more was found.
    pub more: u64,
}

/// Something in a file of a log store that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStoreFinding {
    /// The file.
    pub file: PathBuf,
    /// Where in it.
    pub offset: Option<u64>,
    /// What it means for the store.
    pub severity: LogStoreSeverity,
    /// What is wrong, and what comes of it.
    pub what: String,
    /// What is lost by it, as far as that is known.
    pub loss: LogLoss,
}

/// What a finding means for a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum LogStoreSeverity {
    /// Nothing that was acknowledged is lost: a crash left it.
    Harmless,
    /// The store opens, and some lines are lost, not found, or found twice, or searches that come to them fail.
    Wrong,
    /// The store does not open.
    Fatal,
}

/// Lines that are lost, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLoss {
    /// How many bytes of the file say nothing any more.
    pub bytes: u64,
    /// How many lines at least.
    pub lines: u64,
    /// The earliest and the latest of them.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Where they were born, up to a hundred origins.
    pub origins: Vec<LogOrigin>,
}

/// What a repair did. `Display` gives a line for each file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStoreRepair {
    /// The files that were put aside, each replaced by what was whole in it.
    pub files: Vec<LogStoreRepaired>,
}

/// A damaged file that was put aside.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogStoreRepaired {
    /// The file.
    pub file: PathBuf,
    /// Where what it was is now.
    pub moved_to: PathBuf,
    /// How many lines were whole, and are kept.
    pub kept: u64,
    /// What is lost.
    pub loss: LogLoss,
}

impl LogStoreReport {
    /// The worst that was found; `None` where all is as it should be.
    #[must_use]
    pub fn worst(&self) -> Option<LogStoreSeverity> {
        self.findings.iter().map(|finding| finding.severity).max()
    }

    /// Whether nothing is wrong but what crashes leave.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.worst().is_none_or(|worst| worst == LogStoreSeverity::Harmless)
    }

    /// Takes in a finding. Of too many the harmless ones are counted only.
    pub(super) fn add(&mut self, finding: LogStoreFinding) {
        if self.findings.len() < MOST {
            self.findings.push(finding);
            return;
        }
        self.more += 1;
        let worst = |finding: &LogStoreFinding| finding.severity;
        if let Some(mildest) = self.findings.iter_mut().min_by_key(|own| worst(own))
            && worst(mildest) < worst(&finding)
        {
            *mildest = finding;
        }
    }
}

impl LogLoss {
    pub(super) fn of_bytes(bytes: u64) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// More that is lost.
    pub(super) fn add_lines(&mut self, lines: u64, first: Timestamp, last: Timestamp) {
        self.lines += lines;
        let (from, to) = self.span.unwrap_or((first, last));
        self.span = Some((from.min(first), to.max(last)));
    }

    pub(super) fn add_origin(&mut self, origin: &LogOrigin) {
        if self.origins.len() < ORIGINS && !self.origins.contains(origin) {
            self.origins.push(origin.clone());
        }
    }
}

impl fmt::Display for LogStoreSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Harmless => "harmless",
            Self::Wrong => "wrong",
            Self::Fatal => "fatal",
        })
    }
}

impl fmt::Display for LogLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes)?;
        if self.lines > 0 {
            write!(f, ", {} lines at least", self.lines)?;
        }
        if let Some((from, to)) = self.span {
            write!(f, " from {from} to {to}")?;
        }
        for (at, origin) in self.origins.iter().enumerate() {
            let LogOrigin { service, instance, stream, .. } = origin;
            let before = if at == 0 { ", of" } else { "," };
            write!(f, "{before} {service}/{instance}/{}", stream.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Display for LogStoreFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at {offset}")?;
        }
        write!(f, ": {}", self.what)?;
        if self.loss == LogLoss::default() { Ok(()) } else { write!(f, " (lost: {})", self.loss) }
    }
}

impl fmt::Display for LogStoreReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.findings.iter().try_for_each(|finding| writeln!(f, "{finding}"))?;
        if self.more > 0 {
            writeln!(f, "and {} more", self.more)?;
        }
        write!(f, "{} files, {} bytes, {} lines: ", self.files, self.bytes, self.lines)?;
        match self.worst() {
            None => f.write_str("all as it should be"),
            Some(worst) => write!(f, "{worst}"),
        }
    }
}

impl fmt::Display for LogStoreRepair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for LogStoreRepaired { file, moved_to, kept, loss } in &self.files {
            let (file, moved_to) = (file.display(), moved_to.display());
            writeln!(f, "{file}: {kept} lines are kept, lost: {loss}; it is now {moved_to}")?;
        }
        write!(f, "{} files were damaged", self.files.len())
    }
}
