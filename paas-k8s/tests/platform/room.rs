//! Somebody else changes what keeps tenants apart.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{LimitRange, Namespace, ResourceQuota, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt};
use paas_core::Result;
use serde_json::{Value, json};

use super::{Case, World, app, cases, open, serving, until};
use crate::fixture::rooms::broken;

pub(super) const CASES: &[(&str, Case)] = cases![
    each_guard_that_is_edited_or_deleted_is_put_back,
    guards_that_were_changed_while_nobody_led_are_put_back,
    a_namespace_that_was_deleted_is_back_with_what_ran_in_it,
];

/// How soon it is mended, on a machine that does other things as well.
const MENDED: Duration = Duration::from_secs(10);

/// What is done to a guard: this change is merged into it, or it is deleted.
type Deed = Option<Value>;

/// A guard, and what somebody does to it.
fn deeds() -> Vec<(ApiResource, &'static str, Deed)> {
    let policy = || ApiResource::erase::<NetworkPolicy>(&());
    let quota = || ApiResource::erase::<ResourceQuota>(&());
    let limits = || ApiResource::erase::<LimitRange>(&());
    let account = || ApiResource::erase::<ServiceAccount>(&());
    let access = || ApiResource::erase::<RoleBinding>(&());
    let spec = |spec: Value| Some(json!({ "spec": spec }));
    let token = |token: Value| Some(json!({ "automountServiceAccountToken": token }));
    vec![
        (policy(), "paas-deny-all", spec(json!({ "ingress": [{}] }))),
        (policy(), "paas-deny-all", spec(json!({ "podSelector": { "matchLabels": { "a": "b" } } }))),
        (policy(), "paas-deny-all", spec(json!({ "policyTypes": ["Ingress"] }))),
        (
            policy(),
            "paas-deny-all",
            Some(json!({ "metadata": { "labels": { "paas-sdk.dev/platform": null } } })),
        ),
        (
            policy(),
            "paas-deny-all",
            Some(json!({ "metadata": { "labels": { "paas-sdk.dev/tenant": "t-2" } } })),
        ),
        (policy(), "paas-deny-all", None),
        (policy(), "paas-allow-out", spec(json!({ "egress": [{}] }))),
        (policy(), "paas-allow-out", None),
        (quota(), "paas", spec(json!({ "hard": { "pods": "9999" } }))),
        (quota(), "paas", spec(json!({ "hard": { "services.nodeports": null } }))),
        (quota(), "paas", spec(json!({ "hard": { "configmaps": "0" } }))),
        (quota(), "paas", None),
        (limits(), "paas", spec(json!({ "limits": [] }))),
        (limits(), "paas", None),
        (account(), "paas-app", token(json!(true))),
        (account(), "paas-app", token(Value::Null)),
        (account(), "paas-app", None),
        (account(), "default", token(json!(true))),
        (account(), "default", None),
        (
            access(),
            "paas-platform",
            Some(json!({ "subjects": [{ "kind": "ServiceAccount", "name": "a", "namespace": "b" }] })),
        ),
        (access(), "paas-platform", None),
    ]
}

/// What the platform decides of a guard.
fn decided(guard: &DynamicObject) -> [Value; 4] {
    let own = |key: &str| guard.data.get(key).cloned().unwrap_or_default();
    [own("spec"), own("automountServiceAccountToken"), own("subjects"), json!(guard.labels())]
}

/// As if by `kubectl edit`.
fn by_hand() -> PatchParams {
    PatchParams { field_manager: Some("kubectl-edit".into()), ..PatchParams::default() }
}

async fn act(guards: &Api<DynamicObject>, name: &str, deed: Deed) -> Result<()> {
    match deed {
        Some(change) => guards.patch(name, &by_hand(), &Patch::Merge(change)).await.map(drop),
        None => guards.delete(name, &DeleteParams::default()).await.map(drop),
    }
    .map_err(broken)
}

/// The namespace of the only environment, and where it is.
async fn home(world: &World) -> Result<(Namespace, Api<Namespace>)> {
    let all: Api<Namespace> = Api::all(world.client.clone());
    let found = all.list(&world.labels()).await.map_err(broken)?.items;
    // The other one is the platform's own.
    let own = found.into_iter().find(|own| own.labels().contains_key("paas-sdk.dev/tenant"));
    Ok((own.unwrap(), all))
}

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";

async fn is_restricted(namespaces: &Api<Namespace>, name: &str) -> Result<Option<()>> {
    let found = namespaces.get_opt(name).await.map_err(broken)?;
    let is_so = |found: Namespace| found.labels().get(ENFORCE).is_some_and(|own| own == "restricted");
    Ok(found.is_some_and(is_so).then_some(()))
}

/// One after the other, each as soon as the one before was put back. Prints how long it took: the figures of a loaded
/// machine are no ground to fail.
#[allow(clippy::print_stdout)] // Figures are for people.
async fn each_guard_that_is_edited_or_deleted_is_put_back() -> Result<()> {
    let world = World::new().await?;
    let (namespace, namespaces) = home(&world).await?;
    let name = namespace.name_any();
    let mut took = Vec::new();
    for label in [json!("privileged"), Value::Null] {
        let change = Patch::Merge(json!({ "metadata": { "labels": { ENFORCE: label } } }));
        namespaces.patch(&name, &by_hand(), &change).await.map_err(broken)?;
        took.push(until("its label is as it was", || is_restricted(&namespaces, &name)).await?.1);
    }
    for (kind, guard, deed) in deeds() {
        let guards: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &name, &kind);
        let before = guards.get(guard).await.map_err(broken)?;
        let what = format!("{} {guard} is as it was after {deed:?}", kind.kind);
        act(&guards, guard, deed).await?;
        let mended = until(&what, || async {
            let found = guards.get_opt(guard).await.map_err(broken)?;
            Ok(found.is_some_and(|found| decided(&found) == decided(&before)).then_some(()))
        });
        took.push(mended.await?.1);
    }
    took.sort();
    println!(
        "guards put back: quickest {:?}, p50 {:?}, slowest {:?} of {}",
        took[0],
        took[took.len() / 2],
        took[took.len() - 1],
        took.len()
    );
    assert!(took.iter().all(|took| *took < MENDED), "{took:?}");
    world.end().await
}

async fn guards_that_were_changed_while_nobody_led_are_put_back() -> Result<()> {
    let world = World::new().await?;
    world.platform.shutdown().await;
    let (namespace, namespaces) = home(&world).await?;
    let name = namespace.name_any();
    let change = Patch::Merge(json!({ "metadata": { "labels": { ENFORCE: "privileged" } } }));
    namespaces.patch(&name, &by_hand(), &change).await.map_err(broken)?;
    let policies: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &name);
    policies.delete("paas-deny-all", &DeleteParams::default()).await.map_err(broken)?;
    let next = open(&world.name).await?;
    until("all are as they were", || async {
        let denied = policies.get_opt("paas-deny-all").await.map_err(broken)?;
        Ok(is_restricted(&namespaces, &name).await?.filter(|()| denied.is_some()))
    })
    .await?;
    next.shutdown().await;
    world.end().await
}

async fn a_namespace_that_was_deleted_is_back_with_what_ran_in_it() -> Result<()> {
    let world = World::new().await?;
    world.deploy(&app(&serving("1", 1))).await?;
    let (namespace, namespaces) = home(&world).await?;
    let name = namespace.name_any();
    namespaces.delete(&name, &DeleteParams::default()).await.map_err(broken)?;
    let policies: Api<NetworkPolicy> = Api::namespaced(world.client.clone(), &name);
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &name);
    until("it is there again, with its guards and what runs", || async {
        let found = namespaces.get_opt(&name).await.map_err(broken)?;
        if found.is_none_or(|found| found.uid() == namespace.uid()) {
            return Ok(None);
        }
        let denied = policies.get_opt("paas-deny-all").await.map_err(broken)?;
        let running = deployments.list(&world.labels()).await.map_err(broken)?.items;
        let ready = running.iter().filter_map(|own| own.status.as_ref()?.ready_replicas).sum::<i32>();
        Ok((denied.is_some() && ready == 1).then_some(()))
    })
    .await?;
    world.end().await
}
