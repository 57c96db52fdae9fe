//! The keeper's own troubles, in a file of bounded size.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

const MAX_BYTES: u64 = 256 * 1024;

/// Writes `keeper.log`; when that is full it becomes `keeper.log.1`, so both together stay within 512 KiB.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Journal {
    pub(crate) fn open(directory: &Path) -> Self {
        let path = directory.join("keeper.log");
        let file = OpenOptions::new().create(true).append(true).open(&path).ok();
        let bytes = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        Self { path, file, bytes }
    }

    /// Notes one line; a journal that cannot be written is not worth dying for.
    pub(crate) fn note(&mut self, what: &str, detail: impl Display) {
        let time = humantime::format_rfc3339_millis(SystemTime::now());
        let mut line = format!("{time} {what}: {detail}").replace('\n', " ");
        line.truncate(line.floor_char_boundary(2048));
        line.push('\n');
        if self.bytes + line.len() as u64 > MAX_BYTES {
            let _best_effort = fs::rename(&self.path, self.path.with_extension("log.1"));
            self.file = OpenOptions::new().create(true).append(true).open(&self.path).ok();
            self.bytes = 0;
        }
        if let Some(file) = &mut self.file {
            let _best_effort = file.write_all(line.as_bytes());
            self.bytes += line.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_stays_within_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::open(dir.path());
        for _ in 0..1000 {
            journal.note("trouble", "x".repeat(1500));
        }
        let bytes: u64 =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
        assert!(bytes > MAX_BYTES && bytes <= 2 * MAX_BYTES, "{bytes}");
    }
}
