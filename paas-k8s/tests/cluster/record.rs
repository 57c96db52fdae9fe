//! Objects that look like records.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Api, ResourceExt};
use paas_core::Result;
use paas_core::model::{Key, RecordChange, RecordKind};
use paas_core::port::{Expected, StateStore};
use paas_k8s::KubeStateStore;
use paas_testkit::World;

use super::cases;
use crate::fixture::connect;
use crate::fixture::rooms::{broken, client};

cases![a_record_that_was_spoilt_is_told_of_and_not_passed_over, what_looks_like_a_record_is_none];

const KIND: RecordKind = RecordKind::new("likeness");

/// A record, the object that holds it, and where its like are.
async fn stored(world: &World) -> Result<(KubeStateStore, Key, ConfigMap, Api<ConfigMap>)> {
    let connection = connect().await?;
    let store = KubeStateStore::new(connection);
    let key = Key::new(KIND, Some(world.tenant.clone()), world.app.as_str())?;
    store.put(&world.scope(), &key, Bytes::from_static(b"{}"), Expected::Absent).await?;
    let all: Api<ConfigMap> = Api::all(client().await?);
    let own = ListParams::default().labels(&format!("paas-sdk.dev/tenant={}", world.tenant));
    let found = all.list(&own).await.map_err(broken)?.items.remove(0);
    let objects = Api::namespaced(client().await?, &found.namespace().unwrap());
    Ok((store, key, found, objects))
}

async fn what_looks_like_a_record_is_none() -> Result<()> {
    let world = World::new();
    let (store, key, own, objects) = stored(&world).await?;
    let scope = world.scope();
    let mut told = store.watch(&scope, KIND, Some(world.tenant.clone())).await?;
    let copy = |annotations: Option<BTreeMap<String, String>>, word: &str| ConfigMap {
        metadata: ObjectMeta {
            name: Some(format!("{word}-{}", world.app)),
            labels: own.metadata.labels.clone(),
            annotations,
            ..ObjectMeta::default()
        },
        ..own.clone()
    };
    for object in [copy(own.metadata.annotations.clone(), "backup"), copy(None, "marked")] {
        objects.create(&PostParams::default(), &object).await.map_err(broken)?;
        let listed = store.list(&scope, KIND, Some(world.tenant.clone())).await?;
        assert_eq!(listed.iter().map(|record| &record.key).collect::<Vec<_>>(), [&key]);
        objects.delete(&object.name_any(), &DeleteParams::default()).await.map_err(broken)?;
    }
    let version = store.get(&scope, &key).await?.unwrap().version;
    store.put(&scope, &key, Bytes::from_static(b"[]"), Expected::Version(version)).await?;
    // Nothing was told of the copies.
    let first = told.next().await.unwrap();
    assert!(matches!(&first, RecordChange::Put(record) if record.value == "[]"), "{first:?}");
    let version = store.get(&scope, &key).await?.unwrap().version;
    store.delete(&scope, &key, version).await
}

async fn a_record_that_was_spoilt_is_told_of_and_not_passed_over() -> Result<()> {
    let world = World::new();
    let (store, key, mut own, objects) = stored(&world).await?;
    own.metadata.annotations = None;
    objects.replace(&own.name_any(), &PostParams::default(), &own).await.map_err(broken)?;
    let listed = store.list(&world.scope(), KIND, Some(world.tenant.clone())).await;
    assert!(listed.unwrap_err().to_string().contains(&own.name_any()));
    assert!(store.get(&world.scope(), &key).await.is_err());
    objects.delete(&own.name_any(), &DeleteParams::default()).await.map(drop).map_err(broken)
}
