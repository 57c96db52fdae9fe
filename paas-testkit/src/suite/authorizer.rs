//! The cases of [`Authorizer`].

use std::sync::Arc;

use futures_util::future::BoxFuture;
use paas_core::Result;
use paas_core::model::{Action, Principal, Resource};
use paas_core::port::{Authorizer, Decision};

use crate::case::{Case, cases, suites};
use crate::{Bench, Fixture};

/// An authoriser, and a way to give it rules.
pub trait AuthorizerFixture: Fixture<Port = dyn Authorizer, Capabilities = ()> {
    /// Allows a principal these actions on a resource and everything below it.
    fn allow<'a>(
        &'a self,
        principal: &'a Principal,
        actions: &'a [Action],
        resource: Resource,
    ) -> BoxFuture<'a, Result<()>>;
}

suites!("authorizer", Authorizer, AuthorizerFixture);

type Bed = Bench<dyn AuthorizerFixture>;

fn cases() -> Vec<Case<dyn AuthorizerFixture>> {
    cases![dyn AuthorizerFixture:
        what_no_rule_allows_is_denied,
        what_a_rule_allows_is_allowed,
        deciding_twice_gives_the_same,
        a_rule_allows_only_its_actions,
        a_rule_allows_what_lies_below_its_resource,
        a_rule_allows_nothing_above_or_beside_its_resource,
        a_rule_allows_nobody_else,
        a_namesake_of_another_tenant_is_somebody_else,
        a_robot_is_not_the_person_of_its_name,
    ]
}

fn ann(bed: &Bed) -> Principal {
    Principal::user("ann", bed.world.tenant.clone())
}

async fn allowed(bed: &Bed, who: &Principal, action: Action, resource: &Resource) -> Result<bool> {
    Ok(bed.port.decide(who, action, resource).await? == Decision::Allow)
}

async fn what_no_rule_allows_is_denied(bed: Bed) -> Result<()> {
    let own = Resource::Tenant(bed.world.tenant.clone());
    for action in Action::ALL {
        for resource in [&own, &bed.world.app_resource(), &Resource::Platform] {
            assert!(!allowed(&bed, &ann(&bed), action, resource).await?, "{action:?} on {resource}");
        }
    }
    Ok(())
}

async fn what_a_rule_allows_is_allowed(bed: Bed) -> Result<()> {
    let app = bed.world.app_resource();
    bed.fixture.allow(&ann(&bed), &[Action::Read, Action::Deploy], app.clone()).await?;
    assert!(allowed(&bed, &ann(&bed), Action::Read, &app).await?);
    assert!(allowed(&bed, &ann(&bed), Action::Deploy, &app).await?);
    Ok(())
}

async fn deciding_twice_gives_the_same(bed: Bed) -> Result<()> {
    let app = bed.world.app_resource();
    bed.fixture.allow(&ann(&bed), &[Action::Read], app.clone()).await?;
    for _ in 0..2 {
        assert!(allowed(&bed, &ann(&bed), Action::Read, &app).await?);
        assert!(!allowed(&bed, &ann(&bed), Action::Deploy, &app).await?);
    }
    Ok(())
}

async fn a_rule_allows_only_its_actions(bed: Bed) -> Result<()> {
    let app = bed.world.app_resource();
    bed.fixture.allow(&ann(&bed), &[Action::Read], app.clone()).await?;
    for action in Action::ALL.into_iter().filter(|action| *action != Action::Read) {
        assert!(!allowed(&bed, &ann(&bed), action, &app).await?, "{action:?}");
    }
    Ok(())
}

async fn a_rule_allows_what_lies_below_its_resource(bed: Bed) -> Result<()> {
    let tenant = Resource::Tenant(bed.world.tenant.clone());
    bed.fixture.allow(&ann(&bed), &[Action::Read], tenant).await?;
    assert!(allowed(&bed, &ann(&bed), Action::Read, &bed.world.app_resource()).await?);
    assert!(allowed(&bed, &ann(&bed), Action::Read, &bed.world.service_resource()).await?);
    Ok(())
}

async fn a_rule_allows_nothing_above_or_beside_its_resource(bed: Bed) -> Result<()> {
    bed.fixture.allow(&ann(&bed), &[Action::Read], bed.world.app_resource()).await?;
    let environment = Resource::Environment(bed.world.tenant.clone(), bed.world.environment.clone());
    let tenant = Resource::Tenant(bed.world.tenant.clone());
    let beside = bed.world.another_app().app_resource();
    for resource in [environment, tenant, beside, Resource::Platform, bed.world.of_other().app_resource()] {
        assert!(!allowed(&bed, &ann(&bed), Action::Read, &resource).await?, "{resource}");
    }
    Ok(())
}

async fn a_rule_allows_nobody_else(bed: Bed) -> Result<()> {
    let app = bed.world.app_resource();
    bed.fixture.allow(&ann(&bed), &[Action::Read], app.clone()).await?;
    let bob = Principal::user("bob", bed.world.tenant.clone());
    assert!(!allowed(&bed, &bob, Action::Read, &app).await?);
    Ok(())
}

async fn a_namesake_of_another_tenant_is_somebody_else(bed: Bed) -> Result<()> {
    let app = bed.world.app_resource();
    bed.fixture.allow(&ann(&bed), &[Action::Read], app.clone()).await?;
    let namesake = Principal::user("ann", bed.world.other.clone());
    assert!(!allowed(&bed, &namesake, Action::Read, &app).await?);
    Ok(())
}

async fn a_robot_is_not_the_person_of_its_name(bed: Bed) -> Result<()> {
    let app = bed.world.app_resource();
    bed.fixture.allow(&ann(&bed), &[Action::Read], app.clone()).await?;
    let robot = Principal::Robot { name: "ann".into(), tenant: bed.world.tenant.clone() };
    assert!(!allowed(&bed, &robot, Action::Read, &app).await?);
    Ok(())
}
