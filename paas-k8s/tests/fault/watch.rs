//! Watches in trouble.

use paas_core::Result;

use super::Stage;
use crate::platform::{Case, app, cases, serving, until};
use crate::proxy::{Fault, Rule, WATCHES};

pub(super) const CASES: &[(&str, Case)] =
    cases![watches_that_are_cut_miss_nothing, watches_that_cannot_resume_list_again_and_miss_nothing];

/// What takes minutes, because it waits for a server's silence.
pub(super) const LONG_CASES: &[(&str, Case)] = cases![a_watch_that_says_nothing_any_more_is_opened_again];

async fn a_watch_that_says_nothing_any_more_is_opened_again() -> Result<()> {
    let stage = Stage::new().await?;
    stage.deploy(&app(&serving("1", 1))).await?;
    stage.proxy.set([Rule::new(WATCHES, Fault::Hang)]);
    stage.proxy.cut();
    until("all watches hang", || async {
        Ok(stage.proxy.take_calls().iter().any(|call| call.resource == "pods").then_some(()))
    })
    .await?;
    stage.proxy.set([]);
    stage.deploy(&app(&serving("2", 1))).await?;
    stage.expect_nothing_doubled(1).await?;
    stage.end().await
}

/// The releases of a case: after each, what was told of must be what there is.
async fn release_thrice(stage: &Stage) -> Result<()> {
    for version in ["1", "2", "3"] {
        stage.deploy(&app(&serving(version, 1))).await?;
    }
    stage.proxy.set([]);
    stage.expect_nothing_doubled(1).await
}

async fn watches_that_are_cut_miss_nothing() -> Result<()> {
    let stage = Stage::new().await?;
    stage.proxy.set([Rule::new(WATCHES, Fault::Cut(2))]);
    stage.proxy.cut();
    release_thrice(&stage).await?;
    let calls = stage.proxy.take_calls();
    let watches = calls.iter().filter(|call| call.verb == "watch").count();
    let lists = calls.iter().filter(|call| call.verb == "list" && call.resource == "pods").count();
    assert!(watches > 20, "only {watches} watches");
    // One when it was opened: what was cut goes on where it broke off.
    assert_eq!(lists, 1);
    stage.end().await
}

async fn watches_that_cannot_resume_list_again_and_miss_nothing() -> Result<()> {
    let stage = Stage::new().await?;
    stage.proxy.set([
        Rule::new(WATCHES, Fault::Answer(410, None, "too old resource version")).times(8),
        Rule::new(WATCHES, Fault::Forget(3)),
    ]);
    stage.proxy.cut();
    release_thrice(&stage).await?;
    let calls = stage.proxy.take_calls();
    let lists = calls.iter().filter(|call| call.verb == "list" && call.resource == "pods").count();
    assert!(lists > 3, "only {lists} lists");
    stage.end().await
}
