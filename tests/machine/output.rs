//! Output in masses, and output that is no text.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use paas::model::{AppSpec, TailItem};

use crate::cases;
use crate::load::{ask, post};
use crate::program::Behaviour;
use crate::world::{DEADLINE, Home, World, app, eventually, tail, web};

cases![a_flood_of_output_is_bounded_counted_and_hurts_nobody_else, binary_output_comes_back_byte_by_byte,];

/// More than all bounds on the way together.
const FLOOD: u64 = 500 * 1024 * 1024;

async fn a_flood_of_output_is_bounded_counted_and_hurts_nobody_else() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    let mut flood = Behaviour::Flood.service("flood");
    flood.domain.push("flood.test".parse().unwrap());
    let both: AppSpec = app(&web(Behaviour::Serve, "one")).with_service("flood", &flood).unwrap();
    world.deploy(&both).await.unwrap();
    let load = world.load();
    let app = world.app().await;
    let lines = tail(&app, "flood").await;
    let counted = tokio::spawn(account(lines));
    let mut others = tail(&app, "web").await;
    let read =
        tokio::spawn(async move { while !holds(&others.next().await.unwrap().unwrap(), b"here I am") {} });
    let at = world.machine.public_address();
    let flooded = async || ask(at, "flood.test", "/written").await.unwrap().parse::<u64>().unwrap() > FLOOD;
    eventually("the flood passes all bounds, and the other is read", async || {
        post(at, "web.test", "/out", b"here I am").await.unwrap();
        (flooded().await && read.is_finished()).then_some(())
    })
    .await;
    let (keeper, _) = world.machine.pids().await.unwrap();
    let held = anonymous(keeper) + segments(keeper);
    assert!(held <= 48 * 1024 * 1024, "the keeper holds {held} bytes");
    tokio::time::timeout(DEADLINE, counted).await.expect("all of the flood is accounted for").unwrap();
    load.all_by(&["one"]).await;
    world.end().await;
}

fn holds(item: &TailItem, text: &[u8]) -> bool {
    matches!(item, TailItem::Lines(lines) if lines.entries.iter().any(|entry| entry.line == text))
}

/// Reads the flood: what is missing between two batches is told as a gap of just that many bytes.
async fn account(mut lines: BoxStream<'static, paas::Result<TailItem>>) {
    let (mut first, mut next) = (None, None);
    loop {
        match lines.next().await.unwrap().unwrap() {
            TailItem::Lines(lines) => {
                let (position, end) = (lines.entries[0].position.sequence, lines.ends[0].1.sequence);
                assert_eq!(next.unwrap_or(position), position);
                next = Some(end);
                if end - *first.get_or_insert(position) > FLOOD {
                    return;
                }
            }
            TailItem::Gap { origin: Some(_), bytes, .. } => next = next.map(|next| next + bytes),
            // A gap whose origin nobody knows is told to everybody, and once more with the next line of each.
            _ => {}
        }
    }
}

/// Memory of a process that is its own.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1_024
}

/// Memory of the segments of output that a keeper holds.
fn segments(pid: u32) -> u64 {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let paths = descriptors.map(|entry| entry.path());
    let is_segment = |path: &std::path::PathBuf| {
        std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("paas-spool"))
    };
    paths.filter(is_segment).filter_map(|path| Some(std::fs::metadata(path).ok()?.len())).sum()
}

async fn binary_output_comes_back_byte_by_byte() {
    let home = Home::new();
    let world = World::open(&home).await.unwrap();
    world.deploy(&app(&web(Behaviour::Serve, "one"))).await.unwrap();
    // Every byte but the one that ends a line, and some that end in the middle of a character.
    let mut all: Vec<u8> = (0..=u8::MAX).filter(|byte| *byte != b'\n').cycle().take(100_000).collect();
    all.extend_from_slice(&[0xf0, 0x9f, 0x92]);
    post(world.machine.public_address(), "web.test", "/out", &all).await.unwrap();
    let mut lines = tail(&world.app().await, "web").await;
    let read = async {
        loop {
            if let TailItem::Lines(lines) = lines.next().await.unwrap().unwrap()
                && let Some(found) = lines.entries.iter().find(|entry| entry.line.len() > 1_000)
            {
                return found.line.clone();
            }
        }
    };
    let read = tokio::time::timeout(DEADLINE, read).await.expect("the line is read");
    assert!(read == all, "{} bytes of {}", read.len(), all.len());
    world.load().all_by(&["one"]).await;
    world.end().await;
}
