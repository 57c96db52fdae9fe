//! How many instances there are, where somebody else decides that.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use paas_core::Result;
use paas_core::memory::MemorySecretStore;
use paas_core::model::Workload;
use paas_core::port::Scheduler;
use paas_k8s::{KubeScheduler, SchedulerConfig};
use paas_testkit::suite::scheduler::SchedulerFixture;
use paas_testkit::{Fixture, World as Names};
use serde_json::json;

use super::{Case, cases, until};
use crate::fixture::connect;
use crate::fixture::rooms::{broken, client};
use crate::fixture::scheduler::Schedulers;

pub(super) const CASES: &[(&str, Case)] = cases![a_count_that_an_autoscaler_decides_is_left_alone];

/// What runs a workload, and where that is.
async fn deployment(workload: &Workload) -> Result<(Deployment, Api<Deployment>)> {
    let all: Api<Deployment> = Api::all(client().await?);
    let own = ListParams::default().labels(&format!("paas-sdk.dev/service={}", workload.key.service));
    let found = all.list(&own).await.map_err(broken)?.items.remove(0);
    let namespace = found.namespace().unwrap();
    Ok((found, Api::namespaced(client().await?, &namespace)))
}

/// The cluster's own autoscaler, which brings what it scales into its bounds without any metrics.
async fn scaled_by_the_cluster(deployment: &Deployment, least: i32) -> Result<()> {
    let namespace = deployment.namespace().unwrap();
    let scalers: Api<HorizontalPodAutoscaler> = Api::namespaced(client().await?, &namespace);
    let spec = json!({
        "minReplicas": least,
        "maxReplicas": least,
        "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": deployment.name_any() },
    });
    let scaler = HorizontalPodAutoscaler {
        metadata: ObjectMeta { name: Some("own".into()), ..ObjectMeta::default() },
        spec: serde_json::from_value(spec).ok(),
        status: None,
    };
    scalers.create(&PostParams::default(), &scaler).await.map(drop).map_err(broken)
}

fn count(deployment: &Deployment) -> Option<i32> {
    deployment.spec.as_ref()?.replicas
}

async fn a_count_that_an_autoscaler_decides_is_left_alone() -> Result<()> {
    let (fixture, names) = (Schedulers::default(), Names::new());
    let mut workload = names.workload(fixture.serving(), 1)?;
    workload.replicas = None;
    fixture.prepare(&names, &workload).await?;
    let (secrets, config) = (Arc::new(MemorySecretStore::default()), SchedulerConfig::default());
    let scheduler = KubeScheduler::open(connect().await?, secrets, config).await?;
    let scope = names.scope();
    scheduler.apply(&scope, &workload).await?;
    let (made, deployments) = deployment(&workload).await?;
    scaled_by_the_cluster(&made, 3).await?;
    let is_scaled = || async {
        let found = deployments.get(&made.name_any()).await.map_err(broken)?;
        let status = scheduler.list(&scope, &names.selector()).await?.pop();
        let ready = |instances: usize| (count(&found) == Some(3) && instances == 3).then_some(found);
        Ok(status
            .filter(|status| status.instances.iter().all(|instance| instance.is_ready()))
            .and_then(|status| ready(status.instances.len()).zip(status.applied)))
    };
    let ((_, applied), _) = until("there are three", is_scaled).await?;
    assert_eq!(applied, workload.digest(), "that is no drift");
    workload.template.env.insert("VERSION".into(), "2".into());
    workload.revision.0 += 1;
    scheduler.apply(&scope, &workload).await?;
    let after = deployments.get(&made.name_any()).await.map_err(broken)?;
    assert_eq!(count(&after), Some(3));
    assert!(after.metadata.generation > made.metadata.generation, "it is another template");
    fixture.close().await;
    Ok(())
}
