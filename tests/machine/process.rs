//! Instances that do not end as they should.

use paas::model::InstanceState;

use crate::cases;
use crate::load::ask;
use crate::program::Behaviour;
use crate::world::{Home, World, app, eventually, kill, lives, web};

cases![
    what_ignores_term_is_killed_with_its_group_after_its_grace,
    what_forks_away_ends_with_its_instance,
    what_forks_away_without_its_environment_ends_with_its_instance,
    a_killed_instance_is_started_again_and_no_request_fails,
];

async fn what_ignores_term_is_killed_with_its_group_after_its_grace() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Stubborn, "one"))).await.unwrap();
    let stubborn = home.pid(&world.instances("web").await[0].id).await.unwrap();
    let group = |pid: u32| {
        let pid = rustix::process::Pid::from_raw(pid.cast_signed());
        rustix::process::getpgid(pid).map(|group| group.as_raw_nonzero().get().cast_unsigned())
    };
    let family: Vec<u32> = home.marked().into_iter().filter(|pid| group(*pid) == Ok(stubborn)).collect();
    assert_eq!(family.len(), 2, "itself and its child: {family:?}");
    let load = world.load();
    load.more(20).await;
    world.deploy(&app(&web(Behaviour::Serve, "two"))).await.unwrap();
    eventually("nothing of the group is left", async || family.iter().all(|pid| !lives(*pid)).then_some(()))
        .await;
    load.all_by(&["one", "two"]).await;
    assert_eq!(world.instances("web").await.len(), 1);
    world.end().await;
}

async fn what_forks_away_ends_with_its_instance() {
    forked_away(Behaviour::Stray).await;
}

async fn what_forks_away_without_its_environment_ends_with_its_instance() {
    forked_away(Behaviour::BareStray).await;
}

async fn forked_away(behaviour: Behaviour) {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(behaviour, "one"))).await.unwrap();
    let stray = ask(world.machine.public_address(), "web.test", "/stray").await.unwrap();
    let stray: u32 = stray.parse().unwrap();
    assert!(lives(stray));
    let load = world.load();
    load.more(20).await;
    world.deploy(&app(&web(Behaviour::Serve, "two"))).await.unwrap();
    let gone = tokio::time::timeout(
        crate::world::DEADLINE,
        eventually("the stray has ended", async || (!lives(stray)).then_some(())),
    );
    let outcome = gone.await;
    if outcome.is_err() {
        kill(stray);
    }
    outcome.unwrap();
    load.all_by(&["one", "two"]).await;
    world.end().await;
}

async fn a_killed_instance_is_started_again_and_no_request_fails() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    let mut service = web(Behaviour::Serve, "one");
    service.replicas = 2;
    world.deploy(&app(&service)).await.unwrap();
    let load = world.load();
    load.more(20).await;
    let before = world.instances("web").await;
    let pid = home.pid(&before[0].id).await.unwrap();
    kill(pid);
    eventually("it runs again in its place", async || {
        let now = world.instances("web").await;
        let same = now.iter().find(|instance| instance.id == before[0].id)?;
        (same.restarts == 1 && same.state == InstanceState::Ready).then_some(())
    })
    .await;
    let again = world.instances("web").await.into_iter().find(|now| now.id == before[0].id).unwrap();
    assert_eq!(again.last_exit.unwrap().signal, Some(9));
    assert!(home.pid(&again.id).await.is_some_and(|now| now != pid));
    load.all_by(&["one"]).await;
    world.end().await;
}
