//! Which slot a request goes to.

use std::collections::HashMap;

use super::kit::*;
use crate::edge::HeaderRule;
use crate::edge::SlotName::{Blue, Green};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_wins_over_weights_and_opens_a_slot_without_weight() {
    let (rig, old, new) = (Rig::new().await, Instance::start("old").await, Instance::start("new").await);
    let mut canary = route(&[(Blue, 1, 100, &[&old]), (Green, 2, 0, &[&new])]);
    canary.header = Some(HeaderRule { name: "X-Canary".into(), value: "yes".into(), slot: Green });
    rig.apply(&canary).await;
    let mut client = rig.client().await;
    let with = |value: &str| {
        let mut ask = request("GET", "/");
        ask.headers_mut().insert("x-canary", value.parse().unwrap());
        ask
    };
    for _ in 0..20 {
        assert_eq!(client.ask(with("yes")).await.text, "new");
        assert_eq!(client.ask(with("no")).await.text, "old");
        assert_eq!(client.get("/").await.text, "old");
    }
    canary.slots[1].endpoints.clear();
    rig.apply(&canary).await;
    assert_eq!(client.ask(with("yes")).await.text, "old", "without endpoints there, the weights decide");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cookie_keeps_clients_on_their_slot_and_moves_as_many_as_the_weights() {
    let (rig, old, new) = (Rig::new().await, Instance::start("old").await, Instance::start("new").await);
    let weights = |blue: u32, green: u32| {
        let mut sticky = route(&[(Blue, 1, blue, &[&old]), (Green, 2, green, &[&new])]);
        sticky.sticky = Some("slot".into());
        sticky
    };
    rig.apply(&weights(90, 10)).await;
    let mut client = rig.client().await;
    let mut places: HashMap<String, String> = HashMap::new();
    for _ in 0..200 {
        let answer = client.get("/").await;
        let cookie = answer.header("set-cookie").unwrap().to_owned();
        assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax"), "{cookie}");
        places.insert(cookie.split(';').next().unwrap().to_owned(), answer.text);
    }
    assert_eq!(places.len(), 200, "each new client has a place of its own");
    let on_new = |places: &HashMap<String, String>| places.values().filter(|slot| *slot == "new").count();
    assert!((19..=21).contains(&on_new(&places)), "{} of 200 clients got 10 %", on_new(&places));

    let mut previous = places;
    for (blue, green) in [(90, 10), (50, 50), (50, 50), (0, 100)] {
        rig.apply(&weights(blue, green)).await;
        let mut now = HashMap::new();
        for (cookie, before) in &previous {
            let mut ask = request("GET", "/");
            ask.headers_mut().insert("cookie", format!("a=b; {cookie}; c=d").parse().unwrap());
            let answer = client.ask(ask).await;
            assert_eq!(answer.header("set-cookie"), None);
            assert!(before == "old" || answer.text == "new", "none leaves a slot that grows");
            now.insert(cookie.clone(), answer.text);
        }
        let share = on_new(&now);
        let want = 2 * green as usize;
        assert!(share.abs_diff(want) <= 2, "{share} of 200 clients are on a slot of {green} %");
        previous = now;
    }
    let mut odd = request("GET", "/");
    odd.headers_mut().insert("cookie", "slot=99999".parse().unwrap());
    assert!(client.ask(odd).await.header("set-cookie").is_some(), "a cookie that is not ours is replaced");
}
