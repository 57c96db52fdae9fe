//! Room for tenants and their environments.

use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::*;
use crate::port::Backend;

/// A tenancy that fails as long as it is told to.
#[derive(Debug, Default)]
struct Failing {
    inner: MemoryTenancy,
    fails: AtomicBool,
}

#[async_trait]
impl Backend for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }
    async fn check(&self) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl Tenancy for Failing {
    async fn apply(&self, scope: &Scope, tenant: &Tenant, environments: &[Environment]) -> Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::unavailable("trouble").permanent());
        }
        self.inner.apply(scope, tenant, environments).await
    }
    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>> {
        self.inner.list(scope).await
    }
    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()> {
        self.inner.remove(scope, tenant).await
    }
}

#[tokio::test(start_paused = true)]
async fn every_environment_has_room_once_it_is_acknowledged_and_what_was_cut_off_is_made_later() {
    let clock = Clock::runtime(Timestamp(1_000_000));
    let tenancy = Arc::new(Failing::default());
    let platform = compose(&clock)
        .tenancy(tenancy.clone())
        .scheduler(Arc::new(MemoryScheduler::new(clock.clone())))
        .router(Arc::new(MemoryRouter::new().with_clock(clock.clone())))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()))
        .build()
        .await
        .unwrap();
    let (operator, acme) = (Principal::operator("ops"), TenantName::new("acme").unwrap());
    let fail = |fails| tenancy.fails.store(fails, Ordering::SeqCst);

    fail(true);
    platform.ensure_tenant(&operator, acme.clone()).await.unwrap_err();
    fail(false);
    let tenant = platform.ensure_tenant(&operator, acme.clone()).await.unwrap();
    let names = || {
        let environments = tenancy.inner.environments(&tenant.id);
        let mut names: Vec<String> =
            environments.iter().map(|environment| environment.name.to_string()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["production"]);

    let staging = EnvironmentName::new("staging").unwrap();
    fail(true);
    platform.ensure_environment(&operator, &acme, staging.clone()).await.unwrap_err();
    assert_eq!(names(), ["production"]);
    fail(false);
    let made = platform.ensure_environment(&operator, &acme, staging.clone()).await.unwrap();
    assert_eq!(names(), ["production", "staging"]);
    assert_eq!(platform.ensure_environment(&operator, &acme, staging).await.unwrap(), made);
}
