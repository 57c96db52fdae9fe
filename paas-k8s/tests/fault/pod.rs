//! Pods in trouble, behind an API server in trouble: what becomes of them is told all the same.

use kube::api::DeleteParams;
use paas_core::Result;

use super::{Stage, patiently};
use crate::fixture::rooms::broken;
use crate::platform::node::{Nodes, lose_one};
use crate::platform::status::NARROW;
use crate::platform::{Case, app, cases, serving, until, web};
use crate::proxy::{ALL, Fault, Rule, WATCHES};

pub(super) const CASES: &[(&str, Case)] =
    cases![a_missing_image_is_told_and_replaced, pods_without_room_are_told_and_made_once_there_is];

/// Those that take nodes away.
pub(super) const ON_FAKE_NODES: &[(&str, Case)] = cases![what_a_lost_node_ran_runs_elsewhere_all_the_same];

impl Stage {
    /// From now on each watch breaks off soon, and one call of seven fails.
    fn trouble(&self) {
        let busy = Fault::Answer(500, None, "etcdserver: request timed out");
        self.proxy.set([Rule::new(ALL, busy).every(7), Rule::new(WATCHES, Fault::Cut(3))]);
        self.proxy.cut();
        self.proxy.take_calls();
    }

    /// Waits until a person who asks again is told this.
    async fn told(&self, words: &str) -> Result<()> {
        let explain = async || self.world.shop().await?.explain().await;
        let is_told = || async { Ok(patiently(explain).await?.to_string().contains(words).then_some(())) };
        until(words, is_told).await.map(drop)
    }

    /// Ends it, if there was trouble enough.
    async fn end_after_trouble(self) -> Result<()> {
        let calls = self.proxy.take_calls();
        let failed = calls.iter().filter(|call| call.status == 500).count();
        let watches = calls.iter().filter(|call| call.verb == "watch").count();
        assert!(failed > 5 && watches > 20, "{failed} calls failed, {watches} watches");
        self.end().await
    }
}

async fn a_missing_image_is_told_and_replaced() -> Result<()> {
    let stage = Stage::new().await?;
    stage.trouble();
    let mut missing = serving("1", 1);
    missing.image = Some("testbed.local/missing:1".into());
    stage.begin(&app(&missing)).await?;
    stage.told("testbed.local/missing:1").await?;
    stage.deploy(&app(&serving("2", 1))).await?;
    stage.told("all is well").await?;
    stage.expect_nothing_doubled(1).await?;
    stage.end_after_trouble().await
}

async fn pods_without_room_are_told_and_made_once_there_is() -> Result<()> {
    let stage = Stage::new().await?;
    stage.deploy(&app(&serving("1", 1))).await?;
    let quotas = stage.world.narrow().await?;
    stage.trouble();
    patiently(async || stage.world.shop().await?.scale(&web(), 2).await).await?;
    stage.told("exceeded quota").await?;
    quotas.delete(NARROW, &DeleteParams::default()).await.map_err(broken)?;
    stage.told("all is well").await?;
    stage.expect_nothing_doubled(2).await?;
    stage.end_after_trouble().await
}

async fn what_a_lost_node_ran_runs_elsewhere_all_the_same() -> Result<()> {
    let stage = Stage::new().await?;
    let nodes = Nodes::make(&stage.world, 2).await?;
    stage.deploy(&app(&serving("1", 2))).await?;
    stage.trouble();
    lose_one(&stage.world, &nodes).await?;
    stage.told("all is well").await?;
    stage.expect_nothing_doubled(2).await?;
    nodes.end().await?;
    stage.end_after_trouble().await
}
