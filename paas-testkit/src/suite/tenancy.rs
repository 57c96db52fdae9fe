//! The cases of [`Tenancy`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::model::{Clock, Tenant, TenantId, TenantName};
use paas_core::port::Tenancy;
use paas_core::{ErrorKind, Result};

use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// A tenancy.
pub trait TenancyFixture: Fixture<Port = dyn Tenancy, Capabilities = ()> {
    /// Gives a tenant something there that keeps it from being removed.
    fn occupy<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<()>>;

    /// Takes it away again.
    fn vacate<'a>(&'a self, tenant: &'a TenantId) -> BoxFuture<'a, Result<()>>;
}

suites!("tenancy", Tenancy, TenancyFixture);

type Bed = Bench<dyn TenancyFixture>;

fn cases() -> Vec<Case<dyn TenancyFixture>> {
    cases![dyn TenancyFixture:
        a_tenant_that_was_applied_is_listed,
        applying_a_tenant_twice_changes_nothing,
        a_tenant_may_be_renamed,
        a_removed_tenant_is_not_listed,
        removing_a_missing_tenant_is_ok,
        removing_one_tenant_leaves_others,
        a_tenant_that_still_has_something_there_is_not_removed,
    ]
}

fn tenant(id: &TenantId, name: &str) -> Result<Tenant> {
    Ok(Tenant::new(id.clone(), TenantName::new(name)?, Clock::system().now()))
}

async fn listed(bed: &Bed, tenant: &TenantId) -> Result<usize> {
    let tenants = bed.port.list(&bed.world.platform()).await?;
    Ok(tenants.iter().filter(|own| *own == tenant).count())
}

async fn a_tenant_that_was_applied_is_listed(bed: Bed) -> Result<()> {
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 0);
    bed.port.apply(&bed.world.platform(), &tenant(&bed.world.tenant, "acme")?).await?;
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 1);
    assert_eq!(listed(&bed, &bed.world.other).await?, 0);
    Ok(())
}

async fn applying_a_tenant_twice_changes_nothing(bed: Bed) -> Result<()> {
    let tenant = tenant(&bed.world.tenant, "acme")?;
    bed.port.apply(&bed.world.platform(), &tenant).await?;
    bed.port.apply(&bed.world.platform(), &tenant).await?;
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 1);
    Ok(())
}

async fn a_tenant_may_be_renamed(bed: Bed) -> Result<()> {
    bed.port.apply(&bed.world.platform(), &tenant(&bed.world.tenant, "acme")?).await?;
    bed.port.apply(&bed.world.platform(), &tenant(&bed.world.tenant, "apex")?).await?;
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 1);
    Ok(())
}

async fn a_removed_tenant_is_not_listed(bed: Bed) -> Result<()> {
    bed.port.apply(&bed.world.platform(), &tenant(&bed.world.tenant, "acme")?).await?;
    bed.port.remove(&bed.world.platform(), &bed.world.tenant).await?;
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 0);
    Ok(())
}

async fn removing_a_missing_tenant_is_ok(bed: Bed) -> Result<()> {
    bed.port.remove(&bed.world.platform(), &bed.world.tenant).await?;
    bed.port.apply(&bed.world.platform(), &tenant(&bed.world.tenant, "acme")?).await?;
    bed.port.remove(&bed.world.platform(), &bed.world.tenant).await?;
    bed.port.remove(&bed.world.platform(), &bed.world.tenant).await
}

async fn removing_one_tenant_leaves_others(bed: Bed) -> Result<()> {
    bed.port.apply(&bed.world.platform(), &tenant(&bed.world.tenant, "acme")?).await?;
    bed.port.apply(&bed.world.platform(), &tenant(&bed.world.other, "acme")?).await?;
    bed.port.remove(&bed.world.platform(), &bed.world.tenant).await?;
    assert_eq!(listed(&bed, &bed.world.other).await?, 1);
    Ok(())
}

async fn a_tenant_that_still_has_something_there_is_not_removed(bed: Bed) -> Result<()> {
    let scope = bed.world.platform();
    bed.port.apply(&scope, &tenant(&bed.world.tenant, "acme")?).await?;
    bed.fixture.occupy(&bed.world.tenant).await?;
    refused(bed.port.remove(&scope, &bed.world.tenant).await, ErrorKind::Conflict);
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 1);
    bed.fixture.vacate(&bed.world.tenant).await?;
    bed.port.remove(&scope, &bed.world.tenant).await
}
