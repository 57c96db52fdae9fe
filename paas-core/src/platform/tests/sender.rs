//! Who may send log lines in.

use super::*;
use crate::model::{LogCredential, LogSender, Resource, Secret};

async fn sender(world: &World, token: &Secret) -> Result<Option<LogCredential>> {
    world.platform.0.logs.as_ref().unwrap().directory.sender(token).await
}

async fn shop_with_credential(world: &World) -> (AppHandle, LogCredential, Secret) {
    world.deploy(&one(&with("1", "\"rolling\""))).await.unwrap();
    let shop = world.shop().await;
    let (credential, token) = shop.create_log_credential(&name("web"), "agent").await.unwrap();
    (shop, credential, token)
}

#[tokio::test(start_paused = true)]
async fn a_token_is_told_once_and_says_whose_lines_come_with_it() {
    let world = World::new().await;
    let (shop, credential, token) = shop_with_credential(&world).await;
    let text = std::str::from_utf8(token.expose()).unwrap();
    assert!(text.starts_with("paaslog_") && text.len() == 72);
    assert_eq!(sender(&world, &token).await.unwrap().unwrap(), credential);
    let LogSender::Service(.., service) = &credential.sender else { panic!("it is a service's") };
    assert_eq!(*service, shop.status().await.unwrap().services[0].id);
    assert_eq!(shop.log_credentials().await.unwrap(), [credential]);
    for wrong in [text.to_uppercase(), text[..71].to_owned(), format!("{text}0"), text.replace('_', "-")] {
        assert_eq!(sender(&world, &Secret::new(wrong).unwrap()).await.unwrap(), None);
    }
    // Nobody who reads the records learns it.
    let state = &world.platform.0.store;
    let kept = state.state.list(&state.scope, crate::engine::store::LOG_CREDENTIAL, None).await.unwrap();
    assert_eq!(kept.len(), 1);
    assert!(
        !String::from_utf8_lossy(&kept[0].value).contains(&text[8..]) && !kept[0].key.id.contains(&text[8..])
    );
}

#[tokio::test(start_paused = true)]
async fn a_revoked_credential_is_nobodys_at_once_here_and_within_seconds_elsewhere() {
    let world = World::new().await;
    let (shop, credential, token) = shop_with_credential(&world).await;
    assert!(sender(&world, &token).await.unwrap().is_some());
    shop.revoke_log_credential(&credential.id).await.unwrap();
    assert_eq!(sender(&world, &token).await.unwrap(), None);
    shop.revoke_log_credential(&credential.id).await.unwrap();
    assert!(shop.log_credentials().await.unwrap().is_empty());

    // Another replica has deleted it.
    let (credential, token) = shop.create_log_credential(&name("web"), "agent").await.unwrap();
    assert!(sender(&world, &token).await.unwrap().is_some());
    let state = &world.platform.0.store;
    let kept = state.state.list(&state.scope, crate::engine::store::LOG_CREDENTIAL, None).await.unwrap();
    state.delete(&kept[0].key).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(sender(&world, &token).await.unwrap(), None, "{credential:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_gone_makes_its_credentials_worthless() {
    let world = World::new().await;
    let (shop, _, token) = shop_with_credential(&world).await;
    assert!(sender(&world, &token).await.unwrap().is_some());
    shop.remove().await.unwrap().finished_within(LONG).await.unwrap();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(sender(&world, &token).await.unwrap(), None);
    // Nothing of them stays, and nothing of others goes.
    let collector =
        world.platform.create_log_collector(&Principal::operator("ops"), "nodes").await.unwrap().0;
    world.platform.0.log_directory.forget_gone().await.unwrap();
    let state = &world.platform.0.store;
    let kept = state.state.list(&state.scope, crate::engine::store::LOG_CREDENTIAL, None).await.unwrap();
    assert_eq!(kept.len(), 1, "{collector:?}");
}

#[tokio::test(start_paused = true)]
async fn collectors_belong_to_the_platform_and_no_app_sees_or_revokes_them() {
    let world = World::new().await;
    let (shop, own, _) = shop_with_credential(&world).await;
    let operator = Principal::operator("ops");
    let (collector, token) = world.platform.create_log_collector(&operator, "nodes").await.unwrap();
    assert_eq!(sender(&world, &token).await.unwrap().unwrap().sender, LogSender::Collector);
    assert_eq!(world.platform.log_collectors(&operator).await.unwrap(), std::slice::from_ref(&collector));
    assert_eq!(shop.log_credentials().await.unwrap(), [own]);
    shop.revoke_log_credential(&collector.id).await.unwrap();
    assert_eq!(world.platform.log_collectors(&operator).await.unwrap().len(), 1);
    world.platform.revoke_log_collector(&operator, &collector.id).await.unwrap();
    assert_eq!(sender(&world, &token).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn names_are_checked_and_there_are_only_so_many() {
    let world = World::new().await;
    let (shop, ..) = shop_with_credential(&world).await;
    for wrong in ["", "a b", &"x".repeat(41), "a\n"] {
        let refused = shop.create_log_credential(&name("web"), wrong).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid, "{wrong:?}");
    }
    assert_eq!(
        shop.create_log_credential(&name("wrong"), "agent").await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    for _ in 1..crate::model::limit::LOG_CREDENTIALS {
        shop.create_log_credential(&name("web"), "agent").await.unwrap();
    }
    let refused = shop.create_log_credential(&name("web"), "agent").await.unwrap_err();
    assert!(refused.to_string().contains("revoke"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_found_while_it_lives_and_for_a_while_after() {
    let world = World::new().await;
    let (shop, credential, _) = shop_with_credential(&world).await;
    let directory = world.platform.0.logs.as_ref().unwrap().directory.clone();
    let (_, instance) = world.scheduler.instances().into_iter().next().unwrap();
    let origin = directory.instance(instance.id.as_str()).await.unwrap().unwrap();
    assert_eq!((origin.resource(), &origin.instance), (credential.sender.resource(), &instance.id));
    assert_eq!(directory.instance("i-unknown").await.unwrap(), None);
    assert_eq!(directory.instance("../../etc/passwd").await.unwrap(), None);
    shop.stop().await.unwrap().finished_within(LONG).await.unwrap();
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(directory.instance(instance.id.as_str()).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(directory.instance(instance.id.as_str()).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn nobody_makes_or_sees_credentials_who_may_not() {
    let (authorizer, operator) = (MemoryAuthorizer::new(), Principal::operator("ops"));
    authorizer.allow(&operator, &Action::ALL, Resource::Platform);
    let scheduler = MemoryScheduler::new(Clock::runtime(Timestamp(1_000_000)));
    let own = Arc::new(authorizer.clone());
    let world = World::of(&scheduler, Arc::new(scheduler.clone()), |builder| builder.authorizer(own)).await;
    let tenant = world.platform.ensure_tenant(&operator, TenantName::new("acme").unwrap()).await.unwrap();
    let most: Vec<Action> =
        Action::ALL.into_iter().filter(|action| *action != Action::WriteSecrets).collect();
    authorizer.allow(&world.user, &most, Resource::Tenant(tenant.id));
    world.deploy(&one(&with("1", "\"rolling\""))).await.unwrap();
    let (shop, platform, user) = (world.shop().await, &world.platform, &world.user);
    let denied = [
        shop.create_log_credential(&name("web"), "agent").await.map(drop),
        shop.revoke_log_credential(&"l-1".parse().unwrap()).await,
        platform.create_log_collector(user, "nodes").await.map(drop),
        platform.revoke_log_collector(user, &"l-1".parse().unwrap()).await,
        platform.log_collectors(user).await.map(drop),
        platform.log_quarantine(user).await.map(drop),
    ];
    for outcome in denied {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Denied);
    }
    assert!(shop.log_credentials().await.unwrap().is_empty());
    assert!(platform.log_collectors(&operator).await.unwrap().is_empty());
}
