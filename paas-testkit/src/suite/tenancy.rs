//! The cases of [`Tenancy`].

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use paas_core::model::{
    Clock, Environment, EnvironmentId, EnvironmentName, Resource, Tenant, TenantId, TenantName,
};
use paas_core::port::Tenancy;
use paas_core::{Error, ErrorKind, Result};

use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// What tenancies are told apart by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vigilance {
    /// Whether it tells of room that somebody else has changed.
    pub watched: bool,
}

/// A tenancy.
pub trait TenancyFixture: Fixture<Port = dyn Tenancy, Capabilities = Vigilance> {
    /// Gives a tenant something in an environment that was applied, which keeps the tenant from being removed.
    fn occupy<'a>(
        &'a self,
        tenant: &'a TenantId,
        environment: &'a EnvironmentId,
    ) -> BoxFuture<'a, Result<()>>;

    /// Takes it away again.
    fn vacate<'a>(
        &'a self,
        tenant: &'a TenantId,
        environment: &'a EnvironmentId,
    ) -> BoxFuture<'a, Result<()>>;

    /// Changes the room of an environment that was applied, as somebody else would. Only fixtures that declare it to be
    /// watched are asked.
    fn change<'a>(
        &'a self,
        tenant: &'a TenantId,
        environment: &'a EnvironmentId,
    ) -> BoxFuture<'a, Result<()>> {
        let _ = (tenant, environment);
        Box::pin(async { Err(Error::unsupported("change")) })
    }

    /// Whether workloads may follow in this environment, and what [`TenancyFixture::change`] has done is put back.
    fn has_room<'a>(
        &'a self,
        tenant: &'a TenantId,
        environment: &'a EnvironmentId,
    ) -> BoxFuture<'a, Result<bool>>;
}

suites!("tenancy", Tenancy, TenancyFixture);

type Bed = Bench<dyn TenancyFixture>;

fn cases() -> Vec<Case<dyn TenancyFixture>> {
    cases![dyn TenancyFixture:
        a_tenant_that_was_applied_is_listed,
        applying_a_tenant_twice_changes_nothing,
        a_tenant_may_be_renamed,
        an_environment_that_is_added_later_has_room,
        an_environment_that_is_not_named_any_more_stays,
        an_environment_of_another_tenant_is_refused,
        a_removed_tenant_is_not_listed,
        removing_a_missing_tenant_is_ok,
        removing_one_tenant_leaves_others,
        a_tenant_that_still_has_something_there_is_not_removed,
        room_that_somebody_else_changes_is_told_and_is_put_back_by_an_apply needs watched,
        room_that_was_changed_before_is_told_to_whoever_watches_later needs watched,
        room_that_was_applied_or_removed_is_not_told needs watched,
    ]
}

fn tenant(id: &TenantId, name: &str) -> Result<Tenant> {
    Ok(Tenant::new(id.clone(), TenantName::new(name)?, Clock::system().now()))
}

fn environment(id: &EnvironmentId, tenant: &TenantId, name: &str) -> Result<Environment> {
    Ok(Environment::new(id.clone(), tenant.clone(), EnvironmentName::new(name)?))
}

/// The tenant of the case, with its environment.
fn own(bed: &Bed) -> Result<(Tenant, Vec<Environment>)> {
    let production = environment(&bed.world.environment, &bed.world.tenant, "production")?;
    Ok((tenant(&bed.world.tenant, "acme")?, vec![production]))
}

async fn apply(bed: &Bed, (tenant, environments): &(Tenant, Vec<Environment>)) -> Result<()> {
    bed.port.apply(&bed.world.platform(), tenant, environments).await
}

/// Removes a tenant, however long it takes until it is gone.
async fn remove(bed: &Bed, tenant: &TenantId) -> Result<()> {
    let scope = bed.world.platform();
    bed.eventually("the tenant is gone", async || match bed.port.remove(&scope, tenant).await {
        Err(error) if error.kind() == ErrorKind::Unavailable => Ok(None),
        outcome => outcome.map(Some),
    })
    .await
}

async fn listed(bed: &Bed, tenant: &TenantId) -> Result<usize> {
    let tenants = bed.port.list(&bed.world.platform()).await?;
    Ok(tenants.iter().filter(|own| *own == tenant).count())
}

async fn has_room(bed: &Bed, environment: &EnvironmentId) -> Result<bool> {
    bed.fixture.has_room(&bed.world.tenant, environment).await
}

async fn a_tenant_that_was_applied_is_listed(bed: Bed) -> Result<()> {
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 0);
    apply(&bed, &own(&bed)?).await?;
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 1);
    assert_eq!(listed(&bed, &bed.world.other).await?, 0);
    assert!(has_room(&bed, &bed.world.environment).await?);
    remove(&bed, &bed.world.tenant).await
}

async fn applying_a_tenant_twice_changes_nothing(bed: Bed) -> Result<()> {
    for _ in 0..2 {
        apply(&bed, &own(&bed)?).await?;
        assert_eq!(listed(&bed, &bed.world.tenant).await?, 1);
    }
    remove(&bed, &bed.world.tenant).await
}

async fn a_tenant_may_be_renamed(bed: Bed) -> Result<()> {
    let (_, environments) = own(&bed)?;
    for name in ["acme", "apex"] {
        apply(&bed, &(tenant(&bed.world.tenant, name)?, environments.clone())).await?;
    }
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 1);
    remove(&bed, &bed.world.tenant).await
}

async fn an_environment_that_is_added_later_has_room(bed: Bed) -> Result<()> {
    let (tenant, mut environments) = own(&bed)?;
    apply(&bed, &(tenant.clone(), environments.clone())).await?;
    let later = EnvironmentId::generate(&bed.world.ids);
    environments.push(environment(&later, &bed.world.tenant, "staging")?);
    apply(&bed, &(tenant, environments)).await?;
    assert!(has_room(&bed, &later).await? && has_room(&bed, &bed.world.environment).await?);
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 1);
    remove(&bed, &bed.world.tenant).await
}

async fn an_environment_that_is_not_named_any_more_stays(bed: Bed) -> Result<()> {
    let (tenant, environments) = own(&bed)?;
    apply(&bed, &(tenant.clone(), environments)).await?;
    let later = EnvironmentId::generate(&bed.world.ids);
    for named in [vec![environment(&later, &bed.world.tenant, "staging")?], Vec::new()] {
        apply(&bed, &(tenant.clone(), named)).await?;
        assert!(has_room(&bed, &later).await? && has_room(&bed, &bed.world.environment).await?);
    }
    remove(&bed, &bed.world.tenant).await
}

async fn an_environment_of_another_tenant_is_refused(bed: Bed) -> Result<()> {
    let (tenant, mut environments) = own(&bed)?;
    let foreign = EnvironmentId::generate(&bed.world.ids);
    environments.push(environment(&foreign, &bed.world.other, "production")?);
    refused(apply(&bed, &(tenant, environments)).await, ErrorKind::Invalid);
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 0);
    Ok(())
}

async fn a_removed_tenant_is_not_listed(bed: Bed) -> Result<()> {
    apply(&bed, &own(&bed)?).await?;
    remove(&bed, &bed.world.tenant).await?;
    assert_eq!(listed(&bed, &bed.world.tenant).await?, 0);
    Ok(())
}

async fn removing_a_missing_tenant_is_ok(bed: Bed) -> Result<()> {
    remove(&bed, &bed.world.tenant).await?;
    apply(&bed, &own(&bed)?).await?;
    remove(&bed, &bed.world.tenant).await?;
    remove(&bed, &bed.world.tenant).await
}

async fn removing_one_tenant_leaves_others(bed: Bed) -> Result<()> {
    let theirs = EnvironmentId::generate(&bed.world.ids);
    let other =
        (tenant(&bed.world.other, "acme")?, vec![environment(&theirs, &bed.world.other, "production")?]);
    apply(&bed, &own(&bed)?).await?;
    apply(&bed, &other).await?;
    remove(&bed, &bed.world.tenant).await?;
    assert_eq!(listed(&bed, &bed.world.other).await?, 1);
    assert!(bed.fixture.has_room(&bed.world.other, &theirs).await?);
    remove(&bed, &bed.world.other).await
}

async fn a_tenant_that_still_has_something_there_is_not_removed(bed: Bed) -> Result<()> {
    let (own_tenant, own_environment) = (&bed.world.tenant, &bed.world.environment);
    apply(&bed, &own(&bed)?).await?;
    bed.fixture.occupy(own_tenant, own_environment).await?;
    refused(remove(&bed, own_tenant).await, ErrorKind::Conflict);
    assert_eq!(listed(&bed, own_tenant).await?, 1);
    assert!(has_room(&bed, own_environment).await?);
    bed.fixture.vacate(own_tenant, own_environment).await?;
    remove(&bed, own_tenant).await
}

/// What is told of these tenants; others are at work on the same backend.
async fn told(bed: &Bed, tenants: [&TenantId; 2]) -> Result<BoxStream<'static, Resource>> {
    let own = tenants.map(Clone::clone);
    let told = bed.port.watch(&bed.world.platform()).await?;
    let is_own = move |about: &Resource| about.tenant().is_some_and(|tenant| own.contains(tenant));
    Ok(told.filter(move |about| std::future::ready(is_own(about))).boxed())
}

/// The next that is told is this environment, or its tenant.
async fn tells(
    bed: &Bed,
    told: &mut BoxStream<'static, Resource>,
    tenant: &TenantId,
    environment: &EnvironmentId,
) -> Result<()> {
    let next = bed.soon("the change is told", told.next()).await?;
    let own = Resource::Environment(tenant.clone(), environment.clone());
    assert!(next.as_ref().is_some_and(|next| next.contains(&own)), "{next:?}");
    Ok(())
}

async fn room_that_somebody_else_changes_is_told_and_is_put_back_by_an_apply(bed: Bed) -> Result<()> {
    let (tenant, environment) = (&bed.world.tenant, &bed.world.environment);
    apply(&bed, &own(&bed)?).await?;
    let mut told = told(&bed, [tenant; 2]).await?;
    for _ in 0..3 {
        bed.fixture.change(tenant, environment).await?;
        assert!(!has_room(&bed, environment).await?);
        tells(&bed, &mut told, tenant, environment).await?;
        apply(&bed, &own(&bed)?).await?;
        assert!(has_room(&bed, environment).await?);
    }
    remove(&bed, tenant).await
}

async fn room_that_was_changed_before_is_told_to_whoever_watches_later(bed: Bed) -> Result<()> {
    let (tenant, environment) = (&bed.world.tenant, &bed.world.environment);
    apply(&bed, &own(&bed)?).await?;
    bed.fixture.change(tenant, environment).await?;
    for _ in 0..2 {
        let mut told = told(&bed, [tenant; 2]).await?;
        tells(&bed, &mut told, tenant, environment).await?;
    }
    remove(&bed, tenant).await
}

async fn room_that_was_applied_or_removed_is_not_told(bed: Bed) -> Result<()> {
    let (own_tenant, other_tenant) = (&bed.world.tenant, &bed.world.other);
    let theirs = EnvironmentId::generate(&bed.world.ids);
    let other = (tenant(other_tenant, "acme")?, vec![environment(&theirs, other_tenant, "production")?]);
    let mut told = told(&bed, [own_tenant, other_tenant]).await?;
    apply(&bed, &own(&bed)?).await?;
    apply(&bed, &own(&bed)?).await?;
    remove(&bed, own_tenant).await?;
    apply(&bed, &other).await?;
    bed.fixture.change(other_tenant, &theirs).await?;
    tells(&bed, &mut told, other_tenant, &theirs).await?;
    remove(&bed, other_tenant).await
}
