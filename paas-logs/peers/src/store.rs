//! What it takes to keep lines and to find them, beside tantivy and chDB.

use std::path::Path;

use paas_core::model::LogBatch;
use tempfile::TempDir;

use crate::clock::{Taken, over_and_over, processor};
use crate::corpus::{FREQUENT, tenant};
use crate::line::{Goal, alone, beside, ignored};
use crate::ours::Ours;
use crate::peer::chdb::Chdb;
use crate::peer::tantivy::{Commit, Tantivy};

/// How often all lines are stored.
const INGESTS: usize = 3;
/// How often each question is asked of all in turn.
const ROUNDS: usize = 7;

/// What is asked of the largest tenant's lines.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    /// The newest hundred.
    Newest,
    /// Those with a word that one line has.
    Rare(String),
    /// How many have a word that one of a hundred has.
    Count,
}

/// A store that holds the lines.
pub(crate) trait Store {
    /// How many lines are found, or counted.
    fn answer(&mut self, question: &Question) -> usize;

    /// What an answer takes where it was asked for just before.
    fn taken(&mut self, question: &Question) -> Taken {
        over_and_over(|| self.answer(question))
    }
}

/// The bytes of all files below a folder.
fn size(folder: &Path) -> u64 {
    let own = |entry: std::fs::DirEntry| match entry.metadata().unwrap() {
        meta if meta.is_dir() => size(&entry.path()),
        meta => meta.len(),
    };
    std::fs::read_dir(folder).unwrap().map(Result::unwrap).map(own).sum()
}

fn bytes(batches: &[LogBatch]) -> f64 {
    batches.iter().map(|batch| batch.buffer.len()).sum::<usize>() as f64
}

/// On the disk that the checkout is on: what is in memory only is never synced.
fn folder() -> TempDir {
    tempfile::tempdir_in(".").unwrap()
}

pub(crate) fn ingest(batches: &[LogBatch]) {
    let bytes = bytes(batches);
    let [mut own, mut each, mut once] = [const { Vec::new() }; 3];
    for _ in 0..INGESTS {
        let folder = folder();
        let measured = |name: &str, fill: &dyn Fn(&Path)| {
            let mut folder = folder.path().join(name);
            let (used, ()) = processor(|| fill(&folder));
            if name == "ours" {
                folder = Ours::open(&folder).settle(&folder);
            }
            (bytes / 1e6 / used, size(&folder) as f64 / bytes)
        };
        own.push(measured("ours", &|folder| Ours::fill(folder, batches)));
        each.push(measured("each", &|folder| Tantivy::fill(folder, batches, Commit::Each)));
        once.push(measured("once", &|folder| Tantivy::fill(folder, batches, Commit::Once)));
    }
    let both = |of: fn(&(f64, f64)) -> f64, peer: &[(f64, f64)]| {
        own.iter().map(of).zip(peer.iter().map(of)).collect::<Vec<_>>()
    };
    alone("ingest: a sync for each batch, MB/CPU-s", own.iter().map(|own| own.0), Goal::AtLeast(130.0));
    beside("  beside tantivy, a commit for each batch", &both(|own| own.0, &each), Goal::None);
    beside("  beside tantivy, one commit at the end", &both(|own| own.0, &once), Goal::None);
    alone("ingest: bytes on disk for each byte", own.iter().map(|own| own.1), Goal::AtMost(0.25));
    beside("  beside tantivy, a commit for each batch", &both(|own| own.1, &each), Goal::None);
    beside("  beside tantivy, one commit at the end", &both(|own| own.1, &once), Goal::None);
}

/// An id that one line of the largest tenant has, a third of the way through.
fn rare(batches: &[LogBatch]) -> String {
    let own: Vec<_> = batches.iter().filter(|batch| batch.origin.tenant == tenant(0)).collect();
    let mut lines = own[own.len() / 3].lines();
    let words = lines.find_map(|line| {
        let line = String::from_utf8_lossy(line.bytes).into_owned();
        let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
        let is_id = |word: &&str| word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        words.find(is_id).map(str::to_owned)
    });
    words.unwrap()
}

/// All that are asked.
struct Asked {
    ours: Ours,
    tantivy: Tantivy,
    chdb: Result<Chdb, String>,
}

pub(crate) fn queries(batches: &[LogBatch]) {
    let folder = folder();
    let [ours, tantivy] = ["ours", "tantivy"].map(|name| folder.path().join(name));
    Ours::fill(&ours, batches);
    let own = Ours::open(&ours);
    Tantivy::fill(&tantivy, batches, Commit::Once);
    let chdb = Chdb::fill(folder.path(), batches);
    let mut asked = Asked { ours: own, tantivy: Tantivy::open(&tantivy), chdb };
    let own = batches.iter().filter(|own| own.origin.tenant == tenant(0));
    let lines: usize = own.map(|own| own.starts.len()).sum();
    asked.measure("newest 100", &Question::Newest, 0.2);
    asked.measure("a rare word", &Question::Rare(rare(batches)), 0.3);
    asked.measure(&format!("count of `{FREQUENT}` in {lines} lines"), &Question::Count, 25.0);
    let name = "queries: bytes on disk for each byte, beside chDB";
    match &asked.chdb {
        Ok(chdb) => {
            let folders = [&asked.ours.settle(&ours), &chdb.folder];
            let [own, peer] = folders.map(|folder| size(folder) as f64 / bytes(batches));
            beside(name, &[(own, peer)], Goal::None);
        }
        Err(reason) => ignored(name, Goal::None, reason),
    }
}

impl Asked {
    /// Asks all in turn; what somebody waits for ours is held against the goal.
    fn measure(&mut self, name: &str, question: &Question, goal: f64) {
        let found = self.ours.answer(question);
        assert_eq!(self.tantivy.answer(question), found, "{name}");
        if let Ok(chdb) = &mut self.chdb {
            assert_eq!(chdb.answer(question), found, "{name}");
        }
        let [mut ours, mut tantivy, mut chdb] = [const { Vec::new() }; 3];
        for _ in 0..ROUNDS {
            ours.push(self.ours.taken(question));
            tantivy.push(self.tantivy.taken(question));
            chdb.extend(self.chdb.as_mut().ok().map(|peer| peer.taken(question)));
        }
        let name = format!("queries: {name}, ms");
        alone(&name, ours.iter().map(|ours| ours.waited), Goal::AtMost(goal));
        told("tantivy", &ours, &tantivy);
        match &self.chdb {
            Ok(_) => told("chDB", &ours, &chdb),
            Err(reason) => ignored("  beside chDB", Goal::None, reason),
        }
    }
}

fn told(peer: &str, ours: &[Taken], theirs: &[Taken]) {
    let both = |of: fn(&Taken) -> f64| ours.iter().map(of).zip(theirs.iter().map(of)).collect::<Vec<_>>();
    beside(&format!("  beside {peer}"), &both(|taken| taken.waited), Goal::None);
    beside(&format!("  beside {peer}, of a processor"), &both(|taken| taken.processor), Goal::None);
}
