//! Somebody else changes what the platform decides.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use paas_core::Result;
use serde_json::json;

use super::{Case, World, app, cases, serving, until};
use crate::fixture::rooms::broken;

pub(super) const CASES: &[(&str, Case)] = cases![
    a_deployment_that_was_deleted_is_back,
    a_deployment_that_was_edited_is_put_back,
    a_service_that_was_deleted_is_back
];

/// How soon it is mended, on a machine that does other things as well.
const MENDED: Duration = Duration::from_secs(10);

async fn a_deployment_that_was_deleted_is_back() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (before, deployments) = world.only::<Deployment>().await?;
    deployments.delete(&before.name_any(), &DeleteParams::background()).await.map_err(broken)?;
    let (_, took) = until("it is there again", || async {
        let found = deployments.get_opt(&before.name_any()).await.map_err(broken)?;
        Ok(found.filter(|found| found.uid() != before.uid()))
    })
    .await?;
    assert!(took < MENDED, "{took:?}");
    world.end().await
}

async fn a_deployment_that_was_edited_is_put_back() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (before, deployments) = world.only::<Deployment>().await?;
    let by_hand = PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() };
    let edit = json!({ "spec": { "replicas": 3 } });
    deployments.patch(&before.name_any(), &by_hand, &Patch::Merge(edit)).await.map_err(broken)?;
    let (_, took) = until("it is as it was", || async {
        let found = deployments.get(&before.name_any()).await.map_err(broken)?;
        Ok((found.spec.and_then(|spec| spec.replicas) == Some(1)).then_some(()))
    })
    .await?;
    assert!(took < MENDED, "{took:?}");
    world.end().await
}

async fn a_service_that_was_deleted_is_back() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let all: Api<Service> = Api::all(world.client.clone());
    let before = all.list(&world.labels()).await.map_err(broken)?.items;
    assert_eq!(before.len(), 3);
    for service in &before {
        let own: Api<Service> =
            Api::namespaced(world.client.clone(), &service.namespace().unwrap_or_default());
        own.delete(&service.name_any(), &DeleteParams::background()).await.map_err(broken)?;
    }
    let (_, took) = until("they are there again", || async {
        let found = all.list(&world.labels()).await.map_err(broken)?.items;
        Ok((found.len() == 3).then_some(()))
    })
    .await?;
    assert!(took < MENDED, "{took:?}");
    world.end().await
}
