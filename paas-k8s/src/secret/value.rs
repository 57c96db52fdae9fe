//! How a value goes to the API server and comes back.
//!
//! The client's typed calls log an answer that they cannot read, whole. So values are sent and read as text here, which
//! is cleared after, and no error says what was in it.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret as Object;
use kube::Resource;
use kube::api::{GetParams, ObjectMeta, PostParams};
use kube::core::Request;
use paas_core::model::Secret;
use paas_core::{Error, Result};
use serde::Deserialize;
use zeroize::{Zeroize, Zeroizing};

use crate::error::failed;
use crate::{Connection, label};

/// Under which key an object holds the value.
const DATA: &str = "value";

/// What is read of an object.
#[derive(Deserialize)]
struct Held {
    #[serde(default)]
    data: BTreeMap<String, ByteString>,
}

/// What is read of an object that was made.
#[derive(Deserialize)]
struct Made {
    metadata: ObjectMeta,
}

/// Writes a value as a new object of the platform's own.
pub(super) async fn create(connection: &Connection, meta: ObjectMeta, value: &Secret) -> Result<()> {
    create_in(connection, connection.namespace(), meta, [(DATA.to_owned(), value)]).await.map(drop)
}

/// Writes values, by their keys, as a new object, and gives its metadata.
pub(crate) async fn create_in<'a>(
    connection: &Connection,
    namespace: &str,
    meta: ObjectMeta,
    values: impl IntoIterator<Item = (String, &'a Secret)>,
) -> Result<ObjectMeta> {
    let body = body(meta, values)?;
    let url = Object::url_path(&(), Some(namespace));
    let params = PostParams { field_manager: Some(label::MANAGER.into()), ..PostParams::default() };
    let request = Request::new(url).create(&params, body).map_err(|_| unsent())?;
    let text = connection.client().request_text(request).await.map_err(silent("write a secret"))?;
    made(&Zeroizing::new(text))
}

/// The metadata of an object that was made; its values are passed over.
fn made(text: &str) -> Result<ObjectMeta> {
    // A cause would quote what it stumbled over.
    let made: Made = serde_json::from_str(text).map_err(|_| unreadable())?;
    Ok(made.metadata)
}

/// The value that an object holds.
pub(super) async fn read(connection: &Connection, name: &str) -> Result<Secret> {
    let url = Object::url_path(&(), Some(connection.namespace()));
    let request = Request::new(url).get(name, &GetParams::default()).map_err(|_| unsent())?;
    let text = connection.client().request_text(request).await.map_err(silent("read a secret"))?;
    value(&Zeroizing::new(text))
}

pub(super) fn body<'a>(
    meta: ObjectMeta,
    values: impl IntoIterator<Item = (String, &'a Secret)>,
) -> Result<Vec<u8>> {
    let held = values.into_iter().map(|(key, value)| (key, ByteString(value.expose().to_vec())));
    let data: BTreeMap<String, ByteString> = held.collect();
    let mut object = Object { metadata: meta, immutable: Some(true), data: Some(data), ..Object::default() };
    let body = serde_json::to_vec(&object).map_err(|_| unsent());
    object.data.iter_mut().flat_map(BTreeMap::values_mut).for_each(|bytes| bytes.0.zeroize());
    body
}

pub(super) fn value(text: &str) -> Result<Secret> {
    // A cause would quote what it stumbled over.
    let mut held: Held = serde_json::from_str(text).map_err(|_| unreadable())?;
    let bytes = held.data.remove(DATA).ok_or_else(unreadable)?;
    held.data.values_mut().for_each(|other| other.0.zeroize());
    Secret::new(bytes.0)
}

fn unreadable() -> Error {
    Error::internal("the object of a secret cannot be read")
}

fn unsent() -> Error {
    Error::internal("the request for a secret cannot be made")
}

/// What went wrong, without what was in an answer that cannot be read.
fn silent(what: &'static str) -> impl Fn(kube::Error) -> Error {
    move |cause| match cause {
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => {
            Error::internal("the API server's answer cannot be read").with("to", what)
        }
        other => failed(other, what),
    }
}
