//! What a person is told of instances that do not come, or are not ready.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use paas_core::ErrorKind;
use paas_core::Result;
use serde_json::json;

use super::{Case, World, app, cases, serving, until};

pub(super) const CASES: &[(&str, Case)] = cases![
    a_failing_probe_is_told_with_its_answer,
    a_quota_that_leaves_no_room_is_told,
    a_task_whose_pod_is_lost_has_failed,
];

impl World {
    /// Waits until the explanation says it.
    async fn explained(&self, words: &str) -> Result<String> {
        let (text, _) = until(words, || async {
            let text = self.shop().await?.explain().await?.to_string();
            Ok(text.contains(words).then_some(text))
        })
        .await?;
        Ok(text)
    }
}

async fn a_failing_probe_is_told_with_its_answer() -> Result<()> {
    let world = World::new().await?;
    let mut service = serving("1", 1);
    service.ready = Some("/fail".parse()?);
    let operation = world.platform.deploy(&world.user, &app(&service)).await?;
    world.explained("statuscode: 500").await?;
    operation.signal(paas_core::model::Signal::Abort).await?;
    world.end().await
}

async fn a_quota_that_leaves_no_room_is_told() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    // One of somebody else's: the platform's own is put back by the platform.
    let (_, quotas): (_, Api<ResourceQuota>) = world.only().await?;
    let narrow = json!({ "metadata": { "name": "narrow" }, "spec": { "hard": { "pods": "1" } } });
    let narrow = serde_json::from_value(narrow).unwrap();
    quotas.create(&PostParams::default(), &narrow).await.unwrap();
    // Until it has counted what is there, it refuses nothing.
    until("the quota holds", || async {
        let status = quotas.get("narrow").await.unwrap().status;
        Ok(status.and_then(|status| status.used).is_some_and(|used| used.contains_key("pods")).then_some(()))
    })
    .await?;
    world.shop().await?.scale(&super::web(), 2).await?;
    let told = world.explained("exceeded quota").await?;
    assert!(told.contains("instances cannot be made"), "{told}");
    quotas.delete("narrow", &DeleteParams::default()).await.unwrap();
    let (well, _) = until("all is well", || async {
        let text = world.shop().await?.explain().await?.to_string();
        Ok(text.contains("all is well").then_some(text))
    })
    .await?;
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
