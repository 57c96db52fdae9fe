//! Claims on storage.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use paas_core::model::{ByteSize, Confirmation, ServiceId, Volume, VolumeName};
use paas_core::port::VolumeStore;
use paas_k8s::KubeVolumes;

use super::*;

cases![
    a_volume_is_not_removed_while_a_pod_names_it,
    a_claim_that_a_stateful_set_made_first_becomes_the_volume,
    a_volume_without_a_namespace_says_what_to_do,
];

fn volume(tenant: &Tenant, environment: &EnvironmentId) -> Result<Volume> {
    let service = ServiceId::generate(&IdSource::random(Clock::system()));
    let name = VolumeName::new("data")?;
    Volume::new(tenant.id.clone(), environment.clone(), service, name, 0, ByteSize(1 << 20))
}

async fn remove(store: &KubeVolumes, volume: &Volume) -> Result<()> {
    let confirmation = Confirmation::of(volume.id.as_str());
    store.remove(&scope(), &volume.tenant, &volume.id, &confirmation).await
}

async fn a_volume_is_not_removed_while_a_pod_names_it() -> Result<()> {
    let stage = Stage::new().await?;
    let store = KubeVolumes::new(connect().await?);
    let volume = volume(&stage.tenant, &stage.environments[0].id)?;
    store.apply(&scope(), &volume).await?;
    let claim = format!("data-{}-blue-0", volume.service);
    let mut spec = restricted();
    spec["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }]);
    stage.pod(spec).await.unwrap();
    let refusal = remove(&store, &volume).await.unwrap_err();
    assert_eq!((refusal.kind(), refusal.context("instance")), (ErrorKind::Conflict, Some("it")));
    // It waits with the pod, and can neither be made anew nor grow.
    let mut larger = volume.clone();
    larger.size = ByteSize(2 << 20);
    let refusal = store.apply(&scope(), &larger).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Unavailable, "{refusal:?}");
    assert_eq!(store.list(&scope(), &volume.tenant).await?[0].volume, volume);
    stage.delete_pod().await;
    assert_eq!(store.apply(&scope(), &larger).await?.volume, larger);
    remove(&store, &volume).await?;
    assert_eq!(store.list(&scope(), &volume.tenant).await?, []);
    stage.end().await
}

async fn a_claim_that_a_stateful_set_made_first_becomes_the_volume() -> Result<()> {
    let stage = Stage::new().await?;
    let store = KubeVolumes::new(connect().await?);
    let volume = volume(&stage.tenant, &stage.environments[0].id)?;
    let labels = json!({ "paas-sdk.dev/platform": PLATFORM, "paas-sdk.dev/tenant": volume.tenant });
    let name = format!("data-{}-blue-0", volume.service);
    let early = |labels: Value| -> PersistentVolumeClaim {
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "3Mi" } },
            },
        }))
        .unwrap()
    };
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(stage.client.clone(), &stage.name);
    claims.create(&PostParams::default(), &early(labels)).await.unwrap();
    assert_eq!(store.list(&scope(), &volume.tenant).await?, []);
    let status = store.apply(&scope(), &volume).await?;
    assert_eq!(status.volume.size, ByteSize(3 << 20));
    assert_eq!(store.list(&scope(), &volume.tenant).await?, [status]);
    remove(&store, &volume).await?;

    claims.create(&PostParams::default(), &early(json!({}))).await.unwrap();
    assert_eq!(store.apply(&scope(), &volume).await.unwrap_err().kind(), ErrorKind::Conflict);
    claims.delete(&name, &DeleteParams::default()).await.unwrap();
    while claims.get_metadata_opt(&name).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stage.end().await
}

async fn a_volume_without_a_namespace_says_what_to_do() -> Result<()> {
    let ids = IdSource::random(Clock::system());
    let tenant = Tenant::new(TenantId::generate(&ids), TenantName::new("acme")?, Timestamp(1));
    let volume = volume(&tenant, &EnvironmentId::generate(&ids))?;
    let refusal = KubeVolumes::new(connect().await?).apply(&scope(), &volume).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::NotFound);
    assert!(refusal.message().contains("make the environment first"), "{refusal}");
    Ok(())
}
