//! Secrets in a sorted map.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::model::{Scope, Secret, SecretName, SecretVersion, TenantId};
use crate::port::SecretStore;
use crate::{Error, Result};

/// Keeps secrets in memory, in the clear; they are gone with the last handle.
#[derive(Clone, Debug, Default)]
pub struct MemorySecretStore {
    secrets: Arc<Mutex<BTreeMap<(TenantId, SecretName), Held>>>,
}

/// The newest version outlives the values, so that none comes twice.
#[derive(Debug, Default)]
struct Held {
    newest: u64,
    values: BTreeMap<u64, Secret>,
}

impl MemorySecretStore {
    /// A store without secrets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl SecretStore for MemorySecretStore {
    async fn put(
        &self,
        _: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        value: Secret,
    ) -> Result<SecretVersion> {
        let mut secrets = lock(&self.secrets);
        let held = secrets.entry((tenant.clone(), name.clone())).or_default();
        held.newest += 1;
        held.values.insert(held.newest, value);
        Ok(SecretVersion(held.newest))
    }

    async fn get(
        &self,
        _: &Scope,
        tenant: &TenantId,
        name: &SecretName,
        version: SecretVersion,
    ) -> Result<Secret> {
        let secrets = lock(&self.secrets);
        let held = secrets.get(&(tenant.clone(), name.clone()));
        held.and_then(|held| held.values.get(&version.0)).cloned().ok_or_else(|| {
            Error::not_found("no such secret or version").with("secret", name).with("version", version)
        })
    }

    async fn list(&self, _: &Scope, tenant: &TenantId) -> Result<Vec<(SecretName, SecretVersion)>> {
        let secrets = lock(&self.secrets);
        let own = secrets.iter().filter(|((owner, _), held)| owner == tenant && !held.values.is_empty());
        Ok(own.map(|((_, name), held)| (name.clone(), SecretVersion(held.newest))).collect())
    }

    async fn delete(&self, _: &Scope, tenant: &TenantId, name: &SecretName) -> Result<()> {
        if let Some(held) = lock(&self.secrets).get_mut(&(tenant.clone(), name.clone())) {
            held.values.clear();
        }
        Ok(())
    }
}
