//! Looks at every byte of a store that nobody has open.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paas_core::Result;
use paas_core::model::{LogOrigin, LogPosition, TenantId};

use super::folder::Folder;
use super::inner::life_of;
use super::journal::Synced;
use super::keep;
use super::report::{LogLoss, LogStoreFinding, LogStoreReport, LogStoreSeverity};
use super::segment::Ends;
use crate::disk::Disk;
use crate::error::failed;

pub(super) mod journal;
pub(super) mod segment;

/// What was found in a file.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) bytes: u64,
    pub(super) lines: u64,
    pub(super) findings: Vec<LogStoreFinding>,
}

impl Checked {
    /// Whether it is to be replaced by what is whole in it.
    pub(super) fn is_damaged(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity > LogStoreSeverity::Harmless)
    }

    fn find(
        &mut self,
        severity: LogStoreSeverity,
        file: &Path,
        offset: Option<u64>,
        what: impl Into<String>,
        loss: LogLoss,
    ) {
        let (file, what) = (file.to_owned(), what.into());
        self.findings.push(LogStoreFinding { file, offset, severity, what, loss });
    }
}

impl LogStoreReport {
    fn take(&mut self, checked: Checked) {
        self.files += 1;
        self.bytes += checked.bytes;
        self.lines += checked.lines;
        checked.findings.into_iter().for_each(|finding| self.add(finding));
    }
}

/// What the journal has of lives.
#[derive(Debug, Default)]
pub(super) struct Journaled {
    /// Up to where it has the origins of each.
    pub(super) ends: BTreeMap<(TenantId, u64), Ends>,
    /// Those that are over: their folders go when the store is opened.
    over: BTreeSet<(TenantId, u64)>,
    /// Of which open segment how much was synced.
    synced: BTreeMap<(TenantId, u64), Synced>,
}

/// What the journal has of a life.
#[derive(Debug, Default)]
pub(super) struct OfLife {
    /// Up to where it has the origins.
    ends: Ends,
    /// How much of the open segment was synced.
    synced: Option<Synced>,
}

/// The folders of lives that are not over, and what the journal has of them.
pub(super) fn lives(
    disk: &dyn Disk,
    folder: &Path,
    mut journaled: Journaled,
) -> Result<Vec<(PathBuf, OfLife)>> {
    let root = folder.join("tenants");
    let names = names(disk, folder, &root)?;
    let lives = names.iter().filter_map(|name| Some((name, life_of(name)?)));
    let lives: Vec<_> = lives.filter(|(_, life)| !journaled.over.contains(life)).collect();
    let mut of = |life| OfLife {
        ends: journaled.ends.remove(&life).unwrap_or_default(),
        synced: journaled.synced.remove(&life),
    };
    Ok(lives.into_iter().map(|(name, life)| (root.join(name), of(life))).collect())
}

/// The names in the folder of tenants: none where a crash came before it was made.
fn names(disk: &dyn Disk, folder: &Path, root: &Path) -> Result<Vec<String>> {
    disk.names(folder).map_err(|cause| failed("list the files", folder, cause))?;
    match disk.names(root) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.map_err(|cause| failed("list tenants", root, cause)),
    }
}

/// Looks at all files of a store.
pub(super) fn store(disk: &dyn Disk, folder: &Path) -> Result<LogStoreReport> {
    let mut report = LogStoreReport::default();
    let mut journaled = Journaled::default();
    for path in journal::files(disk, folder)? {
        report.take(journal::check(disk, &path, &mut journaled)?);
    }
    let root = folder.join("tenants");
    for name in names(disk, folder, &root)?.iter().filter(|name| life_of(name).is_none()) {
        let mut checked = Checked::default();
        let what = "this is no folder of a tenant, and is not looked at";
        checked.find(LogStoreSeverity::Harmless, &root.join(name), None, what, LogLoss::default());
        report.take(checked);
    }
    for (life, journaled) in lives(disk, folder, journaled)? {
        check_life(disk, &life, &journaled, &mut report)?;
    }
    Ok(report)
}

fn check_life(disk: &dyn Disk, folder: &Path, journaled: &OfLife, report: &mut LogStoreReport) -> Result<()> {
    report.take(check_kept(disk, folder)?);
    let Ok(found) = Folder::list(disk, folder) else { return Ok(()) };
    let mut lasts = Lasts::default();
    for path in found.sealed.values().chain(found.open.values()) {
        let (checked, spans) = segment::check(disk, path, journaled)?;
        report.take(checked);
        report.take_twice(&mut lasts, path, spans);
    }
    let is_there = |number: &u64| found.sealed.contains_key(number) || found.open.contains_key(number);
    for number in found.kept.floors.keys().filter(|number| !is_there(number)) {
        let mut checked = Checked::default();
        let path = folder.join(format!("{number:010}.sealed"));
        checked.find(LogStoreSeverity::Wrong, &path, None, "this segment is missing", LogLoss::default());
        report.take(checked);
    }
    Ok(())
}

/// Looks at what outlives forgotten lines.
pub(super) fn check_kept(disk: &dyn Disk, folder: &Path) -> Result<Checked> {
    let mut checked = Checked::default();
    if let Err(error) = keep::read(disk, folder) {
        if error.kind() != paas_core::ErrorKind::Internal {
            return Err(error);
        }
        let what = "it is damaged: what was forgotten may come back, and be stored again";
        let path = folder.join(keep::NAME);
        checked.find(LogStoreSeverity::Fatal, &path, None, what, LogLoss::default());
    }
    Ok(checked)
}

/// From where to where a segment has lines of each origin.
pub(super) type Spans = BTreeMap<Arc<LogOrigin>, (LogPosition, LogPosition)>;

/// The last line of each origin in the segments before, and in which it is.
#[derive(Default)]
struct Lasts(BTreeMap<Arc<LogOrigin>, (LogPosition, PathBuf)>);

impl LogStoreReport {
    /// An origin's lines come in order, so no segment begins with what one before it has.
    fn take_twice(&mut self, lasts: &mut Lasts, path: &Path, spans: Spans) {
        for (origin, (first, last)) in spans {
            if let Some((before, other)) = lasts.0.get(&origin)
                && first <= *before
            {
                let mut loss = LogLoss::default();
                loss.add_origin(&origin);
                let what = format!("it may have lines that {} has, too", other.display());
                let (severity, file) = (LogStoreSeverity::Wrong, path.to_owned());
                self.add(LogStoreFinding { file, offset: None, severity, what, loss });
            }
            let known = lasts.0.entry(origin).or_insert_with(|| (last, path.to_owned()));
            if last > known.0 {
                *known = (last, path.to_owned());
            }
        }
    }
}
