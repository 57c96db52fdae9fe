//! Nodes that are emptied while services run: on a cluster of two nodes that nobody else uses meanwhile.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use paas_core::model::{Drain, NodeName, Occupant, Principal};
use paas_core::{ErrorKind, Result};

use super::client::{Load, Target, request};
use super::{Case, SOON, World, app, assert_none_failed, cases, serving, until};
use crate::fixture::rooms::broken;

pub(super) const CASES: &[(&str, Case)] = cases![
    a_drain_that_a_budget_holds_up_says_so_and_goes_on_later,
    a_drained_node_loses_no_request_and_keeps_the_budget,
    a_service_of_one_instance_moves_off_a_drained_node,
];

fn operator() -> Principal {
    Principal::operator("ops")
}

/// Held by the case that drains: another would find its nodes cordoned.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// The two nodes, by name.
async fn nodes(world: &World) -> Result<[NodeName; 2]> {
    let nodes = world.platform.nodes(&operator()).await?;
    let names: Vec<NodeName> = nodes.into_iter().map(|node| node.name).collect();
    Ok(names.try_into().expect("two nodes"))
}

/// Where each ready pod of the case runs.
async fn ready(world: &World) -> Result<Vec<String>> {
    let pods: Api<Pod> = Api::all(world.client.clone());
    let pods = pods.list(&world.labels()).await.map_err(broken)?;
    let is_ready = |pod: &Pod| {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
        let is_true =
            conditions.unwrap_or_default().iter().any(|it| it.type_ == "Ready" && it.status == "True");
        is_true && pod.metadata.deletion_timestamp.is_none()
    };
    Ok(pods.into_iter().filter(is_ready).filter_map(|pod| pod.spec?.node_name).collect())
}

/// How long a drain is given that cannot end.
const SHORT: Duration = Duration::from_secs(5);

/// With nowhere else to go, the first instance that leaves uses the budget up.
async fn a_drain_that_a_budget_holds_up_says_so_and_goes_on_later() -> Result<()> {
    let _alone = ALONE.lock().await;
    let world = World::new().await?;
    let [first, second] = nodes(&world).await?;
    world.platform.cordon(&operator(), &second).await?;
    world.deploy(&app(&serving("1", 2))).await?;
    let held = world.platform.drain(&operator(), &first, SHORT, |_| {}).await;
    let stayed = ready(&world).await?;
    world.platform.uncordon(&operator(), &second).await?;
    let error = held.expect_err("the budget holds it up");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.to_string().contains("-blue needs 1 healthy"), "{error}");
    assert_eq!(stayed, [first.as_str()], "one of two may be away");
    let drained = world.platform.drain(&operator(), &first, SOON, |_| {}).await;
    world.platform.uncordon(&operator(), &first).await?;
    assert!(drained?.is_done());
    until("both run elsewhere", || async {
        Ok((ready(&world).await? == [second.as_str(), second.as_str()]).then_some(()))
    })
    .await?;
    world.end().await
}

/// What was seen while a node was drained.
struct Seen {
    drained: Result<Drain>,
    steps: Vec<Drain>,
    /// The smallest number of instances that were ready.
    fewest: usize,
}

async fn drained(world: &World, node: &NodeName) -> Result<Seen> {
    let steps = Mutex::new(Vec::new());
    let operator = operator();
    let progress = |drain: &Drain| steps.lock().unwrap().push(drain.clone());
    let mut fewest = usize::MAX;
    let drained = {
        let draining = world.platform.drain(&operator, node, SOON, progress);
        tokio::pin!(draining);
        loop {
            tokio::select! {
                drained = &mut draining => break drained,
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    fewest = fewest.min(ready(world).await?.len());
                }
            }
        }
    };
    Ok(Seen { drained, steps: steps.into_inner().unwrap(), fewest })
}

async fn a_drained_node_loses_no_request_and_keeps_the_budget() -> Result<()> {
    let _alone = ALONE.lock().await;
    let world = World::new().await?;
    let [first, second] = nodes(&world).await?;
    let host = format!("{}.example.com", world.name);
    let mut service = serving("1", 2);
    service.domain.push(host.parse()?);
    // Both instances begin on the node that is drained.
    world.platform.cordon(&operator(), &second).await?;
    world.deploy(&app(&service)).await?;
    world.platform.uncordon(&operator(), &second).await?;
    assert_eq!(ready(&world).await?, [first.as_str(), first.as_str()]);
    let target = Target { ip: "172.30.0.1".into(), port: 80, host, keeps: true };
    until("the first answer", || async { Ok(request(&target).await.ok()) }).await?;
    let load = Load::start(&target, 4);
    let seen = drained(&world, &first).await?;
    world.platform.uncordon(&operator(), &first).await?;
    assert!(seen.drained?.is_done());
    until("both run elsewhere", || async {
        Ok((ready(&world).await? == [second.as_str(), second.as_str()]).then_some(()))
    })
    .await?;
    let (answered, failed) = load.end().await;
    assert_none_failed(&answered, &failed);
    assert_eq!(seen.fewest, 1, "the budget lets one of two be away");
    // One of them left, the other was held back by the budget, which was named.
    let is_own = |occupant: &Occupant| {
        occupant.instance.as_ref().is_some_and(|(key, _)| Some(&key.tenant) == world.user.tenant())
    };
    let held = seen.steps.iter().flat_map(|step| &step.blocked).filter(|blocked| is_own(&blocked.occupant));
    let reasons: BTreeSet<&str> = held.map(|blocked| &*blocked.reason).collect();
    assert!(reasons.iter().any(|reason| reason.contains("-blue needs 1 healthy")), "{reasons:?}");
    world.end().await
}

async fn a_service_of_one_instance_moves_off_a_drained_node() -> Result<()> {
    let _alone = ALONE.lock().await;
    let world = World::new().await?;
    let [first, second] = nodes(&world).await?;
    world.platform.cordon(&operator(), &second).await?;
    world.deploy(&app(&serving("1", 1))).await?;
    world.platform.uncordon(&operator(), &second).await?;
    let drained = world.platform.drain(&operator(), &first, SOON, |_| {}).await;
    world.platform.uncordon(&operator(), &first).await?;
    assert!(drained?.is_done());
    until("it runs elsewhere", || async { Ok((ready(&world).await? == [second.as_str()]).then_some(())) })
        .await?;
    world.end().await
}
