//! How an object holds a record.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use paas_core::model::{Key, RecordKind, TenantId};
use paas_core::port::Expected;
use paas_core::{Error, Result};

use crate::label;

/// The id of the record, as it is.
const ID: &str = "paas-sdk.dev/id";
/// The version that the record had before: makes every write a change, as the API server takes an equal object for none.
const AFTER: &str = "paas-sdk.dev/after";
/// The value of a record that a Lease holds.
const VALUE: &str = "paas-sdk.dev/value";
/// The value of any other record.
const DATA: &str = "value";

/// An object that holds a record.
pub(super) trait Shelf: Sized {
    /// The object of a record with this value.
    fn holding(platform: &str, name: &str, key: &Key, value: &Bytes, expected: Expected) -> Result<Self>;

    /// The record's value.
    fn value(&self) -> Bytes;
}

fn meta(platform: &str, name: &str, key: &Key, expected: Expected) -> ObjectMeta {
    let mut labels = label::ours(platform);
    labels.insert(label::KIND.into(), key.kind.as_str().into());
    if let Some(tenant) = &key.tenant {
        labels.insert(label::TENANT.into(), tenant.to_string());
    }
    let mut annotations = BTreeMap::from([(ID.to_owned(), key.id.to_string())]);
    let version = match expected {
        Expected::Absent => None,
        Expected::Version(version) => Some(version.0.to_string()),
    };
    annotations.extend(version.clone().map(|version| (AFTER.to_owned(), version)));
    ObjectMeta {
        name: Some(name.to_owned()),
        labels: Some(labels),
        annotations: Some(annotations),
        resource_version: version,
        ..ObjectMeta::default()
    }
}

/// The key of the record that an object is marked with.
pub(super) fn key(meta: &ObjectMeta, kind: RecordKind) -> Result<Key> {
    let foreign = || {
        Error::internal("an object that is marked as a record is none")
            .with("name", meta.name.as_deref().unwrap_or_default())
    };
    let id = meta.annotations.as_ref().and_then(|own| own.get(ID)).ok_or_else(foreign)?;
    let tenant =
        meta.labels.as_ref().and_then(|own| own.get(label::TENANT)).map(TenantId::new).transpose()?;
    Key::new(kind, tenant, id)
}

impl Shelf for ConfigMap {
    fn holding(platform: &str, name: &str, key: &Key, value: &Bytes, expected: Expected) -> Result<Self> {
        let data = BTreeMap::from([(DATA.to_owned(), ByteString(value.to_vec()))]);
        Ok(Self { metadata: meta(platform, name, key, expected), binary_data: Some(data), ..Self::default() })
    }

    fn value(&self) -> Bytes {
        let data = self.binary_data.as_ref().and_then(|data| data.get(DATA));
        data.map(|bytes| Bytes::copy_from_slice(&bytes.0)).unwrap_or_default()
    }
}

impl Shelf for Lease {
    /// The value is a text; what people look for in a lease is shown where they look for it.
    fn holding(platform: &str, name: &str, key: &Key, value: &Bytes, expected: Expected) -> Result<Self> {
        let text = std::str::from_utf8(value)
            .map_err(|cause| Error::invalid("a lease is text").with("key", key).with_source(cause))?;
        let mut metadata = meta(platform, name, key, expected);
        metadata.annotations.get_or_insert_default().insert(VALUE.to_owned(), text.to_owned());
        let stored: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        let shown = &stored["value"];
        let holder = shown["holder"].as_str().filter(|holder| !holder.is_empty()).map(str::to_owned);
        let transitions = shown["epoch"].as_u64().and_then(|epoch| i32::try_from(epoch).ok());
        let spec =
            LeaseSpec { holder_identity: holder, lease_transitions: transitions, ..LeaseSpec::default() };
        Ok(Self { metadata, spec: Some(spec) })
    }

    fn value(&self) -> Bytes {
        let text = self.metadata.annotations.as_ref().and_then(|own| own.get(VALUE));
        text.map(|text| Bytes::copy_from_slice(text.as_bytes())).unwrap_or_default()
    }
}
