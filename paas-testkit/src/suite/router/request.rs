//! Whom requests reach.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use paas_core::Result;
use paas_core::model::{HeaderMatch, Slot};
use paas_core::port::Hint;

use super::{
    Bed, RouterFixture, all_go_to, answered_by, answers, apply, apply_in, at, domain, endpoints, route,
    shares, shows, slot_of, status, under_host,
};
use crate::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<dyn RouterFixture>> {
    cases![dyn RouterFixture:
        requests_to_the_address_reach_an_endpoint,
        requests_to_a_domain_reach_an_endpoint,
        a_host_without_a_route_reaches_nobody,
        a_host_is_matched_whatever_its_case,
        all_endpoints_of_a_slot_get_requests,
        requests_follow_the_route_that_was_applied_last,
        weights_are_followed_within_one_percent needs weights,
        the_slot_with_the_greatest_weight_gets_most_or_all,
        a_change_of_weights_is_followed,
        a_slot_of_weight_zero_gets_nothing,
        a_slot_without_endpoints_leaves_its_share_to_the_other,
        requests_to_the_address_follow_the_weights_too needs internal_weights,
        a_header_chooses_its_slot_whatever_the_weights needs headers,
        a_header_of_another_value_chooses_nothing needs headers,
        a_cookie_keeps_a_client_on_its_slot needs sticky & weights,
        a_cookie_does_not_hold_a_slot_of_weight_zero needs sticky & weights,
        a_header_comes_before_a_cookie needs headers & sticky,
        an_open_request_keeps_its_endpoint_in_use needs drains,
        an_endpoint_out_of_the_route_is_drained_with_its_last_request needs drains,
        an_endpoint_of_an_open_request_that_is_out_of_the_route_gets_no_new_ones needs drains,
        a_watch_tells_when_an_endpoint_has_drained needs drains,
        a_watch_of_a_tenant_tells_nothing_of_others,
    ]
}

async fn requests_to_the_address_reach_an_endpoint(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    let address = apply(&bed, &route).await?;
    answers(&bed, &at(&address), Some(&route.slots[0].endpoints[0])).await
}

async fn requests_to_a_domain_reach_an_endpoint(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    answers(&bed, &domain(&bed, "/some/path"), Some(&route.slots[0].endpoints[0])).await
}

async fn a_host_without_a_route_reaches_nobody(bed: Bed) -> Result<()> {
    answers(&bed, &domain(&bed, "/"), None).await
}

async fn a_host_is_matched_whatever_its_case(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    let shouted = super::Target::Domain(bed.world.host().to_ascii_uppercase(), "/".into());
    answers(&bed, &shouted, Some(&route.slots[0].endpoints[0])).await
}

async fn all_endpoints_of_a_slot_get_requests(bed: Bed) -> Result<()> {
    let mut route = under_host(&bed)?;
    route.slots = vec![bed.world.slot(Slot::Blue, 1, endpoints(&bed, &route, Slot::Blue, 3).await?)];
    apply(&bed, &route).await?;
    shows(&bed, "three endpoints answer", 3, || async {
        let mut seen = BTreeSet::new();
        for _ in 0..60 {
            seen.extend(answered_by(&bed, &domain(&bed, "/")).await?);
        }
        Ok(seen.len())
    })
    .await
}

async fn requests_follow_the_route_that_was_applied_last(bed: Bed) -> Result<()> {
    let both = route(&bed, &[(Slot::Blue, 1), (Slot::Green, 1)]).await?;
    for place in [0, 1, 0, 1] {
        let mut route = both.clone();
        route.slots = vec![both.slots[place].clone()];
        apply(&bed, &route).await?;
        all_go_to(&bed, &both, both.slots[place].slot, &[], 5).await?;
    }
    Ok(())
}

/// Checks that the green slot gets `percent` of 2,000 requests, give or take one percent.
async fn follows(
    bed: &Bed,
    route: &paas_core::model::Route,
    target: &super::Target,
    percent: u32,
) -> Result<()> {
    const REQUESTS: u32 = 2_000;
    shows(bed, &format!("{percent}% go to green"), true, || async {
        let shares = shares(bed, route, target, &[], REQUESTS).await?;
        let green = shares.get(&Some(Slot::Green)).copied().unwrap_or_default();
        let blue = shares.get(&Some(Slot::Blue)).copied().unwrap_or_default();
        Ok(blue + green == REQUESTS && green.abs_diff(percent * REQUESTS / 100) <= REQUESTS / 100)
    })
    .await
}

async fn weights_are_followed_within_one_percent(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 95), (Slot::Green, 5)]).await?;
    for (blue, green, percent) in [(95, 5, 5), (3, 1, 25), (50, 50, 50)] {
        (route.slots[0].weight, route.slots[1].weight) = (blue, green);
        apply(&bed, &route).await?;
        follows(&bed, &route, &domain(&bed, "/"), percent).await?;
    }
    Ok(())
}

/// All of it where the router follows no weights.
async fn the_slot_with_the_greatest_weight_gets_most_or_all(bed: Bed) -> Result<()> {
    const REQUESTS: u32 = 40;
    let mut route = route(&bed, &[(Slot::Blue, 3), (Slot::Green, 1)]).await?;
    let by_weight = bed.port.capabilities().weights;
    for (blue, green, most) in [(3, 1, Slot::Blue), (1, 3, Slot::Green), (3, 2, Slot::Blue)] {
        (route.slots[0].weight, route.slots[1].weight) = (blue, green);
        apply(&bed, &route).await?;
        shows(&bed, &format!("{most} gets most or all"), true, || async {
            let shares = shares(&bed, &route, &domain(&bed, "/"), &[], REQUESTS).await?;
            let (own, nobody) = (shares.get(&Some(most)).copied().unwrap_or_default(), shares.get(&None));
            let expected = if by_weight { REQUESTS / 2 + 1..REQUESTS } else { REQUESTS..REQUESTS + 1 };
            Ok(nobody.is_none() && expected.contains(&own))
        })
        .await?;
    }
    Ok(())
}

async fn a_change_of_weights_is_followed(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1), (Slot::Green, 0)]).await?;
    apply(&bed, &route).await?;
    all_go_to(&bed, &route, Slot::Blue, &[], 10).await?;
    (route.slots[0].weight, route.slots[1].weight) = (0, 1);
    apply(&bed, &route).await?;
    all_go_to(&bed, &route, Slot::Green, &[], 10).await
}

async fn a_slot_of_weight_zero_gets_nothing(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1), (Slot::Green, 0)]).await?;
    apply(&bed, &route).await?;
    all_go_to(&bed, &route, Slot::Blue, &[], 100).await
}

async fn a_slot_without_endpoints_leaves_its_share_to_the_other(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Green, 1)]).await?;
    route.slots.insert(0, bed.world.slot(Slot::Blue, 3, Vec::new()));
    let address = apply(&bed, &route).await?;
    all_go_to(&bed, &route, Slot::Green, &[], 20).await?;
    answers(&bed, &at(&address), Some(&route.slots[1].endpoints[0])).await
}

async fn requests_to_the_address_follow_the_weights_too(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 4), (Slot::Green, 1)]).await?;
    let address = apply(&bed, &route).await?;
    follows(&bed, &route, &at(&address), 20).await
}

/// A route with everything in blue, and a header for green.
async fn with_header(bed: &Bed) -> Result<paas_core::model::Route> {
    let mut route = route(bed, &[(Slot::Blue, 1), (Slot::Green, 0)]).await?;
    let header = HeaderMatch { name: "X-Canary".into(), value: "yes".into() };
    route.header = Some((header, Slot::Green));
    Ok(route)
}

async fn a_header_chooses_its_slot_whatever_the_weights(bed: Bed) -> Result<()> {
    let route = with_header(&bed).await?;
    apply(&bed, &route).await?;
    for name in ["X-Canary", "x-canary"] {
        all_go_to(&bed, &route, Slot::Green, &[(name, "yes")], 20).await?;
    }
    Ok(())
}

async fn a_header_of_another_value_chooses_nothing(bed: Bed) -> Result<()> {
    let route = with_header(&bed).await?;
    apply(&bed, &route).await?;
    for header in [("x-canary", "no"), ("x-canary", "YES"), ("x-canary2", "yes"), ("accept", "yes")] {
        all_go_to(&bed, &route, Slot::Blue, &[header], 5).await?;
    }
    Ok(())
}

/// Asks until a slot has answered, and gives the cookie it set.
async fn cookie_of(bed: &Bed, route: &paas_core::model::Route, slot: Slot) -> Result<String> {
    bed.eventually("the slot answers with a cookie", || async {
        let answer = bed.fixture.request(&domain(bed, "/"), &[]).await?;
        let by = answer.instance.as_ref().and_then(|instance| slot_of(route, instance));
        Ok(answer.cookie.filter(|_| by == Some(slot)))
    })
    .await
}

async fn a_cookie_keeps_a_client_on_its_slot(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1), (Slot::Green, 1)]).await?;
    route.sticky = Some("paas-slot".into());
    apply(&bed, &route).await?;
    for slot in Slot::BOTH {
        let cookie = cookie_of(&bed, &route, slot).await?;
        assert!(cookie.starts_with("paas-slot="), "{cookie}");
        let cookies = format!("other=1; {cookie}");
        all_go_to(&bed, &route, slot, &[("cookie", &cookies)], 20).await?;
    }
    Ok(())
}

async fn a_cookie_does_not_hold_a_slot_of_weight_zero(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1), (Slot::Green, 1)]).await?;
    route.sticky = Some("paas-slot".into());
    apply(&bed, &route).await?;
    let cookie = cookie_of(&bed, &route, Slot::Green).await?;
    route.slots[1].weight = 0;
    apply(&bed, &route).await?;
    all_go_to(&bed, &route, Slot::Blue, &[("cookie", &cookie)], 20).await
}

async fn a_header_comes_before_a_cookie(bed: Bed) -> Result<()> {
    let mut route = with_header(&bed).await?;
    route.sticky = Some("paas-slot".into());
    apply(&bed, &route).await?;
    let cookie = cookie_of(&bed, &route, Slot::Blue).await?;
    let headers = [("cookie", cookie.as_str()), ("x-canary", "yes")];
    all_go_to(&bed, &route, Slot::Green, &headers, 20).await
}

async fn an_open_request_keeps_its_endpoint_in_use(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    let held = [bed.fixture.hold(&domain(&bed, "/")).await?, bed.fixture.hold(&domain(&bed, "/")).await?];
    let used = status(&bed, &route).await?.map(|status| status.in_use).unwrap_or_default();
    assert_eq!(
        used.iter().map(|used| (&used.instance, used.open)).collect::<Vec<_>>(),
        [(&held[0].instance, 2)]
    );
    drop(held);
    bed.eventually("nothing is open", || async {
        Ok(status(&bed, &route).await?.filter(|status| status.in_use.iter().all(|used| used.open == 0)))
    })
    .await
    .map(drop)
}

async fn an_endpoint_out_of_the_route_is_drained_with_its_last_request(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    let held = bed.fixture.hold(&domain(&bed, "/")).await?;
    let old = held.instance.clone();
    let drained = async || Ok(status(&bed, &route).await?.is_some_and(|status| status.is_drained(&old)));
    assert!(!drained().await?, "it is in the route");
    let mut next = route.clone();
    next.slots = vec![bed.world.slot(Slot::Green, 1, endpoints(&bed, &route, Slot::Green, 1).await?)];
    apply(&bed, &next).await?;
    assert!(!drained().await?, "it has a request open");
    drop(held);
    bed.eventually("it is drained", || async { Ok(drained().await?.then_some(())) }).await?;
    route.slots.clear();
    Ok(())
}

async fn an_endpoint_of_an_open_request_that_is_out_of_the_route_gets_no_new_ones(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    let held = bed.fixture.hold(&domain(&bed, "/")).await?;
    route.slots = vec![bed.world.slot(Slot::Green, 1, endpoints(&bed, &route, Slot::Green, 1).await?)];
    apply(&bed, &route).await?;
    all_go_to(&bed, &route, Slot::Green, &[], 20).await?;
    drop(held);
    Ok(())
}

async fn a_watch_tells_when_an_endpoint_has_drained(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    let held = bed.fixture.hold(&domain(&bed, "/")).await?;
    let old = held.instance.clone();
    route.slots.clear();
    apply(&bed, &route).await?;
    let mut hints = bed.port.watch(&bed.world.scope()).await?;
    drop(held);
    bed.soon("a drained endpoint is told of", async {
        loop {
            assert!(hints.next().await.is_some(), "the watch ended");
            if status(&bed, &route).await?.is_some_and(|status| status.is_drained(&old)) {
                return Ok(());
            }
        }
    })
    .await?
}

async fn a_watch_of_a_tenant_tells_nothing_of_others(bed: Bed) -> Result<()> {
    let other = bed.world.of_other();
    let drains = bed.port.capabilities().drains;
    let mut hints = bed.port.watch(&bed.world.scope()).await?;
    for world in [&other, &bed.world] {
        let mut route = world.route();
        route.hosts = vec![world.host().parse()?];
        if drains {
            let endpoints = endpoints(&bed, &route, Slot::Blue, 1).await?;
            route.slots = vec![world.slot(Slot::Blue, 1, endpoints)];
        }
        apply_in(&bed, &world.scope(), &route).await?;
        let target = super::Target::Domain(world.host(), "/".into());
        let held = if drains { Some(bed.fixture.hold(&target).await?) } else { None };
        route.slots.clear();
        apply_in(&bed, &world.scope(), &route).await?;
        drop(held);
        bed.port.remove(&world.scope(), &route.resource()).await?;
    }
    let hint = bed.soon("a hint", hints.next()).await?;
    assert_ne!(hint, Some(Hint::App(other.app)));
    Ok(())
}
