//! The platform's records, as objects of its namespace.

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{DeleteParams, PostParams, Preconditions};
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

/// The name of a record's object: ids may have characters and lengths that names must not have.
fn name(platform: &str, key: &Key) -> String {
    format!("{}-{}", key.kind.as_str(), label::digest(&format!("{platform}/{key}"), 40))
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
            // A record that is missing has no version at all.
            Err(if error.kind() == ErrorKind::NotFound {
                Error::conflict("the record has another version").with_source(error)
            } else {
                error
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

async fn records<K>(api: &Api<K>, selector: &str, kind: RecordKind) -> Result<Vec<Record>>
where
    K: Shelf + Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let objects = list::all(api, selector).await?;
    let mut records = objects.iter().map(|object| record(object, kind)).collect::<Result<Vec<Record>>>()?;
    records.sort_by(|a, b| a.key.cmp(&b.key));
    Ok(records)
}

fn record<K: Shelf + Resource>(object: &K, kind: RecordKind) -> Result<Record> {
    Ok(Record { key: shelf::key(object.meta(), kind)?, value: object.value(), version: version(object)? })
}

fn told<K: Shelf + Resource>(change: &Change<K>, kind: RecordKind) -> RecordChange {
    let told = match change {
        Change::Put(object) => record(object, kind).map(RecordChange::Put),
        Change::Deleted(object) => shelf::key(object.meta(), kind).map(RecordChange::Deleted),
        Change::Reset => Ok(RecordChange::Reset),
    };
    // Somebody wrote what is no record: whoever lists is told.
    told.unwrap_or(RecordChange::Reset)
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
            found.and_then(|object| object.as_ref().map(|object| record(object, key.kind)).transpose())
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
        shelved!(self, kind, |api| records(&api, &selector, kind).await)
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
            Ok(changes.map(move |change| told(&change, kind)).boxed())
        })
    }
}
