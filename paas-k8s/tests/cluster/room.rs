//! Namespaces of tenants.

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota, Secret, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use paas_k8s::Connection;

use super::*;
use crate::platform::until;
use crate::proxy::{Fault, Proxy, Rule};

cases![
    what_somebody_changed_is_put_back,
    pods_are_held_to_the_restricted_standard_and_given_limits,
    a_namespace_of_somebody_else_is_neither_taken_over_nor_removed,
    another_platform_on_the_cluster_sees_nothing_of_it,
    whatever_runs_or_belongs_to_an_app_keeps_a_tenant,
    nothing_comes_into_a_namespace_that_is_looked_through_before_it_goes,
    a_tenant_that_stays_may_be_used_on,
    a_namespace_that_cannot_go_is_told_with_the_reason,
];

async fn what_somebody_changed_is_put_back() -> Result<()> {
    let stage = Stage::new().await?;
    let enforce = "pod-security.kubernetes.io/enforce";
    stage.change(json!({ "metadata": { "labels": { enforce: "privileged" } } })).await;
    let policies: Api<NetworkPolicy> = Api::namespaced(stage.client.clone(), &stage.name);
    let params = PatchParams::default();
    let open = Patch::Merge(json!({ "spec": { "ingress": [{}] } }));
    policies.patch("paas-deny-all", &params, &open).await.unwrap();
    policies.delete("paas-allow-out", &DeleteParams::default()).await.unwrap();
    let accounts: Api<ServiceAccount> = Api::namespaced(stage.client.clone(), &stage.name);
    let token = Patch::Merge(json!({ "automountServiceAccountToken": true }));
    for name in ["default", "paas-app"] {
        accounts.patch(name, &params, &token).await.unwrap();
    }
    stage.apply().await?;
    assert_eq!(stage.namespaces().get(&stage.name).await.unwrap().labels()[enforce], "restricted");
    let denied = policies.get("paas-deny-all").await.unwrap().spec.unwrap();
    assert_eq!(denied.ingress.unwrap_or_default(), []);
    assert!(policies.get_opt("paas-allow-out").await.unwrap().is_some());
    for name in ["default", "paas-app"] {
        let account = accounts.get(name).await.unwrap();
        assert_eq!(account.automount_service_account_token, Some(false), "{name}");
    }
    stage.end().await
}

async fn pods_are_held_to_the_restricted_standard_and_given_limits() -> Result<()> {
    let stage = Stage::new().await?;
    for (pointer, value) in [
        ("/securityContext/runAsNonRoot", json!(false)),
        ("/containers/0/securityContext/allowPrivilegeEscalation", json!(true)),
        ("/hostNetwork", json!(true)),
    ] {
        let mut spec = restricted();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        spec.pointer_mut(parent).unwrap()[last] = value;
        let refusal = stage.pod(spec).await.unwrap_err();
        assert!(refusal.to_string().contains("violates PodSecurity"), "{pointer}: {refusal}");
    }
    let pod = stage.pod(restricted()).await.unwrap().spec.unwrap();
    assert_eq!(pod.volumes.unwrap_or_default(), [], "no token is mounted");
    let resources = pod.containers[0].resources.clone().unwrap();
    assert_eq!(resources.limits.unwrap()["memory"].0, "512Mi");
    assert_eq!(resources.requests.unwrap()["cpu"].0, "100m");
    stage.delete_pod().await;
    let quotas: Api<ResourceQuota> = Api::namespaced(stage.client.clone(), &stage.name);
    assert_eq!(quotas.get("paas").await.unwrap().spec.unwrap().hard.unwrap()["pods"].0, "200");
    let limits: Api<LimitRange> = Api::namespaced(stage.client.clone(), &stage.name);
    assert!(limits.get_opt("paas").await.unwrap().is_some());
    stage.end().await
}

async fn a_namespace_of_somebody_else_is_neither_taken_over_nor_removed() -> Result<()> {
    let stage = Stage::new().await?;
    let platform = "paas-sdk.dev/platform";
    stage.change(json!({ "metadata": { "labels": { platform: null } } })).await;
    assert_eq!(stage.apply().await.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(!stage.is_listed().await?);
    stage.remove().await?;
    let left = stage.namespaces().get(&stage.name).await.unwrap();
    assert!(left.metadata.deletion_timestamp.is_none() && !left.labels().contains_key(platform));
    stage.change(json!({ "metadata": { "labels": { platform: PLATFORM } } })).await;
    // One whose name says otherwise is nobody's, whatever its labels say.
    let mut marked = stage.namespaces().get(&stage.name).await.unwrap();
    marked.metadata.name = Some(format!("marked-{}", stage.tenant.id));
    marked.metadata.uid = None;
    marked.metadata.resource_version = None;
    let marked = stage.namespaces().create(&PostParams::default(), &marked).await.unwrap().name_any();
    let namespaces = stage.namespaces();
    stage.end().await?;
    assert!(namespaces.get(&marked).await.unwrap().metadata.deletion_timestamp.is_none());
    namespaces.delete(&marked, &DeleteParams::default()).await.unwrap();
    Ok(())
}

async fn another_platform_on_the_cluster_sees_nothing_of_it() -> Result<()> {
    let stage = Stage::new().await?;
    let other = ConnectionConfig::default().platform("conformance-other");
    let other = KubeTenancy::new(paas_k8s::Connection::connect(other).await?);
    assert!(!other.list(&scope()).await?.contains(&stage.tenant.id));
    other.remove(&scope(), &stage.tenant.id).await?;
    assert!(stage.is_listed().await?);
    stage.end().await
}

async fn whatever_runs_or_belongs_to_an_app_keeps_a_tenant() -> Result<()> {
    let stage = Stage::new().await?;
    stage.pod(restricted()).await.unwrap();
    let refusal = stage.remove().await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.context("kind")), (ErrorKind::Conflict, Some("Pod")));
    stage.delete_pod().await;

    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.name);
    let labels = json!({ "paas-sdk.dev/platform": PLATFORM });
    let secret = json!({ "metadata": { "name": "it", "labels": labels } });
    let secret = serde_json::from_value(secret).unwrap();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let refusal = stage.remove().await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.context("kind")), (ErrorKind::Conflict, Some("Secret")));
    secrets.delete("it", &DeleteParams::default()).await.unwrap();
    stage.end().await
}

async fn nothing_comes_into_a_namespace_that_is_looked_through_before_it_goes() -> Result<()> {
    let stage = Stage::new().await?;
    let proxy = Proxy::start(stage.client.clone()).await;
    let file = proxy.kubeconfig();
    let mut config = ConnectionConfig::default().platform(PLATFORM);
    config.kubeconfig = Some(file.path().to_owned());
    let slow = KubeTenancy::new(Connection::connect(config).await?);
    // Pods were looked for already, and found to be none.
    let late = Rule::new(&["list"], Fault::Delay(Duration::from_secs(3))).about(&["cronjobs"]);
    proxy.set([late]);
    let tenant = stage.tenant.id.clone();
    let removal = tokio::spawn(async move { slow.remove(&scope(), &tenant).await });
    until("it is looked through", async || {
        let calls = proxy.calls();
        Ok(calls.iter().any(|call| call.resource == "jobs").then_some(()))
    })
    .await?;
    let refusal = stage.pod(restricted()).await.unwrap_err();
    assert!(refusal.to_string().contains("exceeded quota"), "{refusal}");
    drop(removal.await.unwrap());
    stage.end().await
}

async fn a_tenant_that_stays_may_be_used_on() -> Result<()> {
    let stage = Stage::new().await?;
    stage.pod(restricted()).await.unwrap();
    assert_eq!(stage.remove().await.unwrap_err().kind(), ErrorKind::Conflict);
    stage.delete_pod().await;
    let again = async || Ok(stage.pod(restricted()).await.ok().map(drop));
    until("there is room for a pod", again).await?;
    stage.delete_pod().await;
    stage.end().await
}

async fn a_namespace_that_cannot_go_is_told_with_the_reason() -> Result<()> {
    let stage = Stage::new().await?;
    let held = json!({ "metadata": { "name": "held", "finalizers": ["paas-sdk.dev/conformance"] } });
    let secrets: Api<Secret> = Api::namespaced(stage.client.clone(), &stage.name);
    secrets.create(&PostParams::default(), &serde_json::from_value(held).unwrap()).await.unwrap();
    let refusal = loop {
        let refusal = stage.remove().await.unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::Unavailable, "{refusal:?}");
        if refusal.context("because").is_some_and(|because| because.contains("finalizers")) {
            break refusal;
        }
    };
    assert_eq!(refusal.context("namespace"), Some(stage.name.as_str()));
    assert!(stage.is_listed().await?);
    let busy = stage.apply().await.unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Unavailable, "{busy:?}");
    let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
    secrets.patch("held", &PatchParams::default(), &free).await.unwrap();
    stage.end().await
}
