//! The platform ends, by `kill -9` or in good order, and goes on.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use paas::ErrorKind;
use paas::model::{AppSpec, Principal, Secret, TailItem};

use crate::cases;
use crate::load::{ask, post};
use crate::program::{Behaviour, SECRET};
use crate::role::Child;
use crate::world::{DEADLINE, Home, World, app, eventually, kill, name, tail, web};

cases![
    a_killed_platform_costs_nothing_and_the_next_adopts_what_runs,
    a_release_goes_on_after_the_platform_was_killed,
    a_killed_keeper_costs_no_request_and_no_line,
    a_killed_keeper_is_replaced_while_the_platform_is_away,
    an_instance_with_secrets_comes_back_after_its_keeper_died,
    a_killed_edge_is_started_again_and_serves_the_same_routes,
    stop_and_start_bring_back_the_same_number_of_replicas,
    an_app_left_running_is_found_again_and_one_that_was_stopped_stays_so,
];

fn two_services(label: &str) -> AppSpec {
    let mut front = web(Behaviour::Serve, label);
    front.replicas = 2;
    front.needs.push(name("db"));
    AppSpec::new("shop")
        .unwrap()
        .with_service("db", &Behaviour::Serve.service("db"))
        .unwrap()
        .with_service("web", &front)
        .unwrap()
}

/// Process ids by instance.
async fn pids(home: &Home, world: &World) -> BTreeMap<String, u32> {
    let mut pids = BTreeMap::new();
    for service in ["db", "web"] {
        for instance in world.instances(service).await {
            pids.insert(instance.id.to_string(), home.pid(&instance.id).await.unwrap());
        }
    }
    pids
}

async fn a_killed_platform_costs_nothing_and_the_next_adopts_what_runs() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&two_services("one")).await.unwrap();
    let load = world.load();
    load.more(20).await;
    let (before, machine) = (pids(&home, &world).await, world.machine.pids().await.unwrap());
    assert_eq!(before.len(), 3);
    world.leave().await;
    for _ in 0..2 {
        let mut platform = Child::platform(home.path(), None);
        platform.says("serving").await;
        load.more(20).await;
        platform.kill().await;
        load.more(20).await;
    }
    let world = World::open(&home).await.unwrap();
    assert_eq!(pids(&home, &world).await, before);
    assert_eq!(world.machine.pids().await.unwrap(), machine);
    assert_eq!(world.ready().await, BTreeMap::from([("db".to_owned(), 1), ("web".to_owned(), 2)]));
    load.all_by(&["one"]).await;
    world.end().await;
}

async fn a_release_goes_on_after_the_platform_was_killed() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&two_services("one")).await.unwrap();
    let load = world.load();
    world.leave().await;
    let mut platform = Child::platform(home.path(), Some(&two_services("two")));
    platform.says("deploying").await;
    platform.kill().await;
    load.more(20).await;
    let world = World::open(&home).await.unwrap();
    eventually("the second revision is promoted", async || {
        let status = world.status().await;
        let over = status.operation.is_none_or(|operation| operation.state.is_final());
        (status.promoted.is_some_and(|revision| revision.0 == 2) && over).then_some(())
    })
    .await;
    load.all_by(&["one", "two"]).await;
    assert_eq!(world.instances("web").await.len(), 2);
    let fresh = world.load();
    fresh.all_by(&["two"]).await;
    world.end().await;
}

async fn a_killed_keeper_costs_no_request_and_no_line() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    let (load, at) = (world.load(), world.machine.public_address());
    let mut lines = tail(&world.app().await, "web").await;
    let (before, edge) = world.machine.pids().await.unwrap();
    let pid = home.pid(&world.instances("web").await[0].id).await.unwrap();
    let mut written = 0;
    for _ in 0..3 {
        let (keeper, _) = world.machine.pids().await.unwrap();
        for _ in 0..100 {
            post(at, "web.test", "/out", format!("line {written}").as_bytes()).await.unwrap();
            written += 1;
            if written % 100 == 50 {
                kill(keeper);
            }
        }
        eventually("another keeper took over", async || {
            world.machine.pids().await.is_ok_and(|(now, _)| now != keeper).then_some(())
        })
        .await;
    }
    let mut read = 0;
    while read < written {
        match tokio::time::timeout(DEADLINE, lines.next()).await.unwrap().unwrap().unwrap() {
            TailItem::Lines(lines) => {
                for entry in &lines.entries {
                    assert_eq!(String::from_utf8_lossy(&entry.line), format!("line {read}"));
                    read += 1;
                }
            }
            TailItem::Gap { bytes, reason, .. } => panic!("{bytes} bytes are missing: {reason}"),
            _ => {}
        }
    }
    let (after, same) = world.machine.pids().await.unwrap();
    assert!(after != before && same == edge, "{before} {after}, {edge} {same}");
    assert_eq!(home.pid(&world.instances("web").await[0].id).await, Some(pid));
    load.all_by(&["one"]).await;
    world.end().await;
}

async fn a_killed_keeper_is_replaced_while_the_platform_is_away() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&two_services("one")).await.unwrap();
    let load = world.load();
    load.more(20).await;
    let (keeper, edge) = world.machine.pids().await.unwrap();
    let before = pids(&home, &world).await;
    world.leave().await;
    kill(keeper);
    eventually("another keeper took over", async || {
        home.roles().iter().any(|pid| ![keeper, edge].contains(pid)).then_some(())
    })
    .await;
    let (victim, pid) = before.iter().next().unwrap();
    kill(*pid);
    let again = eventually("it is started again", async || {
        home.pid(&victim.parse().unwrap()).await.filter(|now| now != pid)
    })
    .await;
    load.more(20).await;
    let world = World::open(&home).await.unwrap();
    let mut wanted = before.clone();
    wanted.insert(victim.clone(), again);
    assert_eq!(pids(&home, &world).await, wanted);
    assert_eq!(world.ready().await, BTreeMap::from([("db".to_owned(), 1), ("web".to_owned(), 2)]));
    load.all_by(&["one"]).await;
    world.end().await;
}

async fn an_instance_with_secrets_comes_back_after_its_keeper_died() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    let tenant = world.environment.resource().tenant().unwrap().clone();
    let key = SECRET.parse().unwrap();
    let value = Secret::new("open sesame").unwrap();
    world.platform.put_secret(&Principal::operator("ops"), &tenant, &key, value).await.unwrap();
    let mut service = web(Behaviour::Serve, "one");
    service.secrets.push(key);
    service.replicas = 2;
    world.deploy(&app(&service)).await.unwrap();
    let (load, at) = (world.load(), world.machine.public_address());
    load.more(20).await;
    let (keeper, _) = world.machine.pids().await.unwrap();
    kill(keeper);
    for instance in world.instances("web").await {
        let before = home.pid(&instance.id).await.unwrap();
        kill(before);
        eventually("it serves again", async || {
            let now = home.pid(&instance.id).await.filter(|now| *now != before);
            (now.is_some() && world.ready().await["web"] == 2).then_some(())
        })
        .await;
    }
    for _ in 0..4 {
        assert_eq!(ask(at, "web.test", "/secret").await.unwrap(), "open sesame");
    }
    let stored = std::fs::read(
        home.path().join("keeper").join(format!("{}.json", world.instances("web").await[0].id)),
    );
    assert!(!String::from_utf8(stored.unwrap()).unwrap().contains("sesame"));
    load.all_by(&["one"]).await;
    world.end().await;
}

async fn a_killed_edge_is_started_again_and_serves_the_same_routes() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    let (_, edge) = world.machine.pids().await.unwrap();
    kill(edge);
    // Its connections are gone; new ones wait in the keeper's socket and none is refused.
    world.load().all_by(&["one"]).await;
    let (_, now) = world.machine.pids().await.unwrap();
    assert_ne!(now, edge);
    world.deploy(&app(&web(Behaviour::Serve, "two"))).await.unwrap();
    world.load().all_by(&["two"]).await;
    world.end().await;
}

async fn stop_and_start_bring_back_the_same_number_of_replicas() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&two_services("one")).await.unwrap();
    let app = world.app().await;
    app.scale(&name("web"), 3).await.unwrap();
    let three = BTreeMap::from([("db".to_owned(), 1), ("web".to_owned(), 3)]);
    eventually("three are ready", async || (world.ready().await == three).then_some(())).await;
    app.stop().await.unwrap().finished_within(DEADLINE).await.unwrap();
    assert!(world.instances("web").await.is_empty() && world.instances("db").await.is_empty());
    assert!(!world.status().await.running);
    let refused = world.deploy(&two_services("two")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict, "{refused}");
    app.start().await.unwrap().finished_within(DEADLINE).await.unwrap();
    assert_eq!(world.ready().await, three);
    world.load().all_by(&["one"]).await;
    world.end().await;
}

async fn an_app_left_running_is_found_again_and_one_that_was_stopped_stays_so() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    world.app().await.stop().await.unwrap().finished_within(DEADLINE).await.unwrap();
    world.end().await;
    assert_eq!(home.marked(), Vec::<u32>::new());
    let world = World::open(&home).await.unwrap();
    assert!(!world.status().await.running);
    assert!(world.instances("web").await.is_empty());
    world.app().await.start().await.unwrap().finished_within(DEADLINE).await.unwrap();
    let load = world.load();
    load.all_by(&["one"]).await;
    // Everything is stopped under an app that should run: the next platform starts it again.
    drop(load);
    world.end().await;
    let world = World::open(&home).await.unwrap();
    let at = world.machine.public_address();
    eventually("it serves again", async || ask(at, "web.test", "/").await.ok()).await;
    world.load().all_by(&["one"]).await;
    world.end().await;
}
