//! Watches in trouble.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use kube::api::{DeleteParams, ObjectMeta, PostParams};
use paas_core::Result;

use super::Stage;
use crate::fixture::rooms::broken;
use crate::platform::{Case, app, cases, serving, until};
use crate::proxy::{Fault, Rule, WATCHES};

pub(super) const CASES: &[(&str, Case)] = cases![
    watches_that_are_cut_miss_nothing,
    watches_that_cannot_resume_list_again_and_miss_nothing,
    what_was_made_anew_while_nothing_was_told_is_what_counts,
];

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

async fn what_was_made_anew_while_nothing_was_told_is_what_counts() -> Result<()> {
    let stage = Stage::new().await?;
    stage.deploy(&app(&serving("1", 1))).await?;
    let expired = || Rule::new(WATCHES, Fault::Answer(410, None, "too old resource version"));
    stage.proxy.set([Rule::new(&["list"], Fault::Answer(503, None, "busy")), expired()]);
    stage.proxy.cut();
    let (mut own, deployments) = stage.world.only::<Deployment>().await?;
    let name = own.name_any();
    deployments.delete(&name, &DeleteParams::foreground()).await.map_err(broken)?;
    until("it is gone", || async {
        Ok(deployments.get_opt(&name).await.map_err(broken)?.is_none().then_some(()))
    })
    .await?;
    let (labels, annotations) = (own.metadata.labels.take(), own.metadata.annotations.take());
    own.metadata = ObjectMeta { name: Some(name.clone()), labels, annotations, ..ObjectMeta::default() };
    own.status = None;
    own.spec.as_mut().unwrap().replicas = Some(3);
    let other = deployments.create(&PostParams::default(), &own).await.map_err(broken)?;
    stage.proxy.set([]);
    until("it is as it was", || async {
        let found = deployments.get(&name).await.map_err(broken)?;
        assert_eq!(found.uid(), other.uid());
        Ok((found.spec.and_then(|spec| spec.replicas) == Some(1)).then_some(()))
    })
    .await?;
    stage.deploy(&app(&serving("2", 1))).await?;
    stage.expect_nothing_doubled(1).await?;
    stage.end().await
}
