//! Lists that come in pages.

use std::fmt::Debug;

use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Resource};
use paas_core::Result;
use serde::de::DeserializeOwned;

use crate::error::failed;
use crate::watch::{self, Metadata, Objects, Source};

/// All objects with these labels.
pub(crate) async fn all<K>(api: &Api<K>, labels: &str) -> Result<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    collect(Objects(api.clone()), labels).await
}

/// What is written on all objects with these labels.
pub(crate) async fn metadata<K>(api: &Api<K>, labels: &str) -> Result<Vec<PartialObjectMeta<K>>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    collect(Metadata(api.clone()), labels).await
}

async fn collect<S: Source>(source: S, labels: &str) -> Result<Vec<S::Object>> {
    let mut found = Vec::new();
    let listed = watch::list(&source, labels, |object| found.push(object)).await;
    listed.map_err(|cause| failed(cause, "list"))?;
    Ok(found)
}

/// Whether there is any object with these labels.
pub(crate) async fn any<K>(api: &Api<K>, labels: &str) -> Result<bool>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let one = ListParams::default().labels(labels).limit(1);
    let found = api.list_metadata(&one).await.map_err(|cause| failed(cause, "list"))?;
    Ok(!found.items.is_empty())
}
