//! What is counted.

use std::collections::BTreeMap;

use paas_core::Result;
use paas_core::model::{RevisionNumber, Route, Slot, SlotTraffic};

use super::{Bed, RouterFixture, Target, answers, apply, domain, route, slot_of};
use crate::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<dyn RouterFixture>> {
    cases![dyn RouterFixture:
        a_service_without_a_route_has_no_traffic needs traffic,
        requests_are_counted_by_slot_and_revision needs traffic & weights,
        failed_requests_are_counted_as_errors needs traffic,
        every_request_has_a_latency needs traffic,
        the_newest_revision_comes_first needs traffic,
        counters_outlive_a_change_of_the_route needs traffic,
        counters_begin_anew_with_a_new_route needs traffic,
        requests_of_one_service_are_not_counted_for_another needs traffic,
    ]
}

async fn traffic(bed: &Bed, route: &Route) -> Result<Vec<SlotTraffic>> {
    bed.port.traffic(&bed.world.scope(), &route.resource()).await
}

/// Waits until so many requests of a slot were counted: a proxy counts once the answer is out.
async fn counted(bed: &Bed, route: &Route, slot: Slot, requests: u64) -> Result<SlotTraffic> {
    bed.eventually("the requests are counted", || async {
        let counters = traffic(bed, route).await?;
        Ok(counters.into_iter().find(|own| own.slot == slot && own.requests == requests))
    })
    .await
}

/// Sends requests until so many were answered, and tells by whom: by all of them, where the router is immediate.
async fn send(bed: &Bed, route: &Route, target: &Target, count: u32) -> Result<BTreeMap<Slot, u64>> {
    let mut answered = BTreeMap::new();
    for _ in 0..count {
        let slot = bed.eventually("an answer", || async {
            let answer = bed.fixture.request(target, &[]).await?;
            let slot = answer.instance.as_ref().and_then(|instance| slot_of(route, instance));
            assert!(slot.is_some() || !bed.port.capabilities().immediate, "{answer:?} is of nobody");
            Ok(slot)
        });
        *answered.entry(slot.await?).or_default() += 1;
    }
    Ok(answered)
}

async fn a_service_without_a_route_has_no_traffic(bed: Bed) -> Result<()> {
    assert_eq!(traffic(&bed, &bed.world.route()).await?, []);
    Ok(())
}

async fn requests_are_counted_by_slot_and_revision(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 3), (Slot::Green, 1)]).await?;
    apply(&bed, &route).await?;
    let sent = send(&bed, &route, &domain(&bed, "/"), 40).await?;
    let blue = counted(&bed, &route, Slot::Blue, sent[&Slot::Blue]).await?;
    let green = counted(&bed, &route, Slot::Green, sent[&Slot::Green]).await?;
    assert_eq!((blue.revision, blue.errors), (RevisionNumber(1), 0));
    assert_eq!((green.revision, green.errors), (RevisionNumber(2), 0));
    Ok(())
}

async fn failed_requests_are_counted_as_errors(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    send(&bed, &route, &domain(&bed, "/fail"), 3).await?;
    send(&bed, &route, &domain(&bed, "/"), 2).await?;
    assert_eq!(counted(&bed, &route, Slot::Blue, 5).await?.errors, 3);
    Ok(())
}

async fn every_request_has_a_latency(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    assert!(traffic(&bed, &route).await?.iter().all(|own| own.latency.quantile(1.0).is_none()));
    send(&bed, &route, &domain(&bed, "/"), 5).await?;
    let counters = counted(&bed, &route, Slot::Blue, 5).await?;
    assert!(counters.latency.quantile(0.5).is_some());
    Ok(())
}

async fn the_newest_revision_comes_first(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1)]).await?;
    for revision in [2, 10, 9] {
        route.slots[0].revision = RevisionNumber(revision);
        apply(&bed, &route).await?;
        send(&bed, &route, &domain(&bed, "/"), 1).await?;
        // What was not counted yet could be taken for the next one's.
        bed.eventually("it is counted", || async {
            let counters = traffic(&bed, &route).await?;
            Ok(counters.into_iter().find(|own| own.revision.0 == revision && own.requests == 1))
        })
        .await?;
    }
    let revisions = bed
        .eventually("all three are counted", || async {
            let counters = traffic(&bed, &route).await?;
            let counted: Vec<u64> =
                counters.iter().filter(|own| own.requests > 0).map(|own| own.revision.0).collect();
            Ok((counted.len() == 3).then_some(counted))
        })
        .await?;
    assert_eq!(revisions, [10, 9, 2]);
    Ok(())
}

async fn counters_outlive_a_change_of_the_route(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1), (Slot::Green, 0)]).await?;
    apply(&bed, &route).await?;
    send(&bed, &route, &domain(&bed, "/"), 4).await?;
    let before = counted(&bed, &route, Slot::Blue, 4).await?;
    route.slots[1].weight = 1;
    apply(&bed, &route).await?;
    assert_eq!(counted(&bed, &route, Slot::Blue, 4).await?, before);
    Ok(())
}

async fn counters_begin_anew_with_a_new_route(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    send(&bed, &route, &domain(&bed, "/"), 4).await?;
    let before = counted(&bed, &route, Slot::Blue, 4).await?;
    bed.port.remove(&bed.world.scope(), &route.resource()).await?;
    assert_eq!(traffic(&bed, &route).await?, []);
    answers(&bed, &domain(&bed, "/"), None).await?;
    apply(&bed, &route).await?;
    send(&bed, &route, &domain(&bed, "/"), 1).await?;
    let after = counted(&bed, &route, Slot::Blue, 1).await?;
    assert_ne!(after.since, before.since);
    assert_eq!(after.after(Some(&before)).requests, 1);
    Ok(())
}

async fn requests_of_one_service_are_not_counted_for_another(bed: Bed) -> Result<()> {
    let own = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &own).await?;
    let mut other = route(&bed, &[(Slot::Blue, 1)]).await?;
    other.hosts = vec![format!("other.{}", bed.world.host()).parse()?];
    apply(&bed, &other).await?;
    let target = Target::Domain(format!("other.{}", bed.world.host()), "/".into());
    send(&bed, &other, &target, 1).await?;
    counted(&bed, &other, Slot::Blue, 1).await?;
    assert!(traffic(&bed, &own).await?.iter().all(|counters| counters.requests == 0));
    Ok(())
}
