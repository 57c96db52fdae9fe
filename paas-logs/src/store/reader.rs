//! A look at the files of a store that another process may have open.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use paas_core::model::{
    FieldName, LogBatch, LogBucket, LogCount, LogOrigin, LogPage, LogPosition, LogQuery, Resource, Scope,
    TenantId, Timestamp,
};
use paas_core::port::{Backend, LogStore};
use paas_core::{Error, Result};

use super::Sizes;
use super::ask::Ask;
use super::files::Files;
use super::inner::life_of;
use super::journal::{self, Frame};
use super::tenant::Tenant;
use super::{blocking, run};
use crate::disk::Disk;
use crate::disk::read_only::ReadOnly;
use crate::error::failed;

/// So often a folder is read anew whose files go while they are read.
const TRIES: usize = 10;

/// The lines of a store's folder, for tools: it changes no file, takes no lock, and does not mind a process that has the store
/// open. Cloning shares it.
///
/// Of each tenant it has what was acknowledged when it was first asked about that tenant, or at the last
/// [`refresh`](LogStoreReader::refresh), and perhaps a little more. Lines that the store forgets meanwhile are found no more, or
/// still. It holds in memory what the journal has of the tenants that it was asked about.
///
/// What it is told to store or to forget it refuses as unsupported.
#[derive(Clone, Debug)]
pub struct LogStoreReader(Arc<Look>);

#[derive(Debug)]
pub(super) struct Look {
    files: Arc<Files>,
    folder: PathBuf,
    root: PathBuf,
    tenants: Mutex<HashMap<TenantId, Arc<Tenant>>>,
}

/// What the journal has of lives, and which of them are over.
#[derive(Default)]
struct Journaled {
    batches: BTreeMap<(TenantId, u64), Vec<LogBatch>>,
    over: BTreeSet<(TenantId, u64)>,
}

impl LogStoreReader {
    pub(super) async fn open(disk: Arc<dyn Disk>, folder: PathBuf) -> Result<Self> {
        blocking(move || Ok(Self(Arc::new(Look::open(disk, folder)?)))).await
    }

    /// From now on has what is there now.
    pub fn refresh(&self) {
        self.0.refresh();
    }
}

impl Look {
    pub(super) fn open(disk: Arc<dyn Disk>, folder: PathBuf) -> Result<Self> {
        let root = folder.join("tenants");
        let files = Arc::new(Files::new(Arc::new(ReadOnly(disk))));
        files.disk().names(&root).map_err(|cause| failed("list tenants", &root, cause))?;
        Ok(Self { files, folder, root, tenants: Mutex::default() })
    }

    fn shown(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Tenant>>> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refresh(&self) {
        self.shown().clear();
        self.files.forget_all();
    }

    /// Reads anew what fails: files go, and their ends are cut off, while the store is open.
    fn again<T>(mut work: impl FnMut() -> Result<T>) -> Result<T> {
        (1..TRIES).find_map(|_| work().ok()).map_or_else(work, Ok)
    }

    fn journaled(&self, wanted: impl Fn(&TenantId) -> bool) -> Result<Journaled> {
        let mut found = Journaled::default();
        let are_there = journal::read(self.files.disk(), &self.folder, |path, payload| {
            match journal::said(path, payload)? {
                Frame::Lines(id, life, batches) if wanted(&id) => {
                    found.batches.entry((id, life)).or_default().extend(batches);
                }
                Frame::Forgotten(id, life) if wanted(&id) => {
                    found.batches.remove(&(id.clone(), life));
                    found.over.insert((id, life));
                }
                _ => {}
            }
            Ok(())
        })?;
        if !are_there {
            return Err(Error::unavailable("files of the journal go while they are read"));
        }
        Ok(found)
    }

    /// The tenants that are wanted. The journal comes first: what it has no more by then is in segments, which come after it.
    fn look(&self, wanted: impl Fn(&TenantId) -> bool) -> Result<Vec<Tenant>> {
        let mut journaled = self.journaled(&wanted)?;
        let names = self.files.disk().names(&self.root);
        let names = names.map_err(|cause| failed("list tenants", &self.root, cause))?;
        let is_one = |life: &(TenantId, u64)| wanted(&life.0) && !journaled.over.contains(life);
        let folders: BTreeSet<_> = names.iter().filter_map(|name| life_of(name)).filter(is_one).collect();
        // Of two lives the later one goes on.
        let lives: BTreeMap<TenantId, u64> = folders.iter().chain(journaled.batches.keys()).cloned().fold(
            BTreeMap::new(),
            |mut lives, (id, life)| {
                let last = lives.entry(id).or_insert(life);
                *last = life.max(*last);
                lives
            },
        );
        let one = |(id, life): (TenantId, u64)| {
            let key = (id.clone(), life);
            let (files, sizes) = (Arc::clone(&self.files), Sizes::STANDARD);
            let tenant = if folders.contains(&key) {
                Tenant::look(files, sizes, &self.root, id, life)?
            } else {
                Tenant::new(files, sizes, &self.root, id, life)
            };
            journaled.batches.remove(&key).iter().for_each(|batches| tenant.show(batches));
            Ok(tenant)
        };
        lives.into_iter().map(one).collect()
    }

    pub(super) fn ends(&self, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        match resource.tenant() {
            Some(id) => Ok(self.asked(id)?.map(|tenant| tenant.ends(resource)).unwrap_or_default()),
            None => {
                let all = Self::again(|| self.look(|_| true))?;
                Ok(all.iter().flat_map(|tenant| tenant.ends(resource)).collect())
            }
        }
    }

    /// What was shown may have been written over since, where the store could not finish a write.
    fn answer<T>(&self, work: impl Fn(&Self) -> Result<T>) -> Result<T> {
        work(self).or_else(|_| {
            self.refresh();
            work(self)
        })
    }
}

impl Ask for Look {
    fn asked(&self, id: &TenantId) -> Result<Option<Arc<Tenant>>> {
        if let Some(known) = self.shown().get(id) {
            return Ok(Some(Arc::clone(known)));
        }
        let found = Self::again(|| self.look(|own| own == id))?.pop().map(Arc::new);
        let shown = |tenant: &Arc<Tenant>| drop(self.shown().insert(id.clone(), Arc::clone(tenant)));
        found.iter().for_each(shown);
        Ok(found)
    }

    fn files(&self) -> &Files {
        &self.files
    }

    fn root(&self) -> &Path {
        &self.root
    }
}

#[async_trait]
impl Backend for LogStoreReader {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn check(&self) -> Result<()> {
        run(&self.0, |look, _| Ask::check(look)).await
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl LogStore for LogStoreReader {
    async fn append(&self, _: &Scope, _: &[LogBatch]) -> Result<()> {
        Err(Error::unsupported("append"))
    }

    async fn ends(&self, _: &Scope, resource: &Resource) -> Result<Vec<(LogOrigin, LogPosition)>> {
        let resource = resource.clone();
        run(&self.0, move |look, _| look.answer(|look| look.ends(&resource))).await
    }

    async fn search(&self, _: &Scope, query: &LogQuery) -> Result<LogPage> {
        let query = query.clone();
        run(&self.0, move |look, given_up| look.answer(|look| look.search(&query, given_up))).await
    }

    async fn histogram(&self, _: &Scope, query: &LogQuery, step: Duration) -> Result<Vec<LogBucket>> {
        let query = query.clone();
        run(&self.0, move |look, given_up| look.answer(|look| look.histogram(&query, step, given_up))).await
    }

    async fn top(
        &self,
        _: &Scope,
        query: &LogQuery,
        field: &FieldName,
        most: usize,
    ) -> Result<Vec<LogCount>> {
        let (query, field) = (query.clone(), field.clone());
        run(&self.0, move |look, given_up| look.answer(|look| look.top(&query, &field, most, given_up))).await
    }

    async fn purge(&self, _: &Scope, _: &TenantId, _: Option<Timestamp>) -> Result<()> {
        Err(Error::unsupported("purge"))
    }
}
