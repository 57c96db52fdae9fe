//! How often the API server is asked.

use std::time::{Duration, Instant};

use crate::line::{Goal, line};
use crate::seen::{Call, Verb};
use crate::stage::{Stage, app, client, serving};
use crate::{Outcome, nodes};

/// How many apps stand still.
const APPS: usize = 20;
/// The engine looks at every app each 30 s, whatever it is told: two of those, and some.
const STILL: Duration = Duration::from_secs(65);

fn count(calls: &[Call], verb: Verb) -> f64 {
    calls.iter().filter(|call| call.verb == verb).count() as f64
}

pub(crate) async fn measure() -> Outcome {
    nodes::make(&client().await?, 5).await?;
    let stage = Stage::open("calls").await?;
    for number in 0..APPS {
        stage.release(&app(&format!("app-{number}"), &serving("1", 2))).await?;
    }
    stage.rest().await?;
    let from = Instant::now();
    tokio::time::sleep(STILL).await;
    let calls = stage.calls.since(from);
    let name = format!("{APPS} apps that stand still for {} s", STILL.as_secs());
    line(&format!("{name}: writes"), count(&calls, Verb::Write), None, Goal::AtMost(0.0));
    line(&format!("{name}: reads beyond the watches"), count(&calls, Verb::Read), None, Goal::AtMost(0.0));
    for call in calls.iter().filter(|call| call.verb != Verb::Watch) {
        println!("    {:?} {}", call.verb, call.path);
    }
    let from = Instant::now();
    stage.release(&app("app-0", &serving("2", 2))).await?;
    stage.rest().await?;
    let calls = stage.calls.since(from);
    let writes: Vec<Call> = calls.into_iter().filter(|call| call.verb == Verb::Write).collect();
    let (records, own): (Vec<Call>, Vec<Call>) = writes.into_iter().partition(Call::is_of_records);
    let deployments = own.iter().filter(|call| call.path.contains("/deployments/")).count() as f64;
    line("one changed service: applies of its Deployment", deployments, None, Goal::AtMost(1.0));
    let others = own.len() as f64 - deployments;
    line("one changed service: applies of anything else", others, None, Goal::AtMost(0.0));
    for call in own.iter().filter(|call| !call.path.contains("/deployments/")) {
        println!("    {}", call.path);
    }
    line("one changed service: writes of the platform's records", records.len() as f64, None, Goal::None);
    stage.end().await?;
    nodes::remove(&client().await?).await
}
