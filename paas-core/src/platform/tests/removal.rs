//! Whoever asks while an app is just being forgotten.

use std::sync::Mutex;

use async_trait::async_trait;

use super::rig::Rig;
use super::*;
use crate::engine::EngineConfig;
use crate::guard::{Call, Interceptor};
use crate::platform::{AppHandle, OperationHandle};

/// Removes the app once more when its first record goes.
#[derive(Debug, Default)]
struct Second {
    app: Mutex<Option<AppHandle>>,
    operation: Mutex<Option<OperationHandle>>,
}

#[async_trait]
impl Interceptor for Arc<Second> {
    async fn before(&self, call: &Call) -> Result<()> {
        if (call.port, call.op) == ("state_store", "delete") {
            let app = self.app.lock().unwrap().take();
            if let Some(app) = app {
                let operation = app.remove().await?;
                *self.operation.lock().unwrap() = Some(operation);
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_asked_for_twice_ends_twice() {
    let second = Arc::new(Second::default());
    let (platform, user) = Rig::new().intercepted(second.clone()).await;
    let spec = AppSpec::new("shop").unwrap().with_service("web", &service("1", &[])).unwrap();
    platform.deploy(&user, &spec).await.unwrap().finished_within(LONG).await.unwrap();
    let shop = platform.production(&user).await.unwrap().app(&"shop".parse().unwrap()).await.unwrap();
    *second.app.lock().unwrap() = Some(shop.clone());
    shop.remove().await.unwrap().finished_within(LONG).await.unwrap();
    let again = second.operation.lock().unwrap().take().expect("it was asked for a second time");
    let ended = again.finished_within(LONG).await.unwrap();
    assert_eq!(ended.state, crate::model::OperationState::Succeeded);
}

/// An app with a domain, in a version.
fn shop(version: &str) -> AppSpec {
    let mut web = service(version, &[]);
    web.domain.push("shop.test".parse().unwrap());
    one(&web)
}

/// Whoever deploys an app that is just being forgotten makes another one of its name, never one that has none.
#[tokio::test(start_paused = true)]
async fn an_app_that_is_removed_while_it_is_deployed_is_made_anew() {
    for kind in ["domain", "revision", "app"] {
        let rig = Rig::new();
        let world = rig.world(EngineConfig::default()).await;
        world.deploy(&shop("1")).await.unwrap();
        let before = world.shop().await;
        let removed = before.clone();
        rig.state.before.set(kind, async move {
            removed.remove().await.unwrap().finished_within(LONG).await.unwrap();
        });
        world.deploy(&shop("2")).await.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        assert_ne!(world.shop().await.id(), before.id(), "{kind}");
        tokio::time::sleep(LONG).await;
        assert_eq!(world.scheduler.instances().len(), 1, "{kind}: one app runs");
    }
}

/// A first deploy broke off and has left a name without an app. Another one goes on from there, and is late: before it makes
/// the app's record, the app has a whole life.
async fn overtaken() -> (Rig, World) {
    let rig = Rig::new();
    let world = rig.world(EngineConfig::default()).await;
    let (sent, stopped) = tokio::sync::oneshot::channel();
    rig.state.before.set("app", async move {
        sent.send(()).unwrap();
        std::future::pending().await
    });
    let first = tokio::spawn({
        let (platform, user) = (world.platform.clone(), world.user.clone());
        async move { platform.deploy(&user, &shop("1")).await }
    });
    stopped.await.unwrap();
    first.abort();
    (rig, world)
}

async fn live_and_die(platform: Platform, user: Principal) {
    let quick = platform.deploy(&user, &shop("2")).await.unwrap();
    quick.finished_within(LONG).await.unwrap();
    let app = platform.production(&user).await.unwrap().app(&"shop".parse().unwrap()).await.unwrap();
    app.remove().await.unwrap().finished_within(LONG).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_first_deploy_that_is_overtaken_by_a_whole_life_of_its_app_makes_it_anew() {
    let (rig, world) = overtaken().await;
    rig.state.before.set("app", live_and_die(world.platform.clone(), world.user.clone()));
    world.deploy(&shop("3")).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(world.scheduler.instances().len(), 1, "one app runs");
    world.deploy(&shop("4")).await.unwrap();
    assert_eq!(world.scheduler.instances().len(), 1, "it is the one that has the name");
}

/// Two are late: what the second is told is stored must not go with the record of the first.
#[tokio::test(start_paused = true)]
async fn of_two_deploys_that_are_overtaken_each_makes_it_anew() {
    let (rig, world) = overtaken().await;
    let (sent, stopped) = tokio::sync::oneshot::channel();
    let (go, told) = tokio::sync::oneshot::channel();
    rig.state.before.set("app", async move {
        sent.send(()).unwrap();
        told.await.unwrap();
    });
    let (platform, user) = (world.platform.clone(), world.user.clone());
    let second = tokio::spawn(async move { platform.deploy(&user, &shop("4")).await });
    stopped.await.unwrap();
    let (platform, life) = (world.platform.clone(), live_and_die(world.platform.clone(), world.user.clone()));
    rig.state.before.set("app", async move {
        life.await;
        // Nobody acts on what is made now before the second comes.
        platform.shutdown().await;
    });
    world.platform.deploy(&world.user, &shop("3")).await.unwrap();
    go.send(()).unwrap();
    let second = second.await.unwrap().unwrap();
    let next = rig.world(super::rig::named("next")).await;
    second.finished_within(LONG).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(next.scheduler.instances().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_app_that_never_had_its_name_is_forgotten_before_it_runs() {
    let (rig, world) = overtaken().await;
    let (state, life) = (rig.state.clone(), live_and_die(world.platform.clone(), world.user.clone()));
    rig.state.before.set("app", async move {
        life.await;
        // Whoever deploys does not get to know that it was overtaken.
        *state.unreadable.lock().unwrap() = Some(ErrorKind::Unavailable);
    });
    let late = world.platform.deploy(&world.user, &shop("3")).await;
    assert_eq!(late.unwrap_err().kind(), ErrorKind::Unavailable);
    let started = world.scheduler.started();
    *rig.state.unreadable.lock().unwrap() = None;
    tokio::time::sleep(LONG).await;
    assert_eq!((world.scheduler.instances().len(), world.scheduler.started()), (0, started));
    let thief =
        AppSpec::new("other").unwrap().with_service("web", &shop("1").services[&name("web")]).unwrap();
    world.deploy(&thief).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn nothing_is_kept_of_what_was_removed() {
    let world = World::new().await;
    for number in 0..3 {
        let name = format!("shop-{number}");
        let app = AppSpec::new(&name).unwrap().with_service("web", &service("1", &[])).unwrap();
        world.deploy(&app).await.unwrap();
        assert_eq!(world.platform.0.engine.remembered(), 1);
        let production = world.platform.production(&world.user).await.unwrap();
        let app = production.app(&name.parse().unwrap()).await.unwrap();
        app.remove().await.unwrap().finished_within(LONG).await.unwrap();
        assert_eq!(world.platform.0.engine.remembered(), 0);
    }
}
