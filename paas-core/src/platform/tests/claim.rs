//! Whose a domain is, after deploys that were refused.

use super::*;

/// An app with these domains.
fn app(name: &str, version: &str, domains: &[&str]) -> AppSpec {
    let mut web = service(version, &[]);
    web.domain = domains.iter().map(|domain| domain.parse().unwrap()).collect();
    AppSpec::new(name).unwrap().with_service("web", &web).unwrap()
}

async fn assert_refused(world: &World, app: &AppSpec, why: &str) {
    let error = world.platform.deploy(&world.user, app).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains(why), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_a_stopped_app_refuses_keeps_no_new_domain() {
    let world = World::new().await;
    world.deploy(&app("shop", "1", &["shop.test"])).await.unwrap();
    world.shop().await.stop().await.unwrap().finished_within(LONG).await.unwrap();
    assert_refused(&world, &app("shop", "2", &["shop.test", "new.test"]), "the app is stopped").await;
    world.deploy(&app("other", "1", &["new.test"])).await.unwrap();
    assert_refused(&world, &app("third", "1", &["shop.test"]), "belongs to another app").await;
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_an_app_refuses_which_is_being_removed_keeps_no_new_domain() {
    let world = World::new().await;
    world.deploy(&app("shop", "1", &["shop.test"])).await.unwrap();
    let shop = world.shop().await;
    // It cannot go before the request has ended.
    let web = shop.status().await.unwrap().service("web").unwrap().id.clone();
    let Resource::App(tenant, environment, id) = shop.resource() else { unreachable!() };
    let request = world.router.begin(&Resource::Service(tenant, environment, id, web), &[]).unwrap();
    let removal = shop.remove().await.unwrap();
    assert_refused(&world, &app("shop", "2", &["shop.test", "new.test"]), "is being removed").await;
    world.deploy(&app("other", "1", &["new.test"])).await.unwrap();
    assert_refused(&world, &app("third", "1", &["shop.test"]), "belongs to another app").await;
    drop(request);
    removal.finished_within(LONG).await.unwrap();
    world.deploy(&app("third", "1", &["shop.test"])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_deploy_that_lacks_one_of_its_domains_keeps_none() {
    let world = World::new().await;
    world.deploy(&app("shop", "1", &["shop.test"])).await.unwrap();
    assert_refused(&world, &app("other", "1", &["new.test", "shop.test"]), "belongs to another app").await;
    world.deploy(&app("third", "1", &["new.test"])).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refused_deploy_leaves_what_another_of_its_app_has_claimed_since() {
    let rig = super::rig::Rig::new();
    let world = rig.world(Default::default()).await;
    world.deploy(&app("shop", "1", &["shop.test"])).await.unwrap();
    let shop = world.shop().await;
    shop.stop().await.unwrap().finished_within(LONG).await.unwrap();
    let (platform, user) = (world.platform.clone(), world.user.clone());
    // The first has claimed the domain by then.
    rig.state.before.set("revision", async move {
        shop.start().await.unwrap().finished_within(LONG).await.unwrap();
        let second = platform.deploy(&user, &app("shop", "3", &["shop.test", "new.test"])).await.unwrap();
        second.finished_within(LONG).await.unwrap();
        shop.stop().await.unwrap().finished_within(LONG).await.unwrap();
    });
    assert_refused(&world, &app("shop", "2", &["shop.test", "new.test"]), "the app is stopped").await;
    assert_refused(&world, &app("third", "1", &["new.test"]), "belongs to another app").await;
}
