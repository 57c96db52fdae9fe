//! The engine's records in the state store, typed.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::record::{AppRecord, SCHEMA};
use crate::model::{
    AppId, AppName, Digest, Environment, EnvironmentId, EnvironmentName, Key, Operation, OperationId, Record,
    RecordKind, Revision, Scope, Tenant, TenantId, TenantName, Version,
};
use crate::port::{Expected, StateStore};
use crate::{Error, ErrorKind, Result};

pub(crate) const APP: RecordKind = RecordKind::new("app");
pub(crate) const REVISION: RecordKind = RecordKind::new("revision");
pub(crate) const OPERATION: RecordKind = RecordKind::new("operation");
pub(crate) const TENANT: RecordKind = RecordKind::new("tenant");
pub(crate) const ENVIRONMENT: RecordKind = RecordKind::new("environment");
pub(crate) const NAME: RecordKind = RecordKind::new("name");
pub(crate) const DOMAIN: RecordKind = RecordKind::new("domain");
pub(crate) const LOG_CREDENTIAL: RecordKind = RecordKind::new("logcredential");
pub(crate) const LEASE: RecordKind = RecordKind::new("lease");

/// How often a compare-and-swap is tried again before the caller is told to.
pub(crate) const RACES: usize = 32;

/// Somebody else was faster that often.
pub(crate) fn contended(key: &Key) -> Error {
    Error::unavailable("a record is being changed too often; try again").with("key", key)
}

/// A value and the version it was read at.
#[derive(Clone, Debug)]
pub(crate) struct Versioned<T> {
    pub(crate) value: T,
    pub(crate) version: Version,
}

/// What a record holds: a version of the format beside the value.
#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    schema: u32,
    value: T,
}

#[derive(Deserialize)]
struct SchemaOnly {
    schema: u32,
}

/// Who owns a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DomainClaim {
    pub(crate) tenant: TenantId,
    pub(crate) app: AppId,
}

/// What became of a record that was to have some value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// There was none; it has this version.
    Made(Version),
    /// It had the value before.
    Renewed,
    /// It has another.
    Taken,
}

/// Typed access to a state store, with the engine's own scope.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    pub(crate) state: Arc<dyn StateStore>,
    pub(crate) scope: Scope,
}

fn encode<T: Serialize>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(&Envelope { schema: SCHEMA, value })
        .map(Bytes::from)
        .map_err(|cause| Error::internal("a record cannot be written as JSON").with_source(cause))
}

pub(crate) fn decode<T: DeserializeOwned>(record: &Record) -> Result<T> {
    let broken =
        |cause| Error::internal("a record cannot be read").with("key", &record.key).with_source(cause);
    let SchemaOnly { schema } = serde_json::from_slice(&record.value).map_err(broken)?;
    if schema > SCHEMA {
        return Err(Error::invalid(
            "a record was written by a newer release; run that release, or a later one",
        )
        .with("key", &record.key)
        .with("its format", schema)
        .with("known format", SCHEMA));
    }
    let Envelope { value, .. } = serde_json::from_slice(&record.value).map_err(broken)?;
    Ok(value)
}

impl Store {
    pub(crate) async fn get<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<Versioned<T>>> {
        let Some(record) = self.state.get(&self.scope, key).await? else { return Ok(None) };
        Ok(Some(Versioned { value: decode(&record)?, version: record.version }))
    }

    pub(crate) async fn put<T: Serialize>(
        &self,
        key: &Key,
        value: &T,
        expected: Expected,
    ) -> Result<Version> {
        self.state.put(&self.scope, key, encode(value)?, expected).await
    }

    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        kind: RecordKind,
        tenant: Option<TenantId>,
    ) -> Result<Vec<T>> {
        self.state.list(&self.scope, kind, tenant).await?.iter().map(decode).collect()
    }

    /// Creates a record unless there is one; gives the one that is there.
    pub(crate) async fn claim<T: Serialize + DeserializeOwned>(&self, key: &Key, value: T) -> Result<T> {
        for _ in 0..RACES {
            if let Some(known) = self.get::<T>(key).await? {
                return Ok(known.value);
            }
            match self.put(key, &value, Expected::Absent).await {
                Ok(_) => return Ok(value),
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
            }
        }
        Err(contended(key))
    }

    pub(crate) async fn delete(&self, key: &Key) -> Result<()> {
        match self.state.get(&self.scope, key).await? {
            Some(record) => self.state.delete(&self.scope, key, record.version).await,
            None => Ok(()),
        }
    }

    /// Deletes a record as long as it has this version.
    pub(crate) async fn delete_version(&self, key: &Key, version: Version) -> Result<()> {
        self.state.delete(&self.scope, key, version).await
    }

    /// Deletes a record if it still has this version: whoever has written to it since has it stay.
    pub(crate) async fn delete_unchanged(&self, key: &Key, version: Version) -> Result<()> {
        match self.delete_version(key, version).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }

    /// Deletes a record if its value is as told.
    pub(crate) async fn delete_where<T: DeserializeOwned>(
        &self,
        key: &Key,
        is_so: impl FnOnce(&T) -> bool,
    ) -> Result<()> {
        match self.get::<T>(key).await? {
            Some(found) if is_so(&found.value) => self.state.delete(&self.scope, key, found.version).await,
            _ => Ok(()),
        }
    }

    pub(crate) async fn app(&self, tenant: &TenantId, id: &AppId) -> Result<Option<Versioned<AppRecord>>> {
        self.get(&app_key(tenant, id)?).await
    }

    pub(crate) async fn put_app(&self, app: &AppRecord, expected: Expected) -> Result<Version> {
        self.put(&app_key(&app.tenant, &app.id)?, app, expected).await
    }

    /// Whether an app's record has its name.
    pub(crate) async fn is_named(&self, app: &AppRecord) -> Result<bool> {
        let named = self.get::<AppId>(&app_name_key(&app.tenant, &app.environment, &app.name)?).await?;
        Ok(named.is_some_and(|named| named.value == app.id))
    }

    /// What can be read of a kind; the rest is told, and stands in nobody's way.
    pub(crate) async fn list_readable<T: DeserializeOwned>(
        &self,
        kind: RecordKind,
    ) -> Result<(Vec<Versioned<T>>, usize)> {
        let records = self.state.list(&self.scope, kind, None).await?;
        let (mut readable, mut broken) = (Vec::new(), 0);
        for record in &records {
            match decode(record) {
                Ok(value) => readable.push(Versioned { value, version: record.version }),
                Err(error) => {
                    tracing::error!(key = %record.key, ?error, "a record is passed over");
                    broken += 1;
                }
            }
        }
        Ok((readable, broken))
    }

    /// Makes a record with this value, or gives the one that has it a new version: it is about to be referred to, so nobody
    /// who has seen it as garbage may take it for that any more.
    pub(crate) async fn renew<T>(&self, key: &Key, value: &T) -> Result<Renewal>
    where
        T: Serialize + DeserializeOwned + PartialEq,
    {
        let mut expected = Expected::Absent;
        for _ in 0..RACES {
            match self.put(key, value, expected).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => return Err(error),
                Ok(version) if expected == Expected::Absent => return Ok(Renewal::Made(version)),
                Ok(_) => return Ok(Renewal::Renewed),
            }
            expected = match self.get::<T>(key).await? {
                None => Expected::Absent,
                Some(known) if known.value == *value => Expected::Version(known.version),
                Some(_) => return Ok(Renewal::Taken),
            };
        }
        Err(contended(key))
    }

    pub(crate) async fn revision(&self, tenant: &TenantId, app: &AppId, digest: &Digest) -> Result<Revision> {
        let key = revision_key(tenant, app, digest)?;
        let found = self.get(&key).await?;
        found
            .map(|found| found.value)
            .ok_or_else(|| Error::internal("a kept revision is missing").with("key", key))
    }

    /// Keeps an operation that has ended. Idempotent.
    pub(crate) async fn archive(&self, operation: &Operation) -> Result<()> {
        let key = operation_key(&operation.tenant, &operation.id)?;
        match self.put(&key, operation, Expected::Absent).await {
            Err(error) if error.kind() != ErrorKind::Conflict => Err(error),
            _ => Ok(()),
        }
    }
}

pub(crate) fn app_key(tenant: &TenantId, id: &AppId) -> Result<Key> {
    Key::new(APP, Some(tenant.clone()), id.as_str())
}

pub(crate) fn revision_key(tenant: &TenantId, app: &AppId, digest: &Digest) -> Result<Key> {
    Key::new(REVISION, Some(tenant.clone()), format!("{app}/{digest}"))
}

pub(crate) fn operation_key(tenant: &TenantId, id: &OperationId) -> Result<Key> {
    Key::new(OPERATION, Some(tenant.clone()), id.as_str())
}

pub(crate) fn tenant_key(id: &TenantId) -> Result<Key> {
    Key::new(TENANT, None, id.as_str())
}

pub(crate) fn tenant_name_key(name: &TenantName) -> Result<Key> {
    Key::new(NAME, None, name.as_str())
}

pub(crate) fn environment_key(environment: &Environment) -> Result<Key> {
    Key::new(ENVIRONMENT, Some(environment.tenant.clone()), environment.id.as_str())
}

pub(crate) fn environment_name_key(tenant: &TenantId, name: &EnvironmentName) -> Result<Key> {
    Key::new(NAME, Some(tenant.clone()), format!("environment/{name}"))
}

pub(crate) fn app_name_key(tenant: &TenantId, environment: &EnvironmentId, name: &AppName) -> Result<Key> {
    Key::new(NAME, Some(tenant.clone()), format!("app/{environment}/{name}"))
}

pub(crate) fn domain_key(domain: &crate::model::Domain) -> Result<Key> {
    // Paths may hold characters that keys do not; a digest of the whole name stands in for them.
    Key::new(DOMAIN, None, format!("{}/{}", domain.host, Digest::of(&domain.path)))
}

/// A credential is found by its token, so it is no tenant's key.
pub(crate) fn log_credential_key(token: &Digest) -> Result<Key> {
    Key::new(LOG_CREDENTIAL, None, token.as_str())
}

pub(crate) fn lease_key() -> Result<Key> {
    Key::new(LEASE, None, "leader")
}

/// A tenant by its name, made when there is none.
pub(crate) async fn ensure_tenant(store: &Store, wanted: Tenant) -> Result<Tenant> {
    let id: TenantId = store.claim(&tenant_name_key(&wanted.name)?, wanted.id.clone()).await?;
    store.claim(&tenant_key(&id)?, Tenant { id: id.clone(), ..wanted }).await
}

/// An environment of a tenant by its name, made when there is none.
pub(crate) async fn ensure_environment(store: &Store, wanted: Environment) -> Result<Environment> {
    let id = store.claim(&environment_name_key(&wanted.tenant, &wanted.name)?, wanted.id.clone()).await?;
    let environment = Environment { id, ..wanted };
    store.claim(&environment_key(&environment)?, environment).await
}
