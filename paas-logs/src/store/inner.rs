//! The store itself, which waits for the disk where it has to.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use paas_core::model::{LogBatch, LogOrigin, LogPosition, Resource, TenantId, Timestamp};
use paas_core::{Error, Result};

use super::Sizes;
use super::ask::Ask;
use super::files::Files;
use super::journal::{self, Frame, Journal, Synced, put_frame};
use super::lines::Encoder;
use super::pool::Pool;
use super::tenant::Tenant;
use crate::disk::Disk;
use crate::error::failed;

/// The largest batch that is taken.
const LARGEST: usize = 16 * 1024 * 1024;

/// The store itself, which waits for the disk where it has to.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) files: Arc<Files>,
    sizes: Sizes,
    pub(super) root: PathBuf,
    journal: Journal,
    tenants: RwLock<BTreeMap<TenantId, Arc<Tenant>>>,
    pub(super) encoders: Pool<Encoder>,
    /// Folders that could not be removed, of lives that are over.
    graves: Mutex<Vec<PathBuf>>,
    upkeep: Mutex<()>,
    /// Held by this process.
    _lock: Option<std::fs::File>,
}

impl Inner {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        folder: &Path,
        sizes: Sizes,
        lock: Option<std::fs::File>,
    ) -> Result<Self> {
        let root = folder.join("tenants");
        // The folders of tenants may not be synced, either.
        let made = disk.ensure_folder(&root).and_then(|()| disk.sync_folder(folder));
        let made = made.and_then(|()| disk.sync_folder(&root));
        made.map_err(|cause| failed("make a folder", &root, cause))?;
        let files = Arc::new(Files::new(Arc::clone(&disk)));
        let encoders = Pool::new(Encoder::new);
        let mut lives =
            Lives { files: Arc::clone(&files), sizes, root: root.clone(), encoders, all: BTreeMap::new() };
        lives.recover(folder)?;
        let frames = lives.recall(folder)?;
        let journal = Journal::begin(disk, folder.to_owned(), &frames)?;
        // Of two lives the later one goes on: the one before it is over, or its lines were never acknowledged.
        let tenants = lives.all.into_iter().map(|((id, _), tenant)| (id, tenant)).collect();
        Ok(Self {
            files,
            sizes,
            root,
            journal,
            tenants: RwLock::new(tenants),
            encoders: lives.encoders,
            graves: Mutex::default(),
            upkeep: Mutex::default(),
            _lock: lock,
        })
    }

    /// Writes what is long enough to segments: searches are faster there.
    pub(super) fn unburden(&self) -> Result<()> {
        self.all().iter().try_for_each(|tenant| tenant.unburden(&self.encoders))
    }

    fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Tenant>> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The life of a tenant that takes lines.
    fn living(&self, id: &TenantId) -> Arc<Tenant> {
        self.tenant(id).unwrap_or_else(|| {
            let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
            let make = || {
                Tenant::new(Arc::clone(&self.files), self.sizes, &self.root, id.clone(), self.journal.life())
            };
            Arc::clone(tenants.entry(id.clone()).or_insert_with(|| Arc::new(make())))
        })
    }

    pub(super) fn append(&self, batches: &[LogBatch]) -> Result<()> {
        if let Some(batch) = batches.iter().find(|batch| batch.buffer.len() > LARGEST) {
            return Err(Error::invalid("a batch has too many bytes")
                .with("bytes", batch.buffer.len())
                .with("most", LARGEST));
        }
        let mut rest = batches;
        while let Some(first) = rest.first() {
            let id = &first.origin.tenant;
            let own = rest.iter().take_while(|batch| batch.origin.tenant == *id).count();
            // A life that ends meanwhile takes nothing: the next does.
            while !self.append_to(&self.living(id), &rest[..own])? {}
            rest = &rest[own..];
        }
        if self.journal.length() >= self.sizes.journal {
            self.keep_up_unless_busy();
        }
        Ok(())
    }

    fn append_to(&self, tenant: &Tenant, batches: &[LogBatch]) -> Result<bool> {
        tenant.append(batches, &self.encoders, |new| {
            self.journal.write(&Frame::lines(&tenant.id, tenant.life, new))
        })
    }

    fn keep_up_unless_busy(&self) {
        let Ok(_own) = self.upkeep.try_lock() else { return };
        if self.journal.length() < self.sizes.journal {
            return;
        }
        if let Err(error) = self.shorten_journal() {
            tracing::warn!(?error, "the journal of the log store stays as long as it is");
        }
    }

    /// Begins a new journal, and settles what the old one has.
    pub(super) fn shorten_journal(&self) -> Result<()> {
        self.settle(self.journal.rotate()?)
    }

    /// Brings to segments what the journals before this one have, and removes them.
    fn settle(&self, number: u64) -> Result<()> {
        let mut synced = Vec::new();
        for tenant in self.all() {
            synced.extend(tenant.checkpoint(&self.encoders)?);
        }
        let mut graves = self.graves.lock().unwrap_or_else(PoisonError::into_inner);
        graves.iter().try_for_each(|grave| self.files.remove_folder(grave))?;
        graves.clear();
        self.files
            .disk()
            .sync_folder(&self.root)
            .map_err(|cause| failed("sync a folder", &self.root, cause))?;
        if !synced.is_empty() {
            self.journal.write(&Frame::synced(&synced))?;
        }
        self.journal.remove_before(number)
    }

    pub(super) fn retain(&self, age: Duration, bytes: u64) -> Result<()> {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let oldest = Timestamp(u64::try_from(now.saturating_sub(age).as_millis()).unwrap_or(0));
        self.all().iter().try_for_each(|tenant| tenant.retain(oldest, bytes, &self.encoders))
    }

    pub(super) fn ends(&self, resource: &Resource) -> Vec<(LogOrigin, LogPosition)> {
        match resource.tenant() {
            Some(id) => self.tenant(id).map(|tenant| tenant.ends(resource)).unwrap_or_default(),
            None => self.all().iter().flat_map(|tenant| tenant.ends(resource)).collect(),
        }
    }

    pub(super) fn purge(&self, id: &TenantId, before: Option<Timestamp>) -> Result<()> {
        let Some(tenant) = self.tenant(id) else { return Ok(()) };
        match before {
            Some(time) => tenant.forget_before(time, &self.encoders),
            None => self.forget(&tenant),
        }
    }

    fn forget(&self, tenant: &Arc<Tenant>) -> Result<()> {
        let folder = tenant.end(|| self.journal.write(&Frame::forgotten(&tenant.id, tenant.life)))?;
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        if tenants.get(&tenant.id).is_some_and(|own| Arc::ptr_eq(own, tenant)) {
            tenants.remove(&tenant.id);
        }
        drop(tenants);
        if let Err(error) = self.files.remove_folder(&folder) {
            tracing::warn!(?error, "a folder of a tenant that was forgotten stays for a while");
            self.graves.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
        }
        Ok(())
    }
}

impl Ask for Inner {
    fn asked(&self, tenant: &TenantId) -> Result<Option<Arc<Tenant>>> {
        Ok(self.tenant(tenant))
    }

    fn files(&self) -> &Files {
        &self.files
    }

    fn root(&self) -> &Path {
        &self.root
    }
}

/// The lives of a store that is being opened.
struct Lives {
    files: Arc<Files>,
    sizes: Sizes,
    root: PathBuf,
    encoders: Pool<Encoder>,
    all: BTreeMap<(TenantId, u64), Arc<Tenant>>,
}

impl Lives {
    /// Those that have folders, as far as their files are sure to outlive a crash. Of those that are over any part may be there.
    fn recover(&mut self, folder: &Path) -> Result<()> {
        let (disk, mut synced, mut over) = (self.files.disk(), HashMap::new(), HashSet::new());
        journal::read(disk, folder, |path, payload| {
            if Frame::has_lines(payload) {
                return Ok(());
            }
            match journal::said(path, payload)? {
                Frame::Synced(all) => synced.extend(all.into_iter().map(Synced::keyed)),
                Frame::Forgotten(id, life) => drop(over.insert((id, life))),
                Frame::Lines(..) | Frame::Anew => {}
            }
            Ok(())
        })?;
        let names = disk.names(&self.root).map_err(|cause| failed("list tenants", &self.root, cause))?;
        for life in names.iter().filter_map(|name| life_of(name)).filter(|life| !over.contains(life)) {
            let length = |number| Synced::of(synced.get(&life), number);
            let (id, number) = life.clone();
            let files = Arc::clone(&self.files);
            let tenant = Tenant::recover(files, self.sizes, &self.root, id, number, length)?;
            self.all.insert(life, Arc::new(tenant));
        }
        Ok(())
    }

    /// What the journals have beside that. Gives the frames that are still needed.
    fn recall(&mut self, folder: &Path) -> Result<Vec<u8>> {
        let (files, mut frames) = (Arc::clone(&self.files), Vec::new());
        journal::read(files.disk(), folder, |path, payload| {
            let is_needed = match journal::said(path, payload)? {
                Frame::Lines(id, life, batches) => self.life(id, life).recall(&batches, &self.encoders)?,
                Frame::Forgotten(id, life) => {
                    let over = self.life(id.clone(), life);
                    self.all.remove(&(id, life));
                    self.files.remove_folder(&over.end(|| Ok(()))?)?;
                    true
                }
                Frame::Synced(_) => true,
                Frame::Anew => false,
            };
            if is_needed {
                put_frame(&mut frames, payload);
            }
            Ok(())
        })?;
        self.all.values().try_for_each(|tenant| tenant.recalled())?;
        Ok(frames)
    }

    fn life(&mut self, id: TenantId, life: u64) -> Arc<Tenant> {
        let make = |id| Tenant::new(Arc::clone(&self.files), self.sizes, &self.root, id, life);
        let own = self.all.entry((id.clone(), life)).or_insert_with(|| Arc::new(make(id)));
        Arc::clone(own)
    }
}

/// The tenant and its life that a folder is named for.
pub(super) fn life_of(name: &str) -> Option<(TenantId, u64)> {
    let (id, life) = name.rsplit_once('-')?;
    Some((TenantId::new(id).ok()?, u64::from_str_radix(life, 16).ok()?))
}
