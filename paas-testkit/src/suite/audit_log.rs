//! The cases of [`AuditLog`].

use std::sync::Arc;
use std::time::Duration;

use paas_core::model::{
    Action, AuditEntry, AuditId, AuditOutcome, AuditQuery, AuditRecord, Principal, Resource, TenantId,
    Timestamp,
};
use paas_core::port::AuditLog;
use paas_core::{ErrorKind, Result};

use super::Durability;
use crate::bench::refused;
use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// An audit log.
pub trait AuditLogFixture: Fixture<Port = dyn AuditLog, Capabilities = Durability> {}
impl<F: Fixture<Port = dyn AuditLog, Capabilities = Durability>> AuditLogFixture for F {}

suites!("audit_log", AuditLog, AuditLogFixture);

type Bed = Bench<dyn AuditLogFixture>;

fn cases() -> Vec<Case<dyn AuditLogFixture>> {
    cases![dyn AuditLogFixture:
        an_entry_shows_from_its_beginning_without_an_outcome,
        a_closed_entry_shows_its_outcome,
        the_first_outcome_stays,
        closing_a_missing_entry_is_not_found,
        two_equal_entries_are_two,
        a_search_gives_the_newest_first,
        a_search_of_a_tenant_shows_nothing_of_others,
        a_search_of_everybody_shows_all,
        a_search_takes_times_from_and_before,
        a_search_gives_as_many_as_asked_for,
        a_search_without_a_limit_gives_a_hundred,
        a_search_never_gives_more_than_a_thousand,
        entries_survive_a_restart needs durable,
    ]
}

const START: Timestamp = Timestamp(1_800_000_000_000);

fn entry(tenant: &TenantId, summary: &str, second: u64) -> AuditEntry {
    let actor = Principal::user("ann", tenant.clone());
    let at = START + Duration::from_secs(second);
    AuditEntry::new(actor, Action::Deploy, Resource::Tenant(tenant.clone()), summary, at)
}

async fn begin(bed: &Bed, tenant: &TenantId, summary: &str, second: u64) -> Result<AuditId> {
    bed.port.begin(&bed.world.platform(), entry(tenant, summary, second)).await
}

async fn own(bed: &Bed) -> Result<Vec<AuditRecord>> {
    bed.port.search(&bed.world.platform(), &AuditQuery::of_tenant(bed.world.tenant.clone())).await
}

fn summaries(records: &[AuditRecord]) -> Vec<&str> {
    records.iter().map(|record| record.entry.summary.as_str()).collect()
}

async fn an_entry_shows_from_its_beginning_without_an_outcome(bed: Bed) -> Result<()> {
    let id = begin(&bed, &bed.world.tenant, "deploy shop revision 4", 0).await?;
    let expected = AuditRecord::new(id, entry(&bed.world.tenant, "deploy shop revision 4", 0));
    assert_eq!(own(&bed).await?, [expected]);
    Ok(())
}

async fn a_closed_entry_shows_its_outcome(bed: Bed) -> Result<()> {
    for outcome in [AuditOutcome::Done, AuditOutcome::Failed("no room".into())] {
        let id = begin(&bed, &bed.world.tenant, "x", 0).await?;
        bed.port.end(&bed.world.platform(), &id, outcome.clone()).await?;
        let record = own(&bed).await?.into_iter().find(|record| record.id == id);
        assert_eq!(record.and_then(|record| record.outcome), Some(outcome));
    }
    Ok(())
}

async fn the_first_outcome_stays(bed: Bed) -> Result<()> {
    let id = begin(&bed, &bed.world.tenant, "x", 0).await?;
    let scope = bed.world.platform();
    bed.port.end(&scope, &id, AuditOutcome::Done).await?;
    bed.port.end(&scope, &id, AuditOutcome::Failed("late".into())).await?;
    assert_eq!(own(&bed).await?[0].outcome, Some(AuditOutcome::Done));
    Ok(())
}

async fn closing_a_missing_entry_is_not_found(bed: Bed) -> Result<()> {
    let id = AuditId::generate(&bed.world.ids);
    refused(bed.port.end(&bed.world.platform(), &id, AuditOutcome::Done).await, ErrorKind::NotFound);
    Ok(())
}

async fn two_equal_entries_are_two(bed: Bed) -> Result<()> {
    let first = begin(&bed, &bed.world.tenant, "x", 0).await?;
    let second = begin(&bed, &bed.world.tenant, "x", 0).await?;
    assert_ne!(first, second);
    assert_eq!(own(&bed).await?.len(), 2);
    Ok(())
}

async fn a_search_gives_the_newest_first(bed: Bed) -> Result<()> {
    for (second, summary) in ["one", "two", "three"].into_iter().enumerate() {
        begin(&bed, &bed.world.tenant, summary, second as u64).await?;
    }
    assert_eq!(summaries(&own(&bed).await?), ["three", "two", "one"]);
    Ok(())
}

async fn a_search_of_a_tenant_shows_nothing_of_others(bed: Bed) -> Result<()> {
    begin(&bed, &bed.world.other, "others", 0).await?;
    begin(&bed, &bed.world.tenant, "own", 0).await?;
    assert_eq!(summaries(&own(&bed).await?), ["own"]);
    Ok(())
}

async fn a_search_of_everybody_shows_all(bed: Bed) -> Result<()> {
    let first = begin(&bed, &bed.world.other, "others", 0).await?;
    let second = begin(&bed, &bed.world.tenant, "own", 1).await?;
    let mut query = AuditQuery::default();
    query.limit = 1_000;
    let all = bed.port.search(&bed.world.platform(), &query).await?;
    assert!([first, second].iter().all(|id| all.iter().any(|record| record.id == *id)));
    Ok(())
}

async fn a_search_takes_times_from_and_before(bed: Bed) -> Result<()> {
    for (second, summary) in ["zero", "one", "two", "three"].into_iter().enumerate() {
        begin(&bed, &bed.world.tenant, summary, second as u64).await?;
    }
    let mut query = AuditQuery::of_tenant(bed.world.tenant.clone());
    query.from = Some(START + Duration::from_secs(1));
    query.to = Some(START + Duration::from_secs(3));
    let found = bed.port.search(&bed.world.platform(), &query).await?;
    assert_eq!(summaries(&found), ["two", "one"]);
    Ok(())
}

async fn a_search_gives_as_many_as_asked_for(bed: Bed) -> Result<()> {
    for (second, summary) in ["one", "two", "three"].into_iter().enumerate() {
        begin(&bed, &bed.world.tenant, summary, second as u64).await?;
    }
    let mut query = AuditQuery::of_tenant(bed.world.tenant.clone());
    query.limit = 2;
    let found = bed.port.search(&bed.world.platform(), &query).await?;
    assert_eq!(summaries(&found), ["three", "two"]);
    Ok(())
}

async fn a_search_without_a_limit_gives_a_hundred(bed: Bed) -> Result<()> {
    for second in 0..101 {
        begin(&bed, &bed.world.tenant, "x", second).await?;
    }
    assert_eq!(own(&bed).await?.len(), 100);
    Ok(())
}

async fn a_search_never_gives_more_than_a_thousand(bed: Bed) -> Result<()> {
    for second in 0..1_001 {
        begin(&bed, &bed.world.tenant, "x", second).await?;
    }
    let mut query = AuditQuery::of_tenant(bed.world.tenant.clone());
    query.limit = usize::MAX;
    assert_eq!(bed.port.search(&bed.world.platform(), &query).await?.len(), 1_000);
    Ok(())
}

async fn entries_survive_a_restart(bed: Bed) -> Result<()> {
    let open = begin(&bed, &bed.world.tenant, "open", 0).await?;
    let closed = begin(&bed, &bed.world.tenant, "closed", 1).await?;
    bed.port.end(&bed.world.platform(), &closed, AuditOutcome::Done).await?;
    let bed = bed.reopened().await?;
    let found: Vec<_> = own(&bed).await?.into_iter().map(|record| (record.id, record.outcome)).collect();
    assert_eq!(found, [(closed, Some(AuditOutcome::Done)), (open, None)]);
    Ok(())
}
