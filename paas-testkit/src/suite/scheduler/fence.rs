//! Of two leaders, the later one is obeyed.

use paas_core::{ErrorKind, Result};

use super::{Bed, SchedulerFixture, instances, ready, status};
use crate::bench::refused;
use crate::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<dyn SchedulerFixture>> {
    cases![dyn SchedulerFixture:
        an_apply_of_an_earlier_term_is_refused needs fenced,
        a_removal_of_an_earlier_term_is_refused needs fenced,
        a_read_with_a_later_term_raises_the_bar needs fenced,
        a_refused_apply_changes_nothing needs fenced,
        the_same_term_may_write_again needs fenced,
        a_read_of_an_earlier_term_is_answered needs fenced,
    ]
}

async fn an_apply_of_an_earlier_term_is_refused(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(bed.fixture.serving(), 1)?;
    bed.fixture.prepare(&bed.world, &workload).await?;
    bed.port.apply(&bed.world.in_term(2), &workload).await?;
    refused(bed.port.apply(&bed.world.in_term(1), &workload).await, ErrorKind::Conflict);
    Ok(())
}

async fn a_removal_of_an_earlier_term_is_refused(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(bed.fixture.serving(), 1)?;
    bed.fixture.prepare(&bed.world, &workload).await?;
    bed.port.apply(&bed.world.in_term(2), &workload).await?;
    refused(bed.port.remove(&bed.world.in_term(1), &workload.key).await, ErrorKind::Conflict);
    ready(&bed, &workload.key, 1).await.map(drop)
}

async fn a_read_with_a_later_term_raises_the_bar(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(bed.fixture.serving(), 1)?;
    bed.fixture.prepare(&bed.world, &workload).await?;
    bed.port.apply(&bed.world.in_term(1), &workload).await?;
    bed.port.list(&bed.world.in_term(2), &bed.world.selector()).await?;
    refused(bed.port.apply(&bed.world.in_term(1), &workload).await, ErrorKind::Conflict);
    drop(bed.port.watch(&bed.world.in_term(3)).await?);
    refused(bed.port.apply(&bed.world.in_term(2), &workload).await, ErrorKind::Conflict);
    Ok(())
}

async fn a_refused_apply_changes_nothing(bed: Bed) -> Result<()> {
    let mut workload = bed.world.workload(bed.fixture.serving(), 1)?;
    bed.fixture.prepare(&bed.world, &workload).await?;
    let digest = bed.port.apply(&bed.world.in_term(2), &workload).await?;
    let before = ready(&bed, &workload.key, 1).await?;
    workload.retire = vec![before[0].id.clone()];
    workload.replicas = Some(5);
    refused(bed.port.apply(&bed.world.in_term(1), &workload).await, ErrorKind::Conflict);
    assert_eq!(instances(&bed, &workload.key).await?, before);
    let applied = status(&bed, &workload.key).await?.and_then(|status| status.applied);
    assert_eq!(applied, Some(digest));
    Ok(())
}

async fn the_same_term_may_write_again(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(bed.fixture.serving(), 1)?;
    bed.fixture.prepare(&bed.world, &workload).await?;
    for term in [1, 1, 2, 2] {
        bed.port.apply(&bed.world.in_term(term), &workload).await?;
    }
    bed.port.remove(&bed.world.in_term(2), &workload.key).await
}

async fn a_read_of_an_earlier_term_is_answered(bed: Bed) -> Result<()> {
    let workload = bed.world.workload(bed.fixture.serving(), 1)?;
    bed.fixture.prepare(&bed.world, &workload).await?;
    bed.port.apply(&bed.world.in_term(2), &workload).await?;
    let listed = bed.port.list(&bed.world.in_term(1), &bed.world.selector()).await?;
    assert_eq!(listed.len(), 1);
    Ok(())
}
