//! A machine that cannot be opened, while what runs on it goes on.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use paas::ErrorKind;
use paas::local::LocalMachine;

use crate::cases;
use crate::load::Load;
use crate::program::Behaviour;
use crate::role::Child;
use crate::world::{Home, World, app, eventually, web};

cases![
    a_public_port_that_is_taken_is_refused_and_named,
    another_public_port_that_is_taken_leaves_the_old_one_serving,
    another_public_port_takes_the_place_of_the_old_one,
    a_directory_of_another_process_is_refused_and_its_owner_named,
    a_directory_of_a_newer_release_is_refused_and_left_alone,
];

fn taken() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = listener.local_addr().unwrap();
    (listener, at)
}

async fn a_public_port_that_is_taken_is_refused_and_named() {
    let home = Home::new();
    let (listener, at) = taken();
    let error = LocalMachine::open(home.config().with_public(at)).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{text}");
    assert!(text.contains("in use") && text.contains(&at.to_string()), "{text}");
    assert!(text.contains("serve at another address"), "{text}");
    eventually("nothing was left behind", async || home.roles().is_empty().then_some(())).await;
    // Once it is free, the same call succeeds.
    drop(listener);
    let machine = LocalMachine::open(home.config().with_public(at)).await.unwrap();
    assert_eq!(machine.public_address(), at);
    World::on(machine).await.unwrap().end().await;
}

async fn another_public_port_that_is_taken_leaves_the_old_one_serving() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    let load = world.load();
    load.more(20).await;
    world.leave().await;
    let (_listener, at) = taken();
    let error = LocalMachine::open(home.config().with_public(at)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.to_string().contains(&at.to_string()), "{error}");
    load.all_by(&["one"]).await;
    let world = World::open(&home).await.unwrap();
    load.all_by(&["one"]).await;
    world.end().await;
}

async fn another_public_port_takes_the_place_of_the_old_one() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    let before = world.machine.public_address();
    world.leave().await;
    let (listener, at) = taken();
    drop(listener);
    let machine = LocalMachine::open(home.config().with_public(at)).await.unwrap();
    assert_eq!(machine.public_address(), at);
    let world = World::on(machine).await.unwrap();
    Load::start(at, "web.test").all_by(&["one"]).await;
    assert!(TcpListener::bind(before).is_ok(), "nobody listens at the old address");
    world.end().await;
}

async fn a_directory_of_another_process_is_refused_and_its_owner_named() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    let load = world.load();
    world.leave().await;
    let mut owner = Child::platform(home.path(), None);
    owner.says("serving").await;
    let error = LocalMachine::open(home.config()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.to_string().contains("another process owns the data directory"), "{error}");
    assert_eq!(error.context("pid"), Some(owner.id().to_string().as_str()), "{error}");
    load.all_by(&["one"]).await;
    owner.kill().await;
    World::open(&home).await.unwrap().end().await;
}

async fn a_directory_of_a_newer_release_is_refused_and_left_alone() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    let load = world.load();
    load.more(20).await;
    world.leave().await;
    let format = home.path().join("format");
    let known = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, "paas-data 99\n").unwrap();
    let state = std::fs::read(home.path().join("state.redb")).unwrap();
    let error = LocalMachine::open(home.config()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("newer release") && text.contains("99") && text.contains("newest known"), "{text}");
    assert!(std::fs::read(home.path().join("state.redb")).unwrap() == state);
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "paas-data 99\n");
    load.all_by(&["one"]).await;
    std::fs::write(&format, known).unwrap();
    let world = World::open(&home).await.unwrap();
    load.all_by(&["one"]).await;
    world.end().await;
}
