//! Tenants as a set.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::model::{Environment, EnvironmentId, Scope, Tenant, TenantId};
use crate::port::Tenancy;
use crate::{Error, Result};

/// Remembers which tenants and environments have room; tests say which of them still have something there.
#[derive(Clone, Debug, Default)]
pub struct MemoryTenancy {
    tenants: Arc<Mutex<Tenants>>,
}

#[derive(Debug, Default)]
struct Tenants {
    known: BTreeMap<TenantId, Known>,
    occupied: BTreeSet<TenantId>,
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
        Ok(())
    }

    async fn list(&self, _: &Scope) -> Result<Vec<TenantId>> {
        Ok(lock(&self.tenants).known.keys().cloned().collect())
    }

    async fn remove(&self, _: &Scope, tenant: &TenantId) -> Result<()> {
        let mut tenants = lock(&self.tenants);
        if tenants.occupied.contains(tenant) {
            return Err(Error::conflict("the tenant still has something here").with("tenant", tenant));
        }
        tenants.known.remove(tenant);
        Ok(())
    }
}
