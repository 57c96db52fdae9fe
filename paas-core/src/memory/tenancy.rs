//! Tenants as a set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::lock;
use crate::backend::Drift;
use crate::model::{Environment, EnvironmentId, Resource, Scope, Tenant, TenantId};
use crate::port::Tenancy;
use crate::{Error, Result};

/// Remembers which tenants and environments have room; tests say which of them still have something there, and whose room
/// somebody else changes.
#[derive(Clone, Debug, Default)]
pub struct MemoryTenancy {
    tenants: Arc<Mutex<Tenants>>,
    drift: Arc<Drift<Resource>>,
}

#[derive(Debug, Default)]
struct Tenants {
    known: BTreeMap<TenantId, Known>,
    occupied: BTreeSet<TenantId>,
    changed: BTreeSet<(TenantId, EnvironmentId)>,
}

#[derive(Debug)]
struct Known {
    tenant: Tenant,
    environments: BTreeMap<EnvironmentId, Environment>,
}

impl MemoryTenancy {
    /// Room for nobody yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that a tenant has something here, so that it cannot be removed.
    pub fn occupy(&self, tenant: &TenantId) {
        lock(&self.tenants).occupied.insert(tenant.clone());
    }

    /// Says that a tenant has nothing here any more.
    pub fn vacate(&self, tenant: &TenantId) {
        lock(&self.tenants).occupied.remove(tenant);
    }

    /// Changes the room of an environment as somebody else would; the next `apply` puts it back.
    pub fn change(&self, tenant: &TenantId, environment: &EnvironmentId) {
        lock(&self.tenants).changed.insert((tenant.clone(), environment.clone()));
        self.drift.note(Resource::Environment(tenant.clone(), environment.clone()));
    }

    /// Whether the room of an environment is as it was applied last.
    #[must_use]
    pub fn is_whole(&self, tenant: &TenantId, environment: &EnvironmentId) -> bool {
        let tenants = lock(&self.tenants);
        let known = tenants.known.get(tenant);
        known.is_some_and(|known| known.environments.contains_key(environment))
            && !tenants.changed.contains(&(tenant.clone(), environment.clone()))
    }

    /// The tenants, as they were applied last.
    #[must_use]
    pub fn tenants(&self) -> Vec<Tenant> {
        lock(&self.tenants).known.values().map(|known| known.tenant.clone()).collect()
    }

    /// The environments of a tenant, as they were applied last.
    #[must_use]
    pub fn environments(&self, tenant: &TenantId) -> Vec<Environment> {
        let tenants = lock(&self.tenants);
        let known = tenants.known.get(tenant);
        known.map(|known| known.environments.values().cloned().collect()).unwrap_or_default()
    }
}

#[async_trait]
impl Tenancy for MemoryTenancy {
    async fn apply(&self, _: &Scope, tenant: &Tenant, environments: &[Environment]) -> Result<()> {
        tenant.check_own(environments)?;
        let mut tenants = lock(&self.tenants);
        let known = tenants
            .known
            .entry(tenant.id.clone())
            .or_insert_with(|| Known { tenant: tenant.clone(), environments: BTreeMap::new() });
        known.tenant = tenant.clone();
        let named = environments.iter().map(|environment| (environment.id.clone(), environment.clone()));
        known.environments.extend(named);
        for environment in environments {
            tenants.changed.remove(&(tenant.id.clone(), environment.id.clone()));
            self.drift.settle(&Resource::Environment(tenant.id.clone(), environment.id.clone()));
        }
        Ok(())
    }

    async fn list(&self, _: &Scope) -> Result<Vec<TenantId>> {
        Ok(lock(&self.tenants).known.keys().cloned().collect())
    }

    async fn watch(&self, _: &Scope) -> Result<BoxStream<'static, Resource>> {
        Ok(self.drift.watch())
    }

    async fn remove(&self, _: &Scope, tenant: &TenantId) -> Result<()> {
        let mut tenants = lock(&self.tenants);
        if tenants.occupied.contains(tenant) {
            return Err(Error::conflict("the tenant still has something here").with("tenant", tenant));
        }
        tenants.known.remove(tenant);
        tenants.changed.retain(|(own, environment)| {
            if own == tenant {
                self.drift.settle(&Resource::Environment(tenant.clone(), environment.clone()));
            }
            own != tenant
        });
        Ok(())
    }
}
