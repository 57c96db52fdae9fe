//! Environments that are written down.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use paas_core::Result;
use paas_core::memory::MemoryTenancy;
use paas_core::model::{Environment, Resource, Scope, Tenant, TenantId};
use paas_core::port::{Backend, Tenancy};

use super::shelf::{Shelf, has};
use crate::label;
use crate::tenancy::{self, TenancyConfig};

/// What [`KubeTenancy`](crate::KubeTenancy) would apply.
#[derive(Debug)]
pub(super) struct ExportTenancy {
    inner: MemoryTenancy,
    shelf: Arc<Shelf>,
    platform: String,
    config: TenancyConfig,
}

impl ExportTenancy {
    pub(super) fn new(shelf: &Arc<Shelf>, platform: &str, config: TenancyConfig) -> Self {
        let inner = MemoryTenancy::new();
        Self { inner, shelf: Arc::clone(shelf), platform: platform.to_owned(), config }
    }
}

#[async_trait]
impl Backend for ExportTenancy {
    fn name(&self) -> &'static str {
        "export"
    }

    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Tenancy for ExportTenancy {
    async fn apply(&self, scope: &Scope, tenant: &Tenant, environments: &[Environment]) -> Result<()> {
        self.inner.apply(scope, tenant, environments).await?;
        for environment in environments {
            for object in tenancy::objects(&self.platform, tenant, environment, &self.config)? {
                self.shelf.put(object);
            }
        }
        Ok(())
    }

    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>> {
        self.inner.list(scope).await
    }

    async fn watch(&self, scope: &Scope) -> Result<BoxStream<'static, Resource>> {
        self.inner.watch(scope).await
    }

    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()> {
        self.inner.remove(scope, tenant).await?;
        self.shelf.remove(|object| has(object, label::TENANT, tenant.as_str()));
        Ok(())
    }
}
