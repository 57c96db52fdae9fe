//! The secrets of tenants, encrypted on disk.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use async_trait::async_trait;
use paas_core::model::{Scope, Secret, SecretName, SecretVersion, TenantId};
use paas_core::port::{Backend, SecretStore};
use paas_core::{Error, Result};

use crate::DataDir;
use crate::database::Database;
use crate::file;
use key::Keyring;
use paas_core::backend::Fence;

mod key;
mod table;
#[cfg(test)]
mod tests;

/// Keeps secrets in `secrets.redb`, each version encrypted with XChaCha20-Poly1305 under a key of `secret-keys/`.
///
/// A ciphertext is bound to its tenant, name, version and key: moved elsewhere, it does not open. Back up the keys apart
/// from the database; without them the secrets are lost, and a store whose keys are missing does not open.
#[derive(Clone, Debug)]
pub struct EncryptedSecretStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    database: Database,
    keys: RwLock<Keyring>,
    /// One rotation at a time.
    rotation: Mutex<()>,
    fence: Fence,
    data: Arc<DataDir>,
}

impl EncryptedSecretStore {
    /// Opens the database and its keys; the first key is made where there is neither. A rotation that was cut off is
    /// finished.
    ///
    /// # Errors
    /// `Denied` where others may read a key; `Internal` where a key is missing, has the wrong length or is another
    /// database's, and where the database is damaged; else those of the disk.
    pub async fn open(data: &Arc<DataDir>) -> Result<Self> {
        let data = Arc::clone(data);
        file::blocking(move || {
            let database = Database::open(&data.secrets())?;
            let keys = RwLock::new(Keyring::open(&data.secret_keys(), &database)?);
            let (rotation, fence) = (Mutex::default(), Fence::default());
            let shared = Shared { database, keys, rotation, fence, data };
            shared.finish_rotation()?;
            Ok(Self { shared: Arc::new(shared) })
        })
        .await
    }

    /// Makes a new key, encrypts every secret again with it, and deletes the old key. Cut off at any point, the next
    /// open or rotation finishes it. Reads and writes go on meanwhile.
    ///
    /// # Errors
    /// Those of the disk; every secret can be read all the same.
    pub async fn rotate_key(&self) -> Result<()> {
        self.run(|shared| {
            let _one = shared.rotation.lock().unwrap_or_else(PoisonError::into_inner);
            shared.finish_rotation()?;
            {
                let mut keys = shared.keys.write().unwrap_or_else(PoisonError::into_inner);
                keys.renew(&shared.data.secret_keys(), &shared.database)?;
            }
            shared.finish_rotation()
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
    /// What is left to do of a rotation.
    fn finish_rotation(&self) -> Result<()> {
        {
            // A failed commit may have named a new key all the same: the database decides which one is current.
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            if table::current(&self.database)? != Some(keys.current().0) {
                *keys = Keyring::open(&self.data.secret_keys(), &self.database)?;
            }
        }
        while table::renew(&self.database, &self.keys.read().unwrap_or_else(PoisonError::into_inner))? {}
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        keys.retire(&self.data.secret_keys(), &self.database)
    }
}

#[async_trait]
impl Backend for EncryptedSecretStore {
    fn name(&self) -> &'static str {
        "encrypted"
    }

    async fn check(&self) -> Result<()> {
        self.run(|shared| table::current(&shared.database).map(drop)).await
    }
}

#[async_trait]
impl SecretStore for EncryptedSecretStore {
    async fn put(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        value: Secret,
    ) -> Result<SecretVersion> {
        self.shared.fence.admit(scope)?;
        let (tenant, name) = (tenant.clone(), name.clone());
        self.run(move |shared| {
            let keys = shared.keys.read().unwrap_or_else(PoisonError::into_inner);
            table::put(&shared.database, &keys, &tenant, &name, &value)
        })
        .await
    }

    async fn get(
        &self,
        scope: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        version: SecretVersion,
    ) -> Result<Secret> {
        self.shared.fence.see(scope);
        let (tenant, name) = (tenant.clone(), name.clone());
        self.run(move |shared| {
            let keys = shared.keys.read().unwrap_or_else(PoisonError::into_inner);
            let found = table::get(&shared.database, &keys, &tenant, &name, version)?;
            found.ok_or_else(|| {
                Error::not_found("no such secret or version").with("secret", &name).with("version", version)
            })
        })
        .await
    }

    async fn list(&self, scope: &Scope, tenant: &TenantId) -> Result<Vec<(SecretName, SecretVersion)>> {
        self.shared.fence.see(scope);
        let tenant = tenant.clone();
        self.run(move |shared| table::list(&shared.database, &tenant)).await
    }

    async fn delete(&self, scope: &Scope, tenant: &TenantId, name: &SecretName) -> Result<()> {
        self.shared.fence.admit(scope)?;
        let (tenant, name) = (tenant.clone(), name.clone());
        self.run(move |shared| table::delete(&shared.database, &tenant, &name)).await
    }
}
