//! What a person is told of instances that do not come, or are not ready.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use paas_core::ErrorKind;
use paas_core::Result;
use paas_core::model::{ByteSize, CpuQuantity};
use serde_json::json;

use super::{Case, World, app, cases, config, open_with, serving, unique_name, until};

pub(super) const CASES: &[(&str, Case)] = cases![
    a_failing_probe_is_told_with_its_answer,
    a_pod_that_fits_on_no_node_is_told_in_the_words_of_the_scheduler,
    a_pod_that_runs_out_of_memory_is_told,
    a_quota_that_leaves_no_room_is_told,
    a_task_whose_pod_is_lost_has_failed,
];

impl World {
    /// Waits until the explanation says it.
    pub(crate) async fn explained(&self, words: &str) -> Result<String> {
        let (text, _) = until(words, || async {
            let text = self.shop().await?.explain().await?.to_string();
            Ok(text.contains(words).then_some(text))
        })
        .await?;
        Ok(text)
    }

    /// Leaves room for one pod: by a quota of somebody else's, as the platform puts its own back.
    pub(crate) async fn narrow(&self) -> Result<Api<ResourceQuota>> {
        let (_, quotas): (_, Api<ResourceQuota>) = self.only().await?;
        let narrow = json!({ "metadata": { "name": NARROW }, "spec": { "hard": { "pods": "1" } } });
        let narrow = serde_json::from_value(narrow).unwrap();
        quotas.create(&PostParams::default(), &narrow).await.unwrap();
        // Until it has counted what is there, it refuses nothing.
        until("the quota holds", || async {
            let used = quotas.get(NARROW).await.unwrap().status.and_then(|status| status.used);
            Ok(used.is_some_and(|used| used.contains_key("pods")).then_some(()))
        })
        .await?;
        Ok(quotas)
    }
}

/// The name of a quota that leaves no room.
pub(crate) const NARROW: &str = "narrow";

async fn a_failing_probe_is_told_with_its_answer() -> Result<()> {
    let world = World::new().await?;
    let mut service = serving("1", 1);
    service.ready = Some("/fail".parse()?);
    let operation = world.platform.deploy(&world.user, &app(&service)).await?;
    world.explained("statuscode: 500").await?;
    operation.signal(paas_core::model::Signal::Abort).await?;
    world.end().await
}

/// A world whose quota lets through what no node has.
async fn spacious() -> Result<World> {
    let (name, mut config) = (unique_name(), config().await?);
    (config.tenancy.cpu, config.tenancy.memory) = (CpuQuantity { millis: 4_000_000 }, ByteSize(1 << 50));
    let platform = open_with(&name, None, config).await?;
    World::of(name, platform).await
}

async fn a_pod_that_fits_on_no_node_is_told_in_the_words_of_the_scheduler() -> Result<()> {
    let world = spacious().await?;
    let (mut fast, mut large) = (serving("1", 1), serving("2", 1));
    fast.limits.cpu = Some(CpuQuantity { millis: 1_000_000 });
    large.limits.memory = Some(ByteSize(1 << 45));
    for (service, words) in [(fast, "Insufficient cpu"), (large, "Insufficient memory")] {
        world.platform.deploy(&world.user, &app(&service)).await?;
        let told = world.explained(words).await?;
        assert!(told.contains("no node takes it"), "{told}");
    }
    world.deploy(&app(&serving("3", 1))).await?;
    world.explained("all is well").await?;
    world.end().await
}

async fn a_pod_that_runs_out_of_memory_is_told() -> Result<()> {
    let world = World::new().await?;
    let mut service = serving("1", 1);
    service.env.insert("MODE".into(), "hungry".into());
    world.platform.deploy(&world.user, &app(&service)).await?;
    world.explained("it ran out of the memory that its limit allows").await?;
    world.deploy(&app(&serving("2", 1))).await?;
    world.explained("all is well").await?;
    world.end().await
}

async fn a_quota_that_leaves_no_room_is_told() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let quotas = world.narrow().await?;
    world.shop().await?.scale(&super::web(), 2).await?;
    let told = world.explained("exceeded quota").await?;
    assert!(told.contains("instances cannot be made"), "{told}");
    quotas.delete(NARROW, &DeleteParams::default()).await.unwrap();
    let well = world.explained("all is well").await?;
    assert!(!well.contains("quota"), "{well}");
    world.end().await
}

async fn a_task_whose_pod_is_lost_has_failed() -> Result<()> {
    let world = World::new().await?;
    let mut service = serving("1", 1);
    service.before_release = Some("/instance".parse()?);
    let operation = world.platform.deploy(&world.user, &app(&service)).await?;
    // It serves for ever, until somebody deletes it.
    let pods: Api<Pod> = Api::all(world.client.clone());
    let (pod, _) = until("the task runs", || async {
        let mut found = pods.list(&world.labels()).await.map_err(crate::fixture::rooms::broken)?.items;
        Ok(found.pop().filter(|pod| pod.status.as_ref().is_some_and(|own| own.pod_ip.is_some())))
    })
    .await?;
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &pod.metadata.namespace.unwrap());
    let at_once = DeleteParams::default().grace_period(0);
    pods.delete(&pod.metadata.name.unwrap(), &at_once).await.unwrap();
    let error = operation.finished_within(super::SOON).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.to_string().contains("task before the release failed"), "{error}");
    let jobs: Api<Job> = Api::all(world.client.clone());
    assert!(!jobs.list(&world.labels()).await.unwrap().items.is_empty());
    world.end().await
}
