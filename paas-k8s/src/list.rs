//! Lists that come in pages.

use std::fmt::Debug;

use kube::api::{ListParams, PartialObjectMeta};
use kube::core::ObjectList;
use kube::{Api, Resource};
use paas_core::Result;
use serde::de::DeserializeOwned;

use crate::error::failed;

/// How many objects one answer brings.
const PAGE: u32 = 250;

/// All objects with these labels.
pub(crate) async fn all<K>(api: &Api<K>, labels: &str) -> Result<Vec<K>>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    let mut page = ListParams::default().labels(labels).limit(PAGE);
    loop {
        let objects = api.list(&page).await.map_err(|cause| failed(cause, "list"))?;
        let next = next(&objects);
        found.extend(objects.items);
        match next {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(found),
        }
    }
}

/// What is written on all objects with these labels.
pub(crate) async fn metadata<K>(api: &Api<K>, labels: &str) -> Result<Vec<PartialObjectMeta<K>>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    let mut page = ListParams::default().labels(labels).limit(PAGE);
    loop {
        let objects = api.list_metadata(&page).await.map_err(|cause| failed(cause, "list"))?;
        let next = next(&objects);
        found.extend(objects.items);
        match next {
            Some(token) => page.continue_token = Some(token),
            None => return Ok(found),
        }
    }
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

fn next<T: Clone>(objects: &ObjectList<T>) -> Option<String> {
    objects.metadata.continue_.clone().filter(|token| !token.is_empty())
}
