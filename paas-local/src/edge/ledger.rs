//! Which route is the latest, and the file that the edge starts from.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{ErrorKind as IoKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use paas_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use super::route::{MAX_ROUTES, Route};

/// The format of the routes file; a newer one is refused.
const VERSION: u32 = 1;
/// The most removed services remembered, so that a late write cannot bring one back.
const MAX_REMOVED: usize = 10_000;

/// A writer's position: first who leads, then its count of changes to this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stamp {
    /// The leader's epoch.
    pub epoch: u64,
    /// The service's generation.
    pub generation: u64,
}

/// A route with the stamp it came with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    #[serde(flatten)]
    pub(crate) stamp: Stamp,
    pub(crate) route: Route,
}

/// What a change asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Change,
    /// It is so already.
    Same,
}

/// All routes and the highest epoch seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    epoch: u64,
    changes: u64,
    records: BTreeMap<Arc<str>, (Arc<Record>, Arc<str>)>,
    removed: BTreeMap<Arc<str>, Stamp>,
}

impl Ledger {
    pub(crate) fn records(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.records.values().map(|(record, _)| record)
    }

    pub(crate) fn stamp(&self, service: &str) -> Option<Stamp> {
        self.records.get(service).map(|(record, _)| record.stamp)
    }

    pub(crate) fn note(&self, service: &str) -> String {
        self.records.get(service).map(|(record, _)| record.route.note.clone()).unwrap_or_default()
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a route may be set. A lower epoch is refused; within an epoch, so is a generation that is not higher,
    /// unless it says the same.
    pub(crate) fn judge(&self, stamp: Stamp, service: &str, route: Option<&Route>) -> Result<Verdict> {
        let refuse = |message: &str, known: Stamp| {
            Err(Error::conflict(message)
                .with("service", service)
                .with("epoch", stamp.epoch)
                .with("generation", stamp.generation)
                .with("known_epoch", known.epoch)
                .with("known_generation", known.generation))
        };
        let current = self.records.get(service).map(|(record, _)| record);
        let known = current.map(|record| record.stamp).or_else(|| self.removed.get(service).copied());
        if stamp.epoch < self.epoch {
            return refuse(
                "a newer leader has written",
                Stamp { epoch: self.epoch, generation: known.map_or(0, |k| k.generation) },
            );
        }
        match known {
            Some(known) if stamp.epoch == known.epoch && stamp.generation == known.generation => {
                if current.map(|record| &record.route) == route {
                    return Ok(Verdict::Same);
                }
                refuse("the generation was used for another route", known)
            }
            Some(known) if stamp < known => refuse("a newer generation was written", known),
            None if route.is_some() && self.records.len() >= MAX_ROUTES => {
                Err(Error::invalid("too many services").with("limit", MAX_ROUTES).with("service", service))
            }
            _ => Ok(Verdict::Change),
        }
    }

    /// The ledger after a change that was judged.
    pub(crate) fn with(&self, stamp: Stamp, service: &Arc<str>, route: Option<Route>) -> Result<Self> {
        let mut next = self.clone();
        next.epoch = next.epoch.max(stamp.epoch);
        next.changes += 1;
        match route {
            Some(route) => next.insert(service.clone(), Record { stamp, route })?,
            None => {
                next.records.remove(service);
                // Lower epochs are refused anyway.
                let epoch = next.epoch;
                next.removed.retain(|_, stamp| stamp.epoch >= epoch);
                if next.removed.len() >= MAX_REMOVED {
                    next.removed.pop_first();
                }
                next.removed.insert(service.clone(), stamp);
            }
        }
        Ok(next)
    }

    fn insert(&mut self, service: Arc<str>, record: Record) -> Result<()> {
        let json = serde_json::to_string(&record)
            .map_err(|e| Error::internal("cannot write a route").with_source(e))?;
        self.removed.remove(&service);
        self.records.insert(service, (Arc::new(record), json.into()));
        Ok(())
    }

    fn to_json(&self) -> Result<Vec<u8>> {
        let removed = serde_json::to_string(&self.removed)
            .map_err(|e| Error::internal("cannot write the routes").with_source(e))?;
        let size = self.records.values().map(|(_, json)| json.len() + 2).sum::<usize>() + removed.len() + 128;
        let mut out = Vec::with_capacity(size);
        let (epoch, changes) = (self.epoch, self.changes);
        out.extend_from_slice(
            format!(r#"{{"version":{VERSION},"epoch":{epoch},"changes":{changes},"routes":["#).as_bytes(),
        );
        for (i, (_, json)) in self.records.values().enumerate() {
            out.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
            out.extend_from_slice(json.as_bytes());
        }
        out.extend_from_slice(format!("\n],\"removed\":{removed}}}\n").as_bytes());
        Ok(out)
    }

    fn from_json(bytes: &[u8]) -> Result<Self> {
        let wrong =
            |error: serde_json::Error| Error::internal("cannot read the routes file").with_source(error);
        let head: Head = serde_json::from_slice(bytes).map_err(wrong)?;
        if head.version > VERSION {
            return Err(Error::new(ErrorKind::Unsupported, "the routes file was written by a newer version")
                .with("version", head.version)
                .with("known_version", VERSION));
        }
        let body: Contents = serde_json::from_slice(bytes).map_err(wrong)?;
        let mut ledger =
            Self { epoch: body.epoch, changes: body.changes, removed: body.removed, ..Self::default() };
        for record in body.routes {
            record.route.validate()?;
            ledger.insert(record.route.service.as_str().into(), record)?;
        }
        Ok(ledger)
    }
}

#[derive(Deserialize)]
struct Head {
    version: u32,
}

#[derive(Deserialize)]
struct Contents {
    epoch: u64,
    changes: u64,
    routes: Vec<Record>,
    #[serde(default)]
    removed: BTreeMap<Arc<str>, Stamp>,
}

/// The routes file: replaced as a whole, so that a crash at any moment leaves the old one or the new one.
#[derive(Debug, Clone)]
pub(crate) struct RoutesFile {
    dir: PathBuf,
    path: PathBuf,
    draft: PathBuf,
}

/// A new content that is written but not yet in force.
#[derive(Debug)]
pub(crate) struct Draft {
    file: File,
    routes: RoutesFile,
}

impl RoutesFile {
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), path: dir.join("routes.json"), draft: dir.join("routes.json.new") }
    }

    pub(crate) fn load(&self) -> Result<Ledger> {
        match fs::read(&self.path) {
            Ok(bytes) => Ledger::from_json(&bytes).map_err(|error| error.with("path", self.path.display())),
            Err(error) if error.kind() == IoKind::NotFound => Ok(Ledger::default()),
            Err(error) => Err(self.failed("cannot read the routes file", error)),
        }
    }

    /// Writes the new content beside the old one. A full disk shows here.
    pub(crate) fn draft(&self, ledger: &Ledger) -> Result<Draft> {
        let bytes = ledger.to_json()?;
        let failed = |error| self.failed("cannot write the routes file", error);
        let mut file = File::create(&self.draft).map_err(failed)?;
        file.write_all(&bytes).map_err(failed)?;
        Ok(Draft { file, routes: self.clone() })
    }

    fn failed(&self, message: &str, error: std::io::Error) -> Error {
        Error::unavailable(message).with("path", self.path.display()).with_source(error)
    }
}

impl Draft {
    /// Puts the new content in force, for good.
    pub(crate) fn commit(self) -> Result<()> {
        let failed = |error| self.routes.failed("cannot write the routes file", error);
        self.file.sync_all().map_err(failed)?;
        fs::rename(&self.routes.draft, &self.routes.path).map_err(failed)?;
        File::open(&self.routes.dir).and_then(|dir| dir.sync_all()).map_err(failed)
    }
}
