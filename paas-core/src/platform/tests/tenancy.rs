//! Room for tenants and their environments.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::*;
use crate::engine::{EngineConfig, EngineEvent};
use crate::port::Backend;

/// A tenancy that fails as long as it is told to.
#[derive(Debug, Default)]
struct Failing {
    inner: MemoryTenancy,
    fails: AtomicBool,
    /// The calls of leaders.
    repairs: AtomicUsize,
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
        if scope.epoch().is_some() {
            self.repairs.fetch_add(1, Ordering::SeqCst);
        }
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::unavailable("trouble").permanent());
        }
        self.inner.apply(scope, tenant, environments).await
    }
    async fn list(&self, scope: &Scope) -> Result<Vec<TenantId>> {
        self.inner.list(scope).await
    }
    async fn watch(&self, scope: &Scope) -> Result<BoxStream<'static, Resource>> {
        self.inner.watch(scope).await
    }
    async fn remove(&self, scope: &Scope, tenant: &TenantId) -> Result<()> {
        self.inner.remove(scope, tenant).await
    }
}

fn composed(tenancy: &Arc<Failing>) -> PlatformBuilder {
    let clock = Clock::runtime(Timestamp(1_000_000));
    compose(&clock)
        .tenancy(tenancy.clone())
        .scheduler(Arc::new(MemoryScheduler::new(clock.clone())))
        .router(Arc::new(MemoryRouter::new().with_clock(clock.clone())))
        .volumes(Arc::new(MemoryVolumeStore::new()))
        .state(Arc::new(MemoryStateStore::new()))
}

#[tokio::test(start_paused = true)]
async fn every_environment_has_room_once_it_is_acknowledged_and_what_was_cut_off_is_made_later() {
    let tenancy = Arc::new(Failing::default());
    let platform = composed(&tenancy).build().await.unwrap();
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

/// A platform with a tenant whose room is whole, and that of another that there is no record of.
async fn two_tenants(
    tenancy: &Arc<Failing>,
    engine: EngineConfig,
) -> (Platform, Tenant, Environment, Tenant) {
    let platform = composed(tenancy).engine(engine).build().await.unwrap();
    let (operator, acme) = (Principal::operator("ops"), TenantName::new("acme").unwrap());
    let tenant = platform.ensure_tenant(&operator, acme).await.unwrap();
    let staging = EnvironmentName::new("staging").unwrap();
    let staging = platform.ensure_environment(&operator, &tenant.name, staging).await.unwrap();
    let gone = Tenant::new(TenantId::new("t-gone").unwrap(), TenantName::new("gone").unwrap(), Timestamp(1));
    (platform, tenant, staging, gone)
}

/// How soon what somebody else has changed is put back.
const SOON: Duration = Duration::from_secs(2);

async fn whole(tenancy: &Failing, environment: &Environment) {
    let whole = async {
        while !tenancy.inner.is_whole(&environment.tenant, &environment.id) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(SOON, whole).await.expect("it is put back");
}

#[tokio::test(start_paused = true)]
async fn room_that_somebody_else_changes_is_put_back_by_one_call_of_the_leader() {
    let tenancy = Arc::new(Failing::default());
    let (_platform, tenant, staging, gone) = two_tenants(&tenancy, EngineConfig::default()).await;
    let repairs = || tenancy.repairs.load(Ordering::SeqCst);
    tokio::time::sleep(LONG).await;
    assert_eq!(repairs(), 0, "what is unchanged costs nothing");
    tenancy.inner.change(&tenant.id, &staging.id);
    whole(&tenancy, &staging).await;
    // There is no record of this one.
    tenancy.inner.change(&gone.id, &staging.id);
    tenancy.inner.change(&tenant.id, &EnvironmentId::new("e-gone").unwrap());
    tokio::time::sleep(LONG).await;
    assert_eq!(repairs(), 1);
    for _ in 0..10 {
        tenancy.inner.change(&tenant.id, &staging.id);
        whole(&tenancy, &staging).await;
    }
    assert_eq!(repairs(), 11);
}

#[tokio::test(start_paused = true)]
async fn room_that_cannot_be_put_back_is_put_back_later() {
    let tenancy = Arc::new(Failing::default());
    let (platform, tenant, staging, _) = two_tenants(&tenancy, EngineConfig::default()).await;
    let mut events = platform.events();
    tenancy.fails.store(true, Ordering::SeqCst);
    tenancy.inner.change(&tenant.id, &staging.id);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let tried = tenancy.repairs.load(Ordering::SeqCst);
    assert!((2..=6).contains(&tried), "{tried}");
    assert!(events.try_recv().is_err());
    tenancy.fails.store(false, Ordering::SeqCst);
    whole(&tenancy, &staging).await;
    let drift = EngineEvent::Drift(Resource::Environment(tenant.id.clone(), staging.id.clone()));
    assert_eq!(events.recv().await.unwrap(), drift);
    platform.shutdown().await;
    tenancy.inner.change(&tenant.id, &staging.id);
    tokio::time::sleep(LONG).await;
    assert!(!tenancy.inner.is_whole(&tenant.id, &staging.id), "nobody leads");
}

#[tokio::test(start_paused = true)]
async fn room_that_was_changed_while_nobody_led_is_put_back_by_the_next_leader() {
    let tenancy = Arc::new(Failing::default());
    let waits = EngineConfig { lead: false, ..EngineConfig::default() };
    let (platform, tenant, staging, _) = two_tenants(&tenancy, waits).await;
    tenancy.inner.change(&tenant.id, &staging.id);
    tokio::time::sleep(LONG).await;
    assert!(!tenancy.inner.is_whole(&tenant.id, &staging.id), "nobody leads");
    let state = Arc::clone(&platform.0.store.state);
    let _leader = composed(&tenancy).state(state).build().await.unwrap();
    whole(&tenancy, &staging).await;
}
