//! Tenants as directories.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use paas_core::model::{Environment, Scope, Tenant, TenantId};
use paas_core::port::{Backend, Tenancy};
use paas_core::{Error, Result};

use crate::DataDir;
use crate::data_dir::Part;
use crate::error::file as failed;
use crate::file;
use paas_core::backend::Fence;

const DESCRIPTION: &str = "tenant.json";

/// Gives each tenant a directory with mode 0700, `tenants/<id>/`, whose `tenant.json` says who it is. A tenant's
/// environments share it: on one machine they are not kept apart from each other.
#[derive(Clone, Debug)]
pub struct DirectoryTenancy {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    part: Part,
    root: PathBuf,
    /// One change at a time.
    changes: Mutex<()>,
    fence: Fence,
}

impl DirectoryTenancy {
    /// Opens the directory.
    ///
    /// # Errors
    /// `Unavailable` while it is open already, and those of the disk.
    pub async fn open(data: &Arc<DataDir>) -> Result<Self> {
        let data = Arc::clone(data);
        file::blocking(move || {
            let part = data.part("tenants")?;
            let shared =
                Shared { root: part.path(), part, changes: Mutex::default(), fence: Fence::default() };
            Ok(Self { shared: Arc::new(shared) })
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        file::blocking(move || work(&shared)).await
    }
}

impl Shared {
    fn apply(&self, tenant: &Tenant) -> Result<()> {
        let _one = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.root.join(tenant.id.as_str());
        let text = serde_json::to_vec_pretty(tenant)
            .map_err(|cause| Error::internal("a tenant has no description").with_source(cause))?;
        file::ensure_dir(&directory)?;
        let description = directory.join(DESCRIPTION);
        if file::read(&description)?.as_deref() == Some(&text) {
            return Ok(());
        }
        file::replace(&description, &text)
    }

    fn list(&self) -> Result<Vec<TenantId>> {
        let ids = file::names(&self.root)?.into_iter().filter_map(|name| TenantId::new(name).ok());
        // One whose description is missing was cut off before it was made, or while it was removed.
        Ok(ids.filter(|id| self.root.join(id.as_str()).join(DESCRIPTION).exists()).collect())
    }

    fn remove(&self, tenant: &TenantId) -> Result<()> {
        let _one = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = self.root.join(tenant.as_str());
        let volumes = self.part.data().volumes().join(tenant.as_str());
        // A directory goes only while it is empty, which the kernel makes sure of.
        if remove_empty(&volumes)? == Removal::Holds {
            return Err(holds(tenant, &volumes));
        }
        let own = |name: &String| name == DESCRIPTION || name == "tenant.json.new";
        let entries = fs::read_dir(&directory).map(Iterator::count);
        let known: Vec<_> = file::names(&directory)?.into_iter().filter(own).collect();
        match entries {
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(cause) => return Err(failed("list the directory", &directory, cause)),
            Ok(count) if count > known.len() => return Err(holds(tenant, &directory)),
            Ok(_) => {}
        }
        let description = directory.join(DESCRIPTION);
        let text = file::read(&description)?;
        for name in known {
            let path = directory.join(name);
            fs::remove_file(&path).map_err(|cause| failed("remove the tenant", &path, cause))?;
        }
        if remove_empty(&directory)? == Removal::Holds {
            // Something came in between: the tenant stays.
            text.map_or(Ok(()), |text| file::replace(&description, &text))?;
            return Err(holds(tenant, &directory));
        }
        Ok(())
    }
}

#[derive(PartialEq, Eq)]
enum Removal {
    Gone,
    Holds,
}

fn remove_empty(path: &Path) -> Result<Removal> {
    match fs::remove_dir(path) {
        Ok(()) => file::sync_dir(file::parent(path)).map(|()| Removal::Gone),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => Ok(Removal::Gone),
        Err(cause) if cause.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Removal::Holds),
        Err(cause) => Err(failed("remove the directory", path, cause)),
    }
}

fn holds(tenant: &TenantId, path: &Path) -> Error {
    Error::conflict("the tenant still has something here: remove its apps and volumes first")
        .with("tenant", tenant)
        .with("path", path.display())
}

#[async_trait]
impl Backend for DirectoryTenancy {
    fn name(&self) -> &'static str {
        "directory"
    }

    async fn check(&self) -> Result<()> {
        self.run(|shared| shared.list().map(drop)).await
    }
}

#[async_trait]
impl Tenancy for DirectoryTenancy {
    async fn apply(&self, scope: &Scope, tenant: &Tenant, environments: &[Environment]) -> Result<()> {
        tenant.check_own(environments)?;
        self.shared.fence.admit(scope)?;
        let tenant = tenant.clone();
        self.run(move |shared| shared.apply(&tenant)).await
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>> {
        self.shared.fence.see(scope);
        self.run(Shared::list).await
    }

    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()> {
        self.shared.fence.admit(scope)?;
        let tenant = tenant.clone();
        self.run(move |shared| shared.remove(&tenant)).await
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use paas_core::ErrorKind;
    use paas_core::model::{
        ByteSize, Confirmation, EnvironmentId, Epoch, ServiceId, TenantName, Timestamp, Volume, VolumeName,
    };
    use paas_core::port::VolumeStore;

    use super::*;
    use crate::DirectoryVolumeStore;
    use crate::testing::{data, scope, tenant};

    fn described(id: &str, name: &str) -> Tenant {
        Tenant::new(tenant(id), TenantName::new(name).unwrap(), Timestamp(1))
    }

    #[tokio::test]
    async fn a_tenant_has_a_private_directory_until_it_is_removed() {
        let (_root, data) = data().await;
        let tenancy = DirectoryTenancy::open(&data).await.unwrap();
        tenancy.check().await.unwrap();
        for (id, name) in [("b", "bee"), ("a", "old"), ("a", "new"), ("a", "new")] {
            tenancy.apply(&scope(), &described(id, name), &[]).await.unwrap();
        }
        let path = data.tenants().join("a");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let text = fs::read(path.join(DESCRIPTION)).unwrap();
        assert_eq!(serde_json::from_slice::<Tenant>(&text).unwrap(), described("a", "new"));
        let twice = DirectoryTenancy::open(&data).await.unwrap_err();
        assert_eq!(twice.kind(), ErrorKind::Unavailable);
        drop(tenancy);
        let tenancy = DirectoryTenancy::open(&data).await.unwrap();
        assert_eq!(tenancy.list(&scope()).await.unwrap(), [tenant("a"), tenant("b")]);
        for _ in 0..2 {
            tenancy.remove(&scope(), &tenant("a")).await.unwrap();
            assert_eq!(tenancy.list(&scope()).await.unwrap(), [tenant("b")]);
        }
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_tenant_that_has_something_stays() {
        let (_root, data) = data().await;
        let tenancy = DirectoryTenancy::open(&data).await.unwrap();
        let volumes = DirectoryVolumeStore::open(&data).await.unwrap();
        tenancy.apply(&scope(), &described("a", "a"), &[]).await.unwrap();
        let (service, name) = (ServiceId::new("s").unwrap(), VolumeName::new("db").unwrap());
        let production = EnvironmentId::new("e").unwrap();
        let volume = Volume::new(tenant("a"), production, service, name, 0, ByteSize(1)).unwrap();
        volumes.apply(&scope(), &volume).await.unwrap();
        let refused = async || {
            let error = tenancy.remove(&scope(), &tenant("a")).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Conflict);
            assert_eq!(tenancy.list(&scope()).await.unwrap(), [tenant("a")]);
        };
        refused().await;
        let confirmation = Confirmation::of(volume.id.as_str());
        volumes.remove(&scope(), &tenant("a"), &volume.id, &confirmation).await.unwrap();
        let something = data.tenants().join("a").join("something");
        fs::write(&something, "x").unwrap();
        refused().await;
        fs::remove_file(something).unwrap();
        tenancy.remove(&scope(), &tenant("a")).await.unwrap();
        assert!(!data.volumes().join("a").exists());
        // The store makes the tenant's directory again where it is needed.
        volumes.apply(&scope(), &volume).await.unwrap();
        refused_after(&tenancy).await;
    }

    async fn refused_after(tenancy: &DirectoryTenancy) {
        let error = tenancy.remove(&scope(), &tenant("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }

    #[tokio::test]
    async fn a_tenant_that_was_cut_off_is_no_tenant_and_can_be_made_or_removed() {
        let (_root, data) = data().await;
        let tenancy = DirectoryTenancy::open(&data).await.unwrap();
        for again in [true, false] {
            let path = data.tenants().join("a");
            fs::create_dir(&path).unwrap();
            fs::write(path.join("tenant.json.new"), "{").unwrap();
            assert_eq!(tenancy.list(&scope()).await.unwrap(), []);
            if again {
                tenancy.apply(&scope(), &described("a", "a"), &[]).await.unwrap();
                assert_eq!(tenancy.list(&scope()).await.unwrap(), [tenant("a")]);
            }
            tenancy.remove(&scope(), &tenant("a")).await.unwrap();
            assert!(!path.exists());
        }
    }

    #[tokio::test]
    async fn a_leader_whose_term_is_over_changes_nothing() {
        let (_root, data) = data().await;
        let tenancy = DirectoryTenancy::open(&data).await.unwrap();
        let term = |epoch| scope().in_epoch(Epoch(epoch));
        tenancy.list(&term(2)).await.unwrap();
        let late = tenancy.apply(&term(1), &described("a", "a"), &[]).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Conflict);
        assert_eq!(tenancy.remove(&term(1), &tenant("a")).await.unwrap_err().kind(), ErrorKind::Conflict);
    }
}
