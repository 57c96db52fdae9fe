//! From readiness, as it comes over the connection, to the next step, as it leaves.

use std::collections::HashSet;
use std::time::Instant;

use bytes::Bytes;
use serde_json::Value;

use crate::line::{Goal, line, percentile};
use crate::seen::{Call, Verb};
use crate::stage::{Stage, client, serving};
use crate::{Outcome, nodes};

const RELEASES: usize = 120;

/// When each pod was first told to be ready.
fn ready(frames: &[(Instant, Bytes)]) -> Vec<Instant> {
    let (mut seen, mut rest, mut times) = (HashSet::new(), Vec::new(), Vec::new());
    for (at, bytes) in frames {
        rest.extend_from_slice(bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
            let pod = &event["object"];
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let is_ready = conditions.iter().any(|own| own["type"] == "Ready" && own["status"] == "True");
            let mut is_new = || seen.insert(pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned());
            if is_ready && pod["metadata"]["deletionTimestamp"].is_null() && is_new() {
                times.push(*at);
            }
        }
    }
    times
}

pub(crate) async fn measure() -> Outcome {
    nodes::make(&client().await?, 5).await?;
    let stage = Stage::open("readiness").await?;
    let host = format!("{}.example.com", stage.name);
    let (mut noted, mut moved) = (Vec::new(), Vec::new());
    for version in 0..=RELEASES {
        let mut service = serving(&version.to_string(), 1);
        service.domain.push(host.parse()?);
        service.release = Some(serde_json::from_str(r#"{ "strategy": "blue-green", "warm": "0s" }"#)?);
        stage.wire.keep_frames();
        let from = Instant::now();
        stage.release(&crate::stage::app("shop", &service)).await?;
        let (frames, calls) = (stage.wire.take_frames(), stage.calls.since(from));
        // The first release moves nothing.
        if let (Some(at), true) = (ready(&frames).last(), version > 0) {
            let writes = || calls.iter().filter(|call| call.verb == Verb::Write && call.began >= *at);
            let after = |call: Option<&Call>| call.map(|call| (call.began - *at).as_secs_f64() * 1e3);
            noted.extend(after(writes().next()));
            moved.extend(after(writes().find(|call| !call.is_of_records())));
        }
    }
    assert!(
        noted.len() >= RELEASES * 9 / 10 && moved.len() >= RELEASES * 9 / 10,
        "{} {}",
        noted.len(),
        moved.len()
    );
    for (what, times) in [("the next write", &mut noted), ("traffic moved", &mut moved)] {
        let name = format!("readiness seen to {what}, ms, {} releases", times.len());
        line(&format!("{name}: p50"), percentile(times, 50), None, Goal::None);
        line(&format!("{name}: p99"), percentile(times, 99), None, Goal::AtMost(20.0));
    }
    stage.end().await?;
    nodes::remove(&client().await?).await
}
