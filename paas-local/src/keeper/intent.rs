//! What the keeper must know after a crash: `<dir>/keeper/`.
//!
//! `identity` (who we are), `life` (how often we started), `<id>.json` (intent, durable before it is acted on),
//! `<id>.run` (the newest run; only has to survive the keeper, not the machine), `listeners` (names and ports).

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::model::{Ended, ProcessSpec, check_id};

/// What one process should be.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Intent {
    pub(crate) spec: ProcessSpec,
    /// There are secrets, which are not written here.
    #[serde(default)]
    pub(crate) has_secrets: bool,
    /// It was told to stop.
    #[serde(default)]
    pub(crate) stopped: bool,
    /// A task that has ended, or a process that was stopped.
    #[serde(default)]
    pub(crate) ended: Option<Ended>,
}

impl Intent {
    pub(crate) fn of(spec: &ProcessSpec, has_secrets: bool, stopped: bool, ended: Option<Ended>) -> Self {
        Self { spec: spec.without_secrets(), has_secrets, stopped, ended }
    }
}

/// The newest run of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunNote {
    pub(crate) boot: String,
    pub(crate) incarnation: u64,
    /// 0 while it is being started.
    pub(crate) pid: i32,
    pub(crate) start: u64,
}

/// The keeper's directory.
#[derive(Debug)]
pub(crate) struct Intents {
    directory: PathBuf,
}

impl Intents {
    pub(crate) fn open(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// A name for this directory that no copy of it shares.
    pub(crate) fn identity(&self) -> io::Result<String> {
        let path = self.directory.join("identity");
        let random = match fs::read_to_string(&path) {
            Ok(text) if text.trim().len() == 16 => text.trim().to_owned(),
            _ => {
                let mut bytes = [0_u8; 8];
                rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
                let text = format!("{:016x}", u64::from_le_bytes(bytes));
                self.replace("identity", text.as_bytes())?;
                text
            }
        };
        let meta = fs::metadata(&path)?;
        Ok(format!("{random}-{:x}-{:x}", meta.dev(), meta.ino()))
    }

    /// Counts the keepers of this directory.
    pub(crate) fn next_life(&self) -> io::Result<u64> {
        let last: u64 = match fs::read_to_string(self.directory.join("life")) {
            Ok(text) => text
                .trim()
                .parse()
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "`life` is not a number"))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        self.replace("life", (last + 1).to_string().as_bytes())?;
        Ok(last + 1)
    }

    /// All stored intents, and what could not be read.
    pub(crate) fn load(&self) -> io::Result<(Vec<Intent>, Vec<String>)> {
        let (mut intents, mut troubles) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read::<Intent>(&path) {
                Ok(intent) if check_id(&intent.spec.id, "process").is_ok() => intents.push(intent),
                Ok(_) => troubles.push(format!("{}: wrong id", path.display())),
                Err(error) => troubles.push(format!("{}: {error}", path.display())),
            }
        }
        Ok((intents, troubles))
    }

    /// Stores an intent; it is on disk when this returns.
    pub(crate) fn store(&self, intent: &Intent) -> io::Result<()> {
        self.replace(&format!("{}.json", intent.spec.id), &serde_json::to_vec(intent)?)
    }

    /// Removes all that is stored of a process.
    pub(crate) fn remove(&self, id: &str) -> io::Result<()> {
        for name in [format!("{id}.json"), format!("{id}.run")] {
            match fs::remove_file(self.directory.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        File::open(&self.directory)?.sync_all()
    }

    /// Notes the newest run.
    pub(crate) fn note_run(&self, id: &str, run: &RunNote) -> io::Result<()> {
        fs::write(self.directory.join(format!("{id}.run")), serde_json::to_vec(run)?)
    }

    /// The newest run, if it was noted.
    pub(crate) fn run(&self, id: &str) -> Option<RunNote> {
        read(&self.directory.join(format!("{id}.run"))).ok()
    }

    /// Forgets the noted run, before a new generation.
    pub(crate) fn forget_run(&self, id: &str) {
        let _absent = fs::remove_file(self.directory.join(format!("{id}.run")));
    }

    /// Reads a table of this directory; an absent one is empty.
    pub(crate) fn table<T: DeserializeOwned + Default>(&self, name: &str) -> io::Result<T> {
        match read(&self.directory.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            other => other,
        }
    }

    /// Stores a table of this directory durably.
    pub(crate) fn store_table<T: Serialize>(&self, name: &str, table: &T) -> io::Result<()> {
        self.replace(name, &serde_json::to_vec(table)?)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.directory.join(format!("{name}.new"));
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, self.directory.join(name))?;
        File::open(&self.directory)?.sync_all()
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_comes_back_and_what_is_broken_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let intents = Intents::open(dir.path());
        let spec = ProcessSpec::new("web", ["sleep", "1"], "/tmp").generation(7);
        intents.store(&Intent::of(&spec, false, false, None)).unwrap();
        fs::write(dir.path().join("torn.json"), "{").unwrap();
        let (loaded, troubles) = intents.load().unwrap();
        assert_eq!(loaded.iter().map(|intent| &intent.spec).collect::<Vec<_>>(), [&spec]);
        assert_eq!(troubles.len(), 1, "{troubles:?}");
        assert_eq!((intents.next_life().unwrap(), intents.next_life().unwrap()), (1, 2));
        assert_eq!(intents.identity().unwrap(), intents.identity().unwrap());
        intents.remove("web").unwrap();
        intents.remove("web").unwrap();
        assert!(intents.load().unwrap().0.is_empty());
    }
}
