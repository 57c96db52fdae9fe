//! Addresses, names, and who may change them.

use paas_core::model::{InstanceId, Role, Slot};
use paas_core::port::Selector;
use paas_core::{ErrorKind, Result};

use super::{
    Bed, RouterFixture, Target, answers, apply, apply_in, at, domain, endpoints, named, route, status,
};
use crate::bench::refused;
use crate::case::{Case, cases};

pub(super) fn cases() -> Vec<Case<dyn RouterFixture>> {
    cases![dyn RouterFixture:
        it_declares_what_the_backend_reports,
        what_is_not_declared_is_refused,
        applying_the_same_route_twice_changes_nothing,
        a_route_without_endpoints_holds_the_address,
        an_address_outlives_slots_endpoints_and_domains,
        each_service_has_an_address_of_its_own,
        two_slots_of_one_name_are_invalid,
        an_endpoint_that_comes_twice_is_invalid,
        an_invalid_route_changes_nothing,
        a_domain_of_another_service_conflicts_and_changes_nothing,
        paths_of_one_host_may_belong_to_several_services,
        a_domain_that_was_given_up_is_free,
        a_domain_of_a_removed_route_is_free,
        a_route_may_repeat_its_own_domains,
        observe_repeats_the_digest_and_names_the_endpoints,
        observe_of_an_app_shows_nothing_of_others,
        observe_of_everything_shows_all,
        a_removed_route_is_observed_no_more,
        removing_a_missing_route_is_ok,
        removing_one_route_leaves_others_alone,
        an_apply_of_an_earlier_term_is_refused needs fenced,
        a_removal_of_an_earlier_term_is_refused needs fenced,
        a_read_with_a_later_term_raises_the_bar needs fenced,
        a_refused_apply_changes_nothing needs fenced,
        the_same_term_may_write_again needs fenced,
    ]
}

async fn it_declares_what_the_backend_reports(bed: Bed) -> Result<()> {
    bed.port.check().await?;
    assert_eq!(bed.fixture.capabilities(), bed.port.capabilities());
    Ok(())
}

async fn what_is_not_declared_is_refused(bed: Bed) -> Result<()> {
    let capabilities = bed.port.capabilities();
    let plain = named(&bed, &[(Slot::Blue, 1)])?;
    if !capabilities.headers {
        let mut route = plain.clone();
        let header = paas_core::model::HeaderMatch { name: "x-canary".into(), value: "yes".into() };
        route.header = Some((header, Slot::Blue));
        refused(apply(&bed, &route).await, ErrorKind::Unsupported);
    }
    if !capabilities.sticky {
        let mut route = plain.clone();
        route.sticky = Some("slot".into());
        refused(apply(&bed, &route).await, ErrorKind::Unsupported);
    }
    if !capabilities.traffic {
        let outcome = bed.port.traffic(&bed.world.scope(), &plain.resource()).await;
        refused(outcome, ErrorKind::Unsupported);
    }
    assert_eq!(status(&bed, &plain).await?, None);
    Ok(())
}

async fn applying_the_same_route_twice_changes_nothing(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    let address = apply(&bed, &route).await?;
    let before = status(&bed, &route).await?;
    assert_eq!(apply(&bed, &route).await?, address);
    assert_eq!(status(&bed, &route).await?, before);
    Ok(())
}

async fn a_route_without_endpoints_holds_the_address(bed: Bed) -> Result<()> {
    let mut route = bed.world.route();
    let address = apply(&bed, &route).await?;
    answers(&bed, &at(&address), None).await?;
    route.slots = vec![bed.world.slot(Slot::Blue, 1, endpoints(&bed, &route, Slot::Blue, 1).await?)];
    assert_eq!(apply(&bed, &route).await?, address);
    answers(&bed, &at(&address), Some(&route.slots[0].endpoints[0])).await
}

async fn an_address_outlives_slots_endpoints_and_domains(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1)]).await?;
    let address = apply(&bed, &route).await?;
    route.slots = vec![bed.world.slot(Slot::Green, 7, endpoints(&bed, &route, Slot::Green, 1).await?)];
    assert_eq!(apply(&bed, &route).await?, address);
    route.hosts.clear();
    assert_eq!(apply(&bed, &route).await?, address);
    route.slots.clear();
    assert_eq!(apply(&bed, &route).await?, address);
    assert_eq!(status(&bed, &route).await?.map(|status| status.address), Some(address));
    Ok(())
}

async fn each_service_has_an_address_of_its_own(bed: Bed) -> Result<()> {
    let first = apply(&bed, &bed.world.route()).await?;
    let second = apply(&bed, &bed.world.route()).await?;
    assert_ne!((first.host, first.port), (second.host, second.port));
    Ok(())
}

async fn two_slots_of_one_name_are_invalid(bed: Bed) -> Result<()> {
    let route = named(&bed, &[(Slot::Blue, 1), (Slot::Blue, 1)])?;
    refused(apply(&bed, &route).await, ErrorKind::Invalid);
    assert_eq!(status(&bed, &route).await?, None);
    Ok(())
}

async fn an_endpoint_that_comes_twice_is_invalid(bed: Bed) -> Result<()> {
    let mut within = named(&bed, &[(Slot::Blue, 1)])?;
    let endpoint = within.slots[0].endpoints[0].clone();
    within.slots[0].endpoints.push(endpoint.clone());
    refused(apply(&bed, &within).await, ErrorKind::Invalid);
    let mut across = within.clone();
    across.slots[0].endpoints.pop();
    across.slots.push(bed.world.slot(Slot::Green, 1, vec![endpoint]));
    refused(apply(&bed, &across).await, ErrorKind::Invalid);
    Ok(())
}

async fn an_invalid_route_changes_nothing(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    let before = status(&bed, &route).await?;
    let mut invalid = route.clone();
    invalid.slots.push(route.slots[0].clone());
    refused(apply(&bed, &invalid).await, ErrorKind::Invalid);
    assert_eq!(status(&bed, &route).await?, before);
    Ok(())
}

async fn a_domain_of_another_service_conflicts_and_changes_nothing(bed: Bed) -> Result<()> {
    let first = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &first).await?;
    for world in [bed.world.clone(), bed.world.of_other()] {
        let mut second = world.route();
        second.hosts.clone_from(&first.hosts);
        refused(apply_in(&bed, &world.scope(), &second).await, ErrorKind::Conflict);
        assert_eq!(bed.port.observe(&bed.world.platform(), &world.selector()).await?.len(), {
            usize::from(world.app == bed.world.app)
        });
    }
    answers(&bed, &domain(&bed, "/"), Some(&first.slots[0].endpoints[0])).await
}

async fn paths_of_one_host_may_belong_to_several_services(bed: Bed) -> Result<()> {
    let whole = route(&bed, &[(Slot::Blue, 1)]).await?;
    let mut part = route(&bed, &[(Slot::Blue, 1)]).await?;
    part.hosts = vec![format!("{}/api", bed.world.host()).parse()?];
    apply(&bed, &whole).await?;
    apply(&bed, &part).await?;
    for (path, expected) in [
        ("/", &whole),
        ("/apis", &whole),
        ("/ap", &whole),
        ("/api", &part),
        ("/api/", &part),
        ("/api/v1/items", &part),
    ] {
        answers(&bed, &domain(&bed, path), Some(&expected.slots[0].endpoints[0])).await?;
    }
    Ok(())
}

async fn a_domain_that_was_given_up_is_free(bed: Bed) -> Result<()> {
    let mut first = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &first).await?;
    answers(&bed, &domain(&bed, "/"), Some(&first.slots[0].endpoints[0])).await?;
    first.hosts.clear();
    apply(&bed, &first).await?;
    answers(&bed, &domain(&bed, "/"), None).await?;
    apply(&bed, &route(&bed, &[(Slot::Blue, 1)]).await?).await.map(drop)
}

async fn a_domain_of_a_removed_route_is_free(bed: Bed) -> Result<()> {
    let first = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &first).await?;
    bed.port.remove(&bed.world.scope(), &first.resource()).await?;
    let second = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &second).await?;
    answers(&bed, &domain(&bed, "/"), Some(&second.slots[0].endpoints[0])).await
}

async fn a_route_may_repeat_its_own_domains(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &route).await?;
    let second = format!("www.{}", bed.world.host());
    route.hosts.push(second.parse()?);
    apply(&bed, &route).await?;
    for target in [domain(&bed, "/"), Target::Domain(second, "/".into())] {
        answers(&bed, &target, Some(&route.slots[0].endpoints[0])).await?;
    }
    Ok(())
}

async fn observe_repeats_the_digest_and_names_the_endpoints(bed: Bed) -> Result<()> {
    let mut route = route(&bed, &[(Slot::Blue, 0), (Slot::Green, 1)]).await?;
    for _ in 0..2 {
        let address = apply(&bed, &route).await?;
        let Some(status) = status(&bed, &route).await? else { panic!("the route is not observed") };
        assert_eq!((status.applied, status.address), (route.digest(), address));
        assert_eq!((&status.app, &status.service), (&route.app, &route.service));
        let mut routed = status.routed;
        let mut expected: Vec<InstanceId> =
            route.slots.iter().flat_map(|slot| &slot.endpoints).map(|e| e.instance.clone()).collect();
        routed.sort();
        expected.sort();
        assert_eq!(routed, expected);
        assert_eq!(status.in_use, []);
        route.slots.pop();
    }
    Ok(())
}

async fn observe_of_an_app_shows_nothing_of_others(bed: Bed) -> Result<()> {
    let own = bed.world.route();
    apply(&bed, &own).await?;
    for world in [bed.world.another_app(), bed.world.of_other()] {
        apply_in(&bed, &world.scope(), &world.route()).await?;
    }
    let observed = bed.port.observe(&bed.world.scope(), &bed.world.selector()).await?;
    assert_eq!(observed.into_iter().map(|status| status.service).collect::<Vec<_>>(), [own.service]);
    Ok(())
}

async fn observe_of_everything_shows_all(bed: Bed) -> Result<()> {
    let mut services = Vec::new();
    for world in [bed.world.another_app(), bed.world.of_other()] {
        let route = world.route();
        apply_in(&bed, &world.scope(), &route).await?;
        services.push(route.service);
    }
    let observed = bed.port.observe(&bed.world.platform(), &Selector::All).await?;
    assert!(services.iter().all(|service| observed.iter().any(|status| status.service == *service)));
    Ok(())
}

async fn a_removed_route_is_observed_no_more(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    let address = apply(&bed, &route).await?;
    let ways = [domain(&bed, "/"), at(&address)];
    for target in &ways {
        answers(&bed, target, Some(&route.slots[0].endpoints[0])).await?;
    }
    bed.port.remove(&bed.world.scope(), &route.resource()).await?;
    assert_eq!(status(&bed, &route).await?, None);
    for target in &ways {
        answers(&bed, target, None).await?;
    }
    Ok(())
}

async fn removing_a_missing_route_is_ok(bed: Bed) -> Result<()> {
    let route = bed.world.route();
    bed.port.remove(&bed.world.scope(), &route.resource()).await?;
    apply(&bed, &route).await?;
    for _ in 0..2 {
        bed.port.remove(&bed.world.scope(), &route.resource()).await?;
    }
    let never = bed.world.key(Role::Slot(Slot::Blue)).resource();
    bed.port.remove(&bed.world.scope(), &never).await
}

async fn removing_one_route_leaves_others_alone(bed: Bed) -> Result<()> {
    let kept = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply(&bed, &kept).await?;
    let removed = bed.world.route();
    apply(&bed, &removed).await?;
    bed.port.remove(&bed.world.scope(), &removed.resource()).await?;
    answers(&bed, &domain(&bed, "/"), Some(&kept.slots[0].endpoints[0])).await
}

async fn an_apply_of_an_earlier_term_is_refused(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply_in(&bed, &bed.world.in_term(2), &route).await?;
    refused(apply_in(&bed, &bed.world.in_term(1), &route).await, ErrorKind::Conflict);
    Ok(())
}

async fn a_removal_of_an_earlier_term_is_refused(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply_in(&bed, &bed.world.in_term(2), &route).await?;
    let before = status(&bed, &route).await?;
    refused(bed.port.remove(&bed.world.in_term(1), &route.resource()).await, ErrorKind::Conflict);
    assert_eq!(status(&bed, &route).await?, before);
    Ok(())
}

async fn a_read_with_a_later_term_raises_the_bar(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply_in(&bed, &bed.world.in_term(1), &route).await?;
    bed.port.observe(&bed.world.in_term(2), &bed.world.selector()).await?;
    refused(apply_in(&bed, &bed.world.in_term(1), &route).await, ErrorKind::Conflict);
    drop(bed.port.watch(&bed.world.in_term(3)).await?);
    refused(apply_in(&bed, &bed.world.in_term(2), &route).await, ErrorKind::Conflict);
    Ok(())
}

async fn a_refused_apply_changes_nothing(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    apply_in(&bed, &bed.world.in_term(2), &route).await?;
    let before = status(&bed, &route).await?;
    let mut stale = route.clone();
    stale.slots.clear();
    refused(apply_in(&bed, &bed.world.in_term(1), &stale).await, ErrorKind::Conflict);
    assert_eq!(status(&bed, &route).await?, before);
    Ok(())
}

async fn the_same_term_may_write_again(bed: Bed) -> Result<()> {
    let route = route(&bed, &[(Slot::Blue, 1)]).await?;
    for term in [1, 1, 2, 2] {
        apply_in(&bed, &bed.world.in_term(term), &route).await?;
    }
    bed.port.remove(&bed.world.in_term(2), &route.resource()).await
}
