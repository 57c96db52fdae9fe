//! Whose output there is to read, for who reads it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use paas_core::Result;
use paas_core::model::{InstanceId, LogOrigin, LogStream, Resource, Scope};
use paas_core::port::Hints;

pub(crate) use super::pod::Output;

use super::KubeScheduler;
use super::cache::Cache;
use super::manifest::CONTAINER;
use crate::Connection;
use crate::error::failed;
use crate::watch::in_time;

/// A look at the pods that the watches tell of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outputs(Arc<Cache>);

/// An instance that writes, has written or will write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// What tells the pod from others, where the next one has the same name.
    pub(crate) uid: Option<String>,
    pub(crate) container: &'static str,
    pub(crate) origin: LogOrigin,
    pub(crate) output: Output,
}

impl KubeScheduler {
    pub(crate) fn outputs(&self) -> Outputs {
        Outputs(Arc::clone(&self.cache))
    }
}

impl Writer {
    /// Whether the pod's name stands for it still.
    pub(crate) async fn is_there(&self, connection: &Connection) -> Result<bool> {
        let Some(uid) = &self.uid else { return Ok(true) };
        is_there(connection, &self.namespace, &self.pod, uid).await
    }
}

/// Whether a pod's name stands for the one with this uid: the pods of a StatefulSet follow each other under one name.
///
/// Asked after the output was opened, or a command was begun, it tells whose that is. It needs no right that following pods
/// does not need.
pub(super) async fn is_there(connection: &Connection, namespace: &str, pod: &str, uid: &str) -> Result<bool> {
    let pods = connection.within::<Pod>(namespace);
    let only = ListParams::default().fields(&format!("metadata.name={pod}"));
    let found = in_time(pods.list_metadata(&only)).await;
    let found = found.map_err(|cause| failed(cause, "look for a pod").with("pod", pod))?;
    Ok(found.iter().any(|own| own.metadata.uid.as_deref() == Some(uid)))
}

impl Outputs {
    /// All within a resource, or one of them.
    pub(crate) fn within(&self, resource: &Resource, only: Option<&InstanceId>) -> Vec<Writer> {
        let all = self.0.with_revision(resource).into_iter();
        let selected = all.filter(|(own, _)| only.is_none_or(|only| *only == own.status.id));
        selected
            .filter_map(|(own, revision)| {
                let uid = own.shares_name().then(|| own.uid.clone());
                // The kubelet does not say which of the two a line was written to.
                let stream = LogStream::Combined;
                let origin = LogOrigin::new(&own.key.resource(), revision, own.status.id, stream)?;
                let (namespace, pod, output) = (own.namespace, own.pod, own.output);
                Some(Writer { namespace, pod, uid, container: CONTAINER, origin, output })
            })
            .collect()
    }

    /// Tells of changes within a scope.
    pub(crate) fn hints(&self, scope: &Scope) -> Hints {
        self.0.feed.hints(scope)
    }
}
