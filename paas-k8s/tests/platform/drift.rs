//! Somebody else changes what the platform decides.

use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use paas_core::Result;
use paas_core::engine::EngineEvent;
use paas_core::model::Secret as Hidden;
use serde_json::{Value, json};

use super::{Case, SOON, World, app, cases, serving, until};
use crate::fixture::rooms::broken;

pub(super) const CASES: &[(&str, Case)] = cases![
    a_deployment_that_was_deleted_is_back,
    a_deployment_that_was_edited_is_put_back,
    a_deployment_that_was_scaled_by_hand_is_put_back,
    what_another_manager_has_taken_is_put_back_and_told,
    what_somebody_added_to_a_deployment_goes,
    what_stands_beside_a_workload_is_put_back,
    a_deployment_whose_labels_were_away_is_followed_again,
    a_service_that_was_deleted_is_back,
    the_secrets_that_pods_read_are_put_back,
    fifty_edits_are_put_back,
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
    let edit = json!({ "spec": { "replicas": 3 } });
    deployments.patch(&before.name_any(), &by_hand(), &Patch::Merge(edit)).await.map_err(broken)?;
    let (_, took) = until("it is as it was", || async {
        let found = deployments.get(&before.name_any()).await.map_err(broken)?;
        Ok((found.spec.and_then(|spec| spec.replicas) == Some(1)).then_some(()))
    })
    .await?;
    assert!(took < MENDED, "{took:?}");
    world.end().await
}

/// As if by `kubectl edit`.
fn by_hand() -> PatchParams {
    PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() }
}

async fn a_deployment_that_was_scaled_by_hand_is_put_back() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (before, deployments) = world.only::<Deployment>().await?;
    let scale = Patch::Merge(json!({ "spec": { "replicas": 3 } }));
    deployments.patch_scale(&before.name_any(), &by_hand(), &scale).await.map_err(broken)?;
    let (_, took) = until("it is as it was", || async {
        let found = deployments.get(&before.name_any()).await.map_err(broken)?;
        Ok((found.spec.and_then(|spec| spec.replicas) == Some(1)).then_some(()))
    })
    .await?;
    assert!(took < MENDED, "{took:?}");
    world.end().await
}

/// Takes a field from whoever has it, as another manager of the same object would.
async fn take(deployments: &Api<Deployment>, name: &str, field: Value) -> Result<()> {
    let mut container = json!({ "name": "app" });
    container.as_object_mut().unwrap().extend(field.as_object().cloned().unwrap());
    let object = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "spec": { "template": { "spec": { "containers": [container] } } },
    });
    let forced = PatchParams::apply("somebody").force();
    deployments.patch(name, &forced, &Patch::Apply(object)).await.map(drop).map_err(broken)
}

async fn what_another_manager_has_taken_is_put_back_and_told() -> Result<()> {
    let world = World::new().await?;
    let mut web = serving("1", 1);
    web.ready = Some("/ready".parse()?);
    world.deploy(&app(&web)).await?;
    let (before, deployments) = world.only::<Deployment>().await?;
    let shop = world.shop().await?.resource();
    let mut events = world.platform.events();
    for field in [
        json!({ "image": "testbed.local/other:1" }),
        json!({ "readinessProbe": { "httpGet": { "path": "/other" } } }),
        json!({ "env": [{ "name": "VERSION", "value": "9" }] }),
    ] {
        take(&deployments, &before.name_any(), field).await?;
        let (_, took) = until("it is as it was", || async {
            let found = deployments.get(&before.name_any()).await.map_err(broken)?;
            Ok((found.spec == before.spec).then_some(()))
        })
        .await?;
        assert!(took < MENDED, "{took:?}");
        let told = async {
            while !matches!(events.recv().await, Ok(EngineEvent::Drift(of)) if shop.contains(&of)) {}
        };
        tokio::time::timeout(MENDED, told).await.expect("the drift is told");
    }
    world.end().await
}

async fn what_somebody_added_to_a_deployment_goes() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (before, deployments) = world.only::<Deployment>().await?;
    let added = json!({ "spec": {
        "minReadySeconds": 7,
        "template": { "metadata": { "annotations": { "kubectl.kubernetes.io/restartedAt": "now" } } },
    } });
    deployments.patch(&before.name_any(), &by_hand(), &Patch::Merge(added)).await.map_err(broken)?;
    let (after, took) = until("it is as it was", || async {
        let found = deployments.get(&before.name_any()).await.map_err(broken)?;
        Ok((found.spec == before.spec).then_some(found))
    })
    .await?;
    assert!(took < MENDED, "{took:?}");
    // Nothing of it is anybody's any more, so nothing is left to do.
    let holds =
        |manager: &str| after.managed_fields().iter().any(|entry| entry.manager.as_deref() == Some(manager));
    assert!(!holds("kubectl-edit"), "{:?}", after.managed_fields());
    world.end().await
}

async fn what_stands_beside_a_workload_is_put_back() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (deployment, deployments) = world.only::<Deployment>().await?;
    let (budget, budgets) = world.only::<PodDisruptionBudget>().await?;
    let policies: Api<NetworkPolicy> =
        Api::namespaced(world.client.clone(), &deployment.namespace().unwrap());
    let policy = policies.get(&deployment.name_any()).await.map_err(broken)?;
    budgets.delete(&budget.name_any(), &DeleteParams::default()).await.map_err(broken)?;
    let open = json!({ "spec": { "ingress": [{}] } });
    policies.patch(&policy.name_any(), &by_hand(), &Patch::Merge(open)).await.map_err(broken)?;
    let (_, took) = until("both are as they were", || async {
        let found = budgets.get_opt(&budget.name_any()).await.map_err(broken)?;
        let closed = policies.get(&policy.name_any()).await.map_err(broken)?.spec == policy.spec;
        Ok((closed && found.is_some_and(|found| found.spec == budget.spec)).then_some(()))
    })
    .await?;
    assert!(took < MENDED, "{took:?}");
    let after = deployments.get(&deployment.name_any()).await.map_err(broken)?;
    assert_eq!(after.metadata.generation, deployment.metadata.generation, "what runs was left alone");
    world.end().await
}

/// One edit after the other, each as soon as the one before was put back. Prints how long it took: the figures of a loaded
/// machine are no ground to fail.
#[allow(clippy::print_stdout)] // Figures are for people.
async fn fifty_edits_are_put_back() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (before, deployments) = world.only::<Deployment>().await?;
    let mut took = Vec::new();
    for number in 0..50 {
        let edit = if number % 2 == 0 {
            json!({ "spec": { "replicas": 2 } })
        } else {
            json!({ "spec": { "minReadySeconds": 7 } })
        };
        deployments.patch(&before.name_any(), &by_hand(), &Patch::Merge(edit)).await.map_err(broken)?;
        let mended = until("it is as it was", || async {
            let found = deployments.get(&before.name_any()).await.map_err(broken)?;
            Ok((found.spec == before.spec).then_some(()))
        });
        took.push(mended.await?.1);
    }
    took.sort();
    // The 99th of a hundred is the 50th of fifty, the slowest.
    println!(
        "drift put back: p50 {:?}, p99 {:?} of {}",
        took[took.len() / 2],
        took[took.len() - 1],
        took.len()
    );
    assert!(took.iter().all(|took| *took < MENDED), "{took:?}");
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

async fn a_deployment_whose_labels_were_away_is_followed_again() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (before, deployments) = world.only::<Deployment>().await?;
    let (name, label) = (before.name_any(), "paas-sdk.dev/platform");
    let mark = |value: Option<&str>| Patch::Merge(json!({ "metadata": { "labels": { label: value } } }));
    deployments.patch(&name, &by_hand(), &mark(None)).await.map_err(broken)?;
    let shop = world.shop().await?;
    until("it is missed", || async {
        let running = shop.status().await?.services.iter().any(|service| service.ready > 0);
        Ok((!running).then_some(()))
    })
    .await?;
    // Nobody knows whose it is: a release says so, and goes on once somebody has put that right.
    let release = world.platform.deploy(&world.user, &app(&serving("2", 1))).await?;
    until("it is told", || async {
        let events = release.state().await?.events;
        Ok(events.iter().any(|event| event.text.contains("not marked as the platform's")).then_some(()))
    })
    .await?;
    deployments.patch(&name, &by_hand(), &mark(Some(&world.name))).await.map_err(broken)?;
    let edit = json!({ "spec": { "replicas": 3 } });
    deployments.patch(&name, &by_hand(), &Patch::Merge(edit)).await.map_err(broken)?;
    until("it is as it was", || async {
        let found = deployments.get(&name).await.map_err(broken)?;
        Ok((found.spec.and_then(|spec| spec.replicas) == Some(1)).then_some(()))
    })
    .await?;
    release.finished_within(SOON).await?;
    world.end().await
}

async fn the_secrets_that_pods_read_are_put_back() -> Result<()> {
    let world = World::new().await?;
    let tenant = world.user.tenant().cloned().unwrap();
    world.platform.put_secret(&world.user, &tenant, &"TOKEN".parse()?, Hidden::new("s3cret")?).await?;
    let mut web = serving("1", 1);
    web.secrets.push("TOKEN".parse()?);
    world.deploy(&app(&web)).await?;
    let (deployment, _) = world.only::<Deployment>().await?;
    let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &deployment.namespace().unwrap());
    let before = secrets.list(&world.labels()).await.map_err(broken)?.items.remove(0);
    let is_back = async |other: &Secret| {
        let (_, took) = until("it is as it was", || async {
            let found = secrets.get_opt(&before.name_any()).await.map_err(broken)?;
            Ok(found.filter(|found| found.uid() != other.uid() && found.data == before.data))
        })
        .await?;
        assert!(took < MENDED, "{took:?}");
        Result::Ok(())
    };
    secrets.delete(&before.name_any(), &DeleteParams::default()).await.map_err(broken)?;
    is_back(&before).await?;
    // Another of its name, with the same labels.
    let mut other = before.clone();
    other.metadata = ObjectMeta {
        name: before.metadata.name.clone(),
        labels: before.metadata.labels.clone(),
        ..ObjectMeta::default()
    };
    other.data = Some([("TOKEN".to_owned(), ByteString(b"another".to_vec()))].into());
    // The platform may be faster, now and then.
    let (other, _) = until("it is another", || async {
        drop(secrets.delete(&before.name_any(), &DeleteParams::default()).await);
        Ok(secrets.create(&PostParams::default(), &other).await.ok())
    })
    .await?;
    is_back(&other).await?;
    world.end().await
}
