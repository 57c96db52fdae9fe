//! Volumes as directories.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use paas_core::model::{ByteSize, Confirmation, Scope, TenantId, Volume, VolumeId, VolumeStatus};
use paas_core::port::{Backend, VolumeStore, VolumeStoreCapabilities};
use paas_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::DataDir;
use crate::data_dir::Part;
use crate::error::file as failed;
use crate::file;
use paas_core::backend::Fence;

#[cfg(test)]
mod tests;

const DESCRIPTION: &str = "volume.json";
const CONTENT: &str = "data";
/// Where volumes go to be deleted. Ids have no dots, so it can't be a tenant's.
const TRASH: &str = ".trash";
/// Where volumes are made.
const DRAFTS: &str = ".drafts";
/// Most files that are looked at to say how much a volume holds; one with more does not say.
const COUNTED: usize = 10_000;

/// Keeps each volume in `volumes/<tenant>/<id>/`: its data in `data`, what it is in `volume.json`.
///
/// A volume appears whole or not at all, and only `remove` with its confirmation takes one away. Sizes are not enforced.
#[derive(Clone, Debug)]
pub struct DirectoryVolumeStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    root: PathBuf,
    /// One change at a time.
    changes: Mutex<()>,
    fence: Fence,
    _part: Part,
}

/// What `volume.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Description {
    schema: u32,
    volume: Volume,
}

/// Before format 2, a volume did not say in which environment it is.
const SCHEMA: u32 = 2;
/// Where a volume of format 1 is until its service is released again.
const UNKNOWN: &str = "unknown";

impl DirectoryVolumeStore {
    /// Opens the directory. The deletion of volumes whose removal was cut off goes on in a thread of its own.
    ///
    /// # Errors
    /// `Unavailable` while it is open already, and those of the disk.
    pub async fn open(data: &Arc<DataDir>) -> Result<Self> {
        let data = Arc::clone(data);
        file::blocking(move || {
            let part = data.part("volumes")?;
            let root = part.path();
            file::ensure_dir(&root.join(DRAFTS))?;
            file::ensure_dir(&root.join(TRASH))?;
            // Drafts were shown to nobody, and what is in the trash was confirmed.
            let left = [entries(&root.join(DRAFTS))?, entries(&root.join(TRASH))?].concat();
            if !left.is_empty() {
                let sweep = move || left.iter().for_each(|path| sweep(path));
                let swept = std::thread::Builder::new().name("paas-volumes".to_owned()).spawn(sweep);
                swept.map_err(|cause| Error::unavailable("no thread for a store").with_source(cause))?;
            }
            let shared = Shared { root, changes: Mutex::default(), fence: Fence::default(), _part: part };
            Ok(Self { shared: Arc::new(shared) })
        })
        .await
    }

    /// Where programs of this host find a volume, once it was applied.
    pub(crate) fn path(&self, tenant: &TenantId, id: &VolumeId) -> PathBuf {
        self.shared.path(tenant, id).join(CONTENT)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        file::blocking(move || work(&shared)).await
    }
}

fn entries(path: &Path) -> Result<Vec<PathBuf>> {
    let listed = |cause| failed("list the directory", path, cause);
    let entries = fs::read_dir(path).map_err(listed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(listed)).collect()
}

/// Deletes what nobody can see any more. What cannot be deleted now is tried again at the next start.
fn sweep(path: &Path) {
    if let Err(error) = delete(path) {
        tracing::warn!(path = %path.display(), ?error, "a removed volume is not deleted yet");
    }
}

/// Deletes a tree without following links out of it.
fn delete(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(failed("delete the removed volume", path, cause))
        }
        _ => Ok(()),
    }
}

impl Shared {
    /// Ids are checked when they are made, and have neither dots nor slashes: a path made of them stays below.
    fn path(&self, tenant: &TenantId, id: &VolumeId) -> PathBuf {
        self.root.join(tenant.as_str()).join(id.as_str())
    }

    fn apply(&self, wanted: &Volume) -> Result<VolumeStatus> {
        let _one = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(&wanted.tenant, &wanted.id);
        let Some(mut volume) = describe(&path)? else {
            if path.exists() {
                return Err(damaged(&path));
            }
            self.make(&path, wanted)?;
            return Ok(status(wanted.clone(), &path));
        };
        if volume.size < wanted.size || volume.environment != wanted.environment {
            volume.size = volume.size.max(wanted.size);
            volume.environment = wanted.environment.clone();
            file::replace(&path.join(DESCRIPTION), &text(&volume)?)?;
        }
        Ok(status(volume, &path))
    }

    /// Makes the volume aside, whole and on the disk, and then moves it to its place.
    fn make(&self, path: &Path, volume: &Volume) -> Result<()> {
        let draft = self.root.join(DRAFTS).join(file::unique()?);
        let made = || {
            let content = draft.join(CONTENT);
            for directory in [&draft, &content] {
                let made = DirBuilder::new().mode(0o700).create(directory);
                made.map_err(|cause| failed("make the volume", directory, cause))?;
            }
            file::create_new(&draft.join(DESCRIPTION), &text(volume)?)?;
            let tenant = file::parent(path);
            file::ensure_dir(tenant)?;
            let moved = fs::rename(&draft, path).or_else(|cause| match cause.kind() {
                // The tenant's directory was empty, and went with the tenant at this moment.
                io::ErrorKind::NotFound => {
                    DirBuilder::new().mode(0o700).create(tenant).and_then(|()| fs::rename(&draft, path))
                }
                _ => Err(cause),
            });
            moved.map_err(|cause| failed("make the volume", path, cause))?;
            file::sync_dir(tenant)?;
            file::sync_dir(&self.root)
        };
        made().inspect_err(|_| sweep(&draft))
    }

    fn list(&self, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        let mut found = Vec::new();
        let directory = self.root.join(tenant.as_str());
        for name in file::names(&directory)? {
            let Ok(id) = VolumeId::new(&name) else { continue };
            let path = self.path(tenant, &id);
            match describe(&path)? {
                Some(volume) => found.push(status(volume, &path)),
                // Removed since the names were read.
                None if !path.exists() => {}
                None => return Err(damaged(&path)),
            }
        }
        Ok(found)
    }

    fn remove(&self, tenant: &TenantId, id: &VolumeId) -> Result<()> {
        let path = self.path(tenant, id);
        let trash = self.root.join(TRASH).join(format!("{tenant}.{id}.{}", file::unique()?));
        {
            let _one = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
            match fs::rename(&path, &trash) {
                Ok(()) => {}
                Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(cause) => return Err(failed("remove the volume", &path, cause)),
            }
            file::sync_dir(file::parent(&path))?;
            file::sync_dir(&self.root.join(TRASH))?;
        }
        delete(&trash)
    }
}

fn text(volume: &Volume) -> Result<Vec<u8>> {
    let description = Description { schema: SCHEMA, volume: volume.clone() };
    serde_json::to_vec_pretty(&description)
        .map_err(|cause| Error::internal("a volume has no description").with_source(cause))
}

/// What a volume is; `None` where there is no description.
fn describe(path: &Path) -> Result<Option<Volume>> {
    let Some(text) = file::read(&path.join(DESCRIPTION))? else { return Ok(None) };
    let broken = |cause| damaged(path).with_source(cause);
    let mut value: Value = serde_json::from_slice(&text).map_err(broken)?;
    match value["schema"].as_u64() {
        Some(schema) if schema > SCHEMA.into() => {
            return Err(Error::invalid("a volume was written by a newer release: use that release")
                .with("path", path.display())
                .with("found", schema)
                .with("newest known", SCHEMA));
        }
        Some(1) => {
            let volume = value.get_mut("volume").and_then(Value::as_object_mut);
            volume.map(|volume| volume.insert("environment".into(), UNKNOWN.into()));
        }
        _ => {}
    }
    let read = serde_json::from_value::<Description>(value);
    read.map(|description| Some(description.volume)).map_err(broken)
}

fn damaged(path: &Path) -> Error {
    Error::internal("the description of a volume is damaged, its data is still there: put volume.json back")
        .with("path", path.display())
}

fn status(volume: Volume, path: &Path) -> VolumeStatus {
    let content = path.join(CONTENT);
    let mut status = VolumeStatus::new(volume);
    status.used = used(&content).map(ByteSize);
    status.path = content.to_str().map(str::to_owned);
    status
}

/// The bytes that files take on the disk, or `None` where there are too many files, or some that cannot be seen.
fn used(path: &Path) -> Option<u64> {
    let mut left = COUNTED;
    let mut blocks = 0;
    let mut waiting = vec![path.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).ok()? {
            left = left.checked_sub(1)?;
            let entry = entry.ok()?;
            // Of a link itself, not of what it leads to.
            let found = entry.metadata().ok()?;
            blocks += found.blocks();
            if found.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Some(blocks * 512)
}

#[async_trait]
impl Backend for DirectoryVolumeStore {
    fn name(&self) -> &'static str {
        "directory"
    }

    async fn check(&self) -> Result<()> {
        self.run(|shared| entries(&shared.root.join(TRASH)).map(drop)).await
    }
}

#[async_trait]
impl VolumeStore for DirectoryVolumeStore {
    fn capabilities(&self) -> VolumeStoreCapabilities {
        let mut capabilities = VolumeStoreCapabilities::none();
        capabilities.paths = true;
        capabilities
    }

    async fn apply(&self, scope: &Scope, volume: &Volume) -> Result<VolumeStatus> {
        self.shared.fence.admit(scope)?;
        let volume = volume.clone();
        self.run(move |shared| shared.apply(&volume)).await
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<VolumeStatus>> {
        self.shared.fence.see(scope);
        let tenant = tenant.clone();
        self.run(move |shared| shared.list(&tenant)).await
    }

    async fn remove(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        id: &VolumeId,
        confirmation: &Confirmation,
    ) -> Result<()> {
        confirmation.check(id)?;
        self.shared.fence.admit(scope)?;
        let (tenant, id) = (tenant.clone(), id.clone());
        self.run(move |shared| shared.remove(&tenant, &id)).await
    }
}
