//! The platform's records, as objects of its namespace.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, ObjectMeta, PostParams, Preconditions};
use kube::{Api, Resource};
use paas_core::backend::Fence;
use paas_core::model::{Key, Record, RecordChange, RecordKind, Scope, TenantId, Version, limit};
use paas_core::port::{Backend, Expected, StateStore};
use paas_core::{Error, ErrorKind, Result};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::apply::gone;
use crate::error::failed;
use crate::watch::{self, Change, Objects};
use crate::{Connection, label, list};
use shelf::Shelf;

mod shelf;

/// The kind whose records are Lease objects, so that people see who leads as they do for any controller.
const LEASE: &str = "lease";

/// Keeps each record as an object in the platform's namespace: a ConfigMap, and a Lease for who leads.
///
/// A record's version is the object's `resourceVersion`, so compare-and-swap is the API server's own. Current state
/// only; 256 KiB a record. Labels tell kind and tenant, so listing and watching read nothing else.
#[derive(Debug)]
pub struct KubeStateStore {
    connection: Connection,
    fence: Fence,
}

/// Runs one expression with the objects that hold a kind.
macro_rules! shelved {
    ($store:ident, $kind:expr, |$api:ident| $body:expr) => {
        if $kind.as_str() == LEASE {
            let $api: Api<Lease> = $store.connection.own();
            $body
        } else {
            let $api: Api<ConfigMap> = $store.connection.own();
            $body
        }
    };
}

impl KubeStateStore {
    /// A store in the platform's namespace.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self { connection, fence: Fence::default() }
    }

    fn selector(&self, kind: RecordKind, tenant: Option<&TenantId>) -> String {
        let platform = self.connection.platform();
        let all = format!("{}={platform},{}={}", label::PLATFORM, label::KIND, kind.as_str());
        tenant.map_or_else(|| all.clone(), |tenant| format!("{all},{}={tenant}", label::TENANT))
    }
}

/// How long the digest in a name is.
const DIGEST: usize = 40;

/// The name of a record's object: ids may have characters and lengths that names must not have.
fn name(platform: &str, key: &Key) -> String {
    format!("{}-{}", key.kind.as_str(), label::digest(&format!("{platform}/{key}"), DIGEST))
}

/// Whether a record of this kind may have this name.
fn is_name(kind: RecordKind, name: &str) -> bool {
    let digest = name.strip_prefix(kind.as_str()).and_then(|rest| rest.strip_prefix('-'));
    digest.is_some_and(|digest| digest.len() == DIGEST && digest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn version<K: Resource>(object: &K) -> Result<Version> {
    let text = object.meta().resource_version.as_deref().unwrap_or_default();
    let unknown =
        |_| Error::internal("the API server gives a version that is no number").with("version", text);
    text.parse().map(Version).map_err(unknown)
}

fn about(error: Error, key: &Key) -> Error {
    error.with("key", key)
}

async fn put<K>(api: &Api<K>, platform: &str, key: &Key, value: &Bytes, expected: Expected) -> Result<Version>
where
    K: Shelf + Resource<DynamicType = ()> + Clone + Serialize + DeserializeOwned + Debug,
{
    let name = name(platform, key);
    let object = K::holding(platform, &name, key, value, expected)?;
    let written = match expected {
        Expected::Absent => api.create(&PostParams::default(), &object).await,
        Expected::Version(_) => api.replace(&name, &PostParams::default(), &object).await,
    };
    match written {
        Ok(written) => version(&written),
        Err(cause) => {
            let error = failed(cause, "write a record");
            Err(match (error.kind(), expected) {
                // A record that is missing has no version at all.
                (ErrorKind::NotFound, Expected::Version(_)) => {
                    Error::conflict("the record has another version").with_source(error)
                }
                (ErrorKind::NotFound, Expected::Absent) => Error::unavailable(
                    "the platform's namespace is missing: start the platform anew, or make it",
                )
                .with_source(error),
                _ => error,
            })
        }
    }
}

async fn delete<K>(api: &Api<K>, platform: &str, key: &Key, expected: Version) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let preconditions = Preconditions { resource_version: Some(expected.0.to_string()), uid: None };
    let deleted =
        api.delete(&name(platform, key), &DeleteParams::background().preconditions(preconditions)).await;
    gone(deleted, "delete a record")
}

/// The records among these objects. A record is one under its own name only: a copy of it, and what somebody else has marked
/// like one, are none.
async fn records<K>(api: &Api<K>, platform: &str, selector: &str, kind: RecordKind) -> Result<Vec<Record>>
where
    K: Shelf + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let objects = list::all(api, selector).await?;
    let found = objects.iter().filter_map(|object| record(object, platform, kind).transpose());
    let mut records = found.collect::<Result<Vec<Record>>>()?;
    records.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(records)
}

/// The record that an object holds, if it holds one.
fn record<K: Shelf + Resource>(object: &K, platform: &str, kind: RecordKind) -> Result<Option<Record>> {
    let Some(key) = key(object.meta(), platform, kind)? else { return Ok(None) };
    Ok(Some(Record { key, value: object.value(), version: version(object)? }))
}

/// The key of the record that an object holds, if it holds one.
///
/// # Errors
/// `Internal` where it has the name of a record and is marked as none, or as another: it cannot be told which.
fn key(meta: &ObjectMeta, platform: &str, kind: RecordKind) -> Result<Option<Key>> {
    let found = meta.name.as_deref().unwrap_or_default();
    let key = shelf::key(meta, kind);
    if key.as_ref().is_ok_and(|key| name(platform, key) == found) {
        return key.map(Some);
    }
    if !is_name(kind, found) {
        return Ok(None);
    }
    let spoilt = "the labels or annotations of a record were changed: put them back";
    let error = Error::internal(spoilt).with("name", found);
    Err(match key {
        Ok(other) => error.with("marked as", other),
        Err(cause) => error.with_source(cause),
    })
}

/// What a watch tells; `None` of what is no record.
fn told<K: Shelf + Resource>(change: &Change<K>, platform: &str, kind: RecordKind) -> Option<RecordChange> {
    let told = match change {
        Change::Put(object) => record(object, platform, kind).map(|record| record.map(RecordChange::Put)),
        Change::Deleted(object) => {
            key(object.meta(), platform, kind).map(|key| key.map(RecordChange::Deleted))
        }
        Change::Reset => Ok(Some(RecordChange::Reset)),
    };
    // Somebody has spoilt one: whoever lists is told.
    told.unwrap_or(Some(RecordChange::Reset))
}

#[async_trait]
impl Backend for KubeStateStore {
    fn name(&self) -> &'static str {
        "kubernetes"
    }

    async fn check(&self) -> Result<()> {
        self.connection.check().await
    }
}

#[async_trait]
impl StateStore for KubeStateStore {
    async fn get(&self, scope: &Scope, key: &Key) -> Result<Option<Record>> {
        self.fence.see(scope);
        shelved!(self, key.kind, |api| {
            let found = api
                .get_opt(&name(self.connection.platform(), key))
                .await
                .map_err(|cause| failed(cause, "read a record"));
            let platform = self.connection.platform();
            found.and_then(|object| object.map_or(Ok(None), |object| record(&object, platform, key.kind)))
        })
        .map_err(|error| about(error, key))
    }

    async fn put(&self, scope: &Scope, key: &Key, value: Bytes, expected: Expected) -> Result<Version> {
        self.fence.admit(scope)?;
        if value.len() > limit::STATE_VALUE {
            return Err(Error::invalid("the value is too long")
                .with("key", key)
                .with("bytes", value.len())
                .with("longest", limit::STATE_VALUE));
        }
        let platform = self.connection.platform();
        shelved!(self, key.kind, |api| put(&api, platform, key, &value, expected).await)
            .map_err(|error| about(error, key))
    }

    async fn delete(&self, scope: &Scope, key: &Key, expected: Version) -> Result<()> {
        self.fence.admit(scope)?;
        shelved!(self, key.kind, |api| delete(&api, self.connection.platform(), key, expected).await)
            .map_err(|error| about(error, key))
    }

    async fn list(&self, scope: &Scope, kind: RecordKind, tenant: Option<TenantId>) -> Result<Vec<Record>> {
        self.fence.see(scope);
        let selector = self.selector(kind, tenant.as_ref());
        shelved!(self, kind, |api| records(&api, self.connection.platform(), &selector, kind).await)
    }

    async fn watch(
        &self,
        scope: &Scope,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<BoxStream<'static, RecordChange>> {
        self.fence.see(scope);
        let selector = self.selector(kind, tenant.as_ref());
        shelved!(self, kind, |api| {
            let changes = watch::changes(Objects(api), selector).await?;
            let platform = self.connection.platform().to_owned();
            let records = move |change| std::future::ready(told(&change, &platform, kind));
            Ok(changes.filter_map(records).boxed())
        })
    }
}

#[cfg(test)]
mod tests;
