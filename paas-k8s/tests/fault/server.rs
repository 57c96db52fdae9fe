//! An API server in trouble.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use paas_core::{ErrorKind, Result};
use paas_k8s::{Connection, ConnectionConfig};
use tokio::time::Instant;

use super::{Stage, finish};
use crate::fixture::rooms::broken;
use crate::platform::client::{Load, Target, request};
use crate::platform::{Case, SOON, app, assert_none_failed, cases, serving, until};
use crate::proxy::{ALL, Fault, Proxy, Rule, WRITES};

pub(super) const CASES: &[(&str, Case)] = cases![
    a_release_goes_on_and_ends_where_the_server_was_down_meanwhile,
    a_slow_server_makes_it_slow_and_nothing_else,
    bursts_of_errors_are_waited_out,
    conflicting_writes_are_made_again,
    a_throttled_write_waits_as_long_as_it_is_told,
    a_write_whose_answer_is_lost_is_not_done_twice,
    a_server_that_never_answers_is_given_up_on,
];

async fn a_release_goes_on_and_ends_where_the_server_was_down_meanwhile() -> Result<()> {
    let stage = Stage::new().await?;
    stage.deploy(&app(&serving("1", 2))).await?;
    let (ip, port) = stage.world.address().await?;
    let target = Target { ip, port, host: "web".into(), keeps: false };
    until("the first answer", || async { Ok(request(&target).await.ok()) }).await?;
    let load = Load::start(&target, 2);
    let operation = stage.begin(&app(&serving("2", 2))).await?;
    let pods: Api<Pod> = Api::all(stage.world.client.clone());
    let old: Vec<_> = pods.list(&stage.world.labels()).await.map_err(broken)?.into_iter().collect();
    until("an instance of the new version comes", || async {
        let now = pods.list(&stage.world.labels()).await.map_err(broken)?;
        Ok(now.iter().any(|pod| old.iter().all(|old| old.uid() != pod.uid())).then_some(()))
    })
    .await?;
    stage.proxy.stop();
    assert_eq!(stage.world.shop().await.unwrap_err().kind(), ErrorKind::Unavailable);
    until("the cluster rolls by itself", || async {
        let now = pods.list(&stage.world.labels()).await.map_err(broken)?;
        Ok((now.items.len() == 2 && now.iter().all(|pod| old.iter().all(|old| old.uid() != pod.uid())))
            .then_some(()))
    })
    .await?;
    stage.proxy.resume().await;
    finish(&operation).await?;
    let (answered, failed) = load.end().await;
    assert_none_failed(&answered, &failed);
    assert!(answered["1"] > 0 && answered["2"] > 0, "{answered:?}");
    stage.expect_nothing_doubled(2).await?;
    assert_eq!(stage.world.shop().await?.revisions().await?.len(), 2);
    stage.end().await
}

async fn a_slow_server_makes_it_slow_and_nothing_else() -> Result<()> {
    let stage = Stage::new().await?;
    stage.proxy.set([Rule::new(ALL, Fault::Delay(Duration::from_millis(500)))]);
    stage.deploy(&app(&serving("1", 1))).await?;
    stage.deploy(&app(&serving("2", 1))).await?;
    let calls = stage.proxy.take_calls();
    let writes = calls.iter().filter(|call| call.is_write() && call.resource == "deployments").count();
    assert_eq!(writes, 2, "{calls:#?}");
    stage.proxy.set([]);
    stage.expect_nothing_doubled(1).await?;
    stage.end().await
}

async fn bursts_of_errors_are_waited_out() -> Result<()> {
    let stage = Stage::new().await?;
    stage.proxy.set([Rule::new(ALL, Fault::Answer(500, None, "etcdserver: request timed out")).times(10)]);
    let operation = stage.begin(&app(&serving("1", 1))).await?;
    for _ in 0..2 {
        stage.proxy.set([Rule::new(ALL, Fault::Answer(503, None, "apiserver is shutting down")).times(20)]);
        stage.proxy.cut();
        until("the burst is over", || async { Ok(stage.world.shop().await.ok()) }).await?;
    }
    finish(&operation).await?;
    stage.proxy.set([]);
    stage.expect_nothing_doubled(1).await?;
    stage.end().await
}

async fn conflicting_writes_are_made_again() -> Result<()> {
    let stage = Stage::new().await?;
    let conflict = || Fault::Answer(409, None, "the object has been modified");
    let kinds: [&'static [&'static str]; 4] =
        [&["deployments"], &["services"], &["networkpolicies"], &["configmaps"]];
    stage.proxy.set(kinds.map(|kind| Rule::new(WRITES, conflict()).about(kind).times(3)));
    stage.deploy(&app(&serving("1", 1))).await?;
    let refused = stage.proxy.take_calls().iter().filter(|call| call.status == 409).count();
    // The cluster itself may have refused some, too.
    assert!(refused >= 12, "only {refused}");
    stage.expect_nothing_doubled(1).await?;
    stage.end().await
}

async fn a_throttled_write_waits_as_long_as_it_is_told() -> Result<()> {
    const AFTER: u32 = 4;
    let stage = Stage::new().await?;
    let busy = Fault::Answer(429, Some(AFTER), "too many requests, please try again later");
    stage.proxy.set([Rule::new(WRITES, busy).about(&["deployments"]).times(2)]);
    stage.deploy(&app(&serving("1", 1))).await?;
    let calls = stage.proxy.take_calls();
    let writes: Vec<_> =
        calls.iter().filter(|call| call.is_write() && call.resource == "deployments").collect();
    let times: Vec<Instant> = writes.iter().filter_map(|call| call.at).collect();
    assert_eq!(writes.iter().map(|call| call.status).collect::<Vec<_>>(), [429, 429, 201]);
    for pair in times.windows(2) {
        let waited = pair[1] - pair[0];
        assert!(waited >= Duration::from_secs(AFTER.into()), "only {waited:?}");
        assert!(waited < Duration::from_secs(AFTER.into()) + Duration::from_secs(3), "{waited:?}");
    }
    stage.end().await
}

async fn a_write_whose_answer_is_lost_is_not_done_twice() -> Result<()> {
    let stage = Stage::new().await?;
    let kinds: [&'static [&'static str]; 6] = [
        &["configmaps"],
        &["deployments"],
        &["services"],
        &["networkpolicies"],
        &["poddisruptionbudgets"],
        &["leases"],
    ];
    stage.proxy.set(kinds.map(|kind| Rule::new(WRITES, Fault::Lose).about(kind).times(2)));
    stage.deploy(&app(&serving("1", 1))).await?;
    stage.expect_nothing_doubled(1).await?;
    assert_eq!(stage.world.shop().await?.revisions().await?.len(), 1);
    let calls = stage.proxy.take_calls();
    let lost =
        |kind: &str| calls.iter().any(|call| call.is_write() && call.resource == kind && call.status == 0);
    for kind in kinds.into_iter().flatten().filter(|kind| **kind != "leases") {
        assert!(lost(kind), "no answer about {kind} was lost");
    }
    stage.end().await
}

async fn a_server_that_never_answers_is_given_up_on() -> Result<()> {
    let stage = Stage::new().await?;
    stage.deploy(&app(&serving("1", 1))).await?;
    let operation = stage.begin(&app(&serving("2", 1))).await?;
    stage.proxy.set([Rule::new(ALL, Fault::Silence)]);
    stage.proxy.cut();
    let began = Instant::now();
    let (asked, connected) = tokio::join!(stage.world.shop(), connect_anew(&stage.proxy));
    assert_eq!(asked.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!(connected.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    stage.proxy.set([]);
    finish(&operation).await?;
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    stage.expect_nothing_doubled(1).await?;
    stage.end().await
}

async fn connect_anew(proxy: &Proxy) -> Result<Connection> {
    let file = proxy.kubeconfig();
    let mut config = ConnectionConfig::default();
    config.kubeconfig = Some(file.path().to_owned());
    Connection::connect(config).await
}
