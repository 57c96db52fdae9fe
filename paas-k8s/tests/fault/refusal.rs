//! What the cluster refuses, and what it cannot get rid of.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota, Secret as Object};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use paas_core::model::{AppSpec, Resource, Scope, Secret, SecretName, ServiceSpec};
use paas_core::port::Tenancy;
use paas_core::{ErrorKind, Result};
use paas_k8s::{Connection, ConnectionConfig, KubeTenancy};
use serde_json::json;

use super::{Stage, finish};
use crate::fixture::rooms::broken;
use crate::platform::{Case, World, app, cases, serving, until};

pub(super) const CASES: &[(&str, Case)] = cases![
    what_admission_refuses_is_told_in_its_own_words,
    an_object_without_room_in_the_quota_is_told_and_made_once_there_is,
    a_tenant_whose_namespace_is_stuck_is_reported_and_goes_once_it_is_free,
];

/// How soon a refusal is to be seen.
const SEEN: Duration = Duration::from_secs(5);

/// A service whose release is given up on soon.
fn hurried(version: &str) -> ServiceSpec {
    let mut service = serving(version, 1);
    service.release = Some(serde_json::from_str(r#"{ "strategy": "rolling", "deadline": "10s" }"#).unwrap());
    service
}

/// Deploys what is refused: the words are seen while it goes on, and in its failure.
async fn expect_refusal(stage: &Stage, app: &AppSpec, words: &str) -> Result<()> {
    let operation = stage.begin(app).await?;
    let (_, took) = until("the refusal is told", || async {
        let events = operation.state().await?.events;
        Ok(events.iter().any(|event| event.text.contains(words)).then_some(()))
    })
    .await?;
    assert!(took < SEEN, "{took:?}");
    let explained = stage.world.shop().await?.explain().await?.to_string();
    assert!(explained.contains(words), "{explained}");
    let failed = finish(&operation).await.unwrap_err();
    assert!(failed.kind() == ErrorKind::Failed && failed.to_string().contains(words), "{failed:?}");
    Ok(())
}

async fn what_admission_refuses_is_told_in_its_own_words() -> Result<()> {
    let stage = Stage::new().await?;
    let name = &stage.world.name;
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(stage.world.client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(stage.world.client.clone());
    let policy = json!({ "metadata": { "name": name }, "spec": {
        "failurePolicy": "Fail",
        "matchConstraints": { "resourceRules": [{
            "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"],
        }] },
        "validations": [{ "expression": "false", "message": "no app before its review" }],
    } });
    let binding = json!({ "metadata": { "name": name }, "spec": {
        "policyName": name, "validationActions": ["Deny"],
        "matchResources": { "objectSelector": { "matchLabels": { "paas-sdk.dev/platform": name } } },
    } });
    let params = PostParams::default();
    policies.create(&params, &serde_json::from_value(policy).unwrap()).await.map_err(broken)?;
    bindings.create(&params, &serde_json::from_value(binding).unwrap()).await.map_err(broken)?;
    in_force(&stage.world).await?;
    expect_refusal(&stage, &app(&hurried("1")), "no app before its review").await?;
    bindings.delete(name, &DeleteParams::default()).await.map_err(broken)?;
    policies.delete(name, &DeleteParams::default()).await.map_err(broken)?;
    until("it is let in", || async { Ok(stage.deploy(&app(&hurried("2"))).await.ok()) }).await?;
    stage.expect_nothing_doubled(1).await?;
    stage.end().await
}

/// The API server takes some time to learn of its policies.
async fn in_force(world: &World) -> Result<()> {
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> =
        Api::namespaced(world.client.clone(), "default");
    let probe = json!({
        "metadata": { "name": world.name, "labels": { "paas-sdk.dev/platform": world.name } },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "probe": world.name } },
            "template": { "metadata": { "labels": { "probe": world.name } }, "spec": { "containers": [{ "name": "it", "image": "paas/none" }] } },
        },
    });
    let probe = serde_json::from_value(probe).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("the policy is in force", || async { Ok(deployments.create(&dry, &probe).await.err()) }).await?;
    Ok(())
}

async fn an_object_without_room_in_the_quota_is_told_and_made_once_there_is() -> Result<()> {
    let stage = Stage::new().await?;
    stage.deploy(&app(&hurried("1"))).await?;
    let (_, quotas) = stage.world.only::<ResourceQuota>().await?;
    let tight = json!({ "metadata": { "name": "tight" }, "spec": { "hard": { "count/secrets": "0" } } });
    quotas.create(&PostParams::default(), &serde_json::from_value(tight).unwrap()).await.map_err(broken)?;
    until("the quota counts", || async {
        let quota = quotas.get("tight").await.map_err(broken)?;
        Ok(quota.status.and_then(|status| status.used))
    })
    .await?;
    let (tenant, name) = (stage.world.user.tenant().cloned().unwrap(), SecretName::new("TOKEN")?);
    stage.world.platform.put_secret(&stage.world.user, &tenant, &name, Secret::new("s3cret")?).await?;
    let mut service = hurried("2");
    service.secrets.push(name);
    expect_refusal(&stage, &app(&service), "exceeded quota: tight").await?;
    quotas.delete("tight", &DeleteParams::default()).await.map_err(broken)?;
    stage.deploy(&app(&service)).await?;
    stage.expect_nothing_doubled(1).await?;
    stage.end().await
}

async fn a_tenant_whose_namespace_is_stuck_is_reported_and_goes_once_it_is_free() -> Result<()> {
    let stage = Stage::new().await?;
    stage.deploy(&app(&serving("1", 1))).await?;
    let namespaces: Api<Namespace> = Api::all(stage.world.client.clone());
    let own = namespaces.list(&stage.world.labels()).await.map_err(broken)?.items;
    let own = own.into_iter().find(|own| own.labels().contains_key("paas-sdk.dev/tenant")).unwrap();
    let (own, uid) = (own.name_any(), own.uid());
    let secrets: Api<Object> = Api::namespaced(stage.world.client.clone(), &own);
    let held = json!({ "metadata": { "name": "held", "finalizers": ["paas-sdk.dev/conformance"] } });
    secrets.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.map_err(broken)?;
    let removal = stage.world.shop().await?.remove().await?;
    finish(&removal).await?;
    let tenant = stage.world.user.tenant().cloned().unwrap();
    let mut config = ConnectionConfig::default().platform(&stage.world.name);
    let file = stage.proxy.kubeconfig();
    config.kubeconfig = Some(file.path().to_owned());
    let tenancy = KubeTenancy::new(Connection::connect(config).await?);
    let scope = Scope::testing(Resource::Platform);
    let remove = || tenancy.remove(&scope, &tenant);
    // What the app's instances leave behind goes first.
    let (refusal, _) = until("it says what keeps it", || async {
        let refusal = remove().await.unwrap_err();
        Ok(refusal
            .context("because")
            .is_some_and(|because| because.contains("finalizers"))
            .then_some(refusal))
    })
    .await?;
    assert_eq!((refusal.kind(), refusal.context("namespace")), (ErrorKind::Unavailable, Some(own.as_str())));
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    secrets.patch("held", &PatchParams::default(), &free).await.map_err(broken)?;
    until("it is gone", || async { Ok(remove().await.ok()) }).await?;
    // The platform, which was not asked to remove the tenant, may have made it anew.
    let now = namespaces.get_opt(&own).await.map_err(broken)?;
    assert!(now.is_none_or(|now| now.uid() != uid));
    stage.end().await
}
