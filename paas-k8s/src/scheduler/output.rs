//! Whose output there is to read, for who reads it.

use std::sync::Arc;

use paas_core::model::{InstanceId, LogOrigin, LogStream, Resource, Scope};
use paas_core::port::Hints;

pub(crate) use super::pod::Output;

use super::KubeScheduler;
use super::cache::Cache;
use super::manifest::CONTAINER;

/// A look at the pods that the watches tell of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outputs(Arc<Cache>);

/// An instance that writes, has written or will write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Writer {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    pub(crate) container: &'static str,
    pub(crate) origin: LogOrigin,
    pub(crate) output: Output,
}

impl KubeScheduler {
    pub(crate) fn outputs(&self) -> Outputs {
        Outputs(Arc::clone(&self.cache))
    }
}

impl Outputs {
    /// All within a resource, or one of them.
    pub(crate) fn within(&self, resource: &Resource, only: Option<&InstanceId>) -> Vec<Writer> {
        let all = self.0.with_revision(resource).into_iter();
        let selected = all.filter(|(own, _)| only.is_none_or(|only| *only == own.status.id));
        selected
            .filter_map(|(own, revision)| {
                // The kubelet does not say which of the two a line was written to.
                let stream = LogStream::Combined;
                let origin = LogOrigin::new(&own.key.resource(), revision, own.status.id, stream)?;
                let (namespace, pod, output) = (own.namespace, own.pod, own.output);
                Some(Writer { namespace, pod, container: CONTAINER, origin, output })
            })
            .collect()
    }

    /// Tells of changes within a scope.
    pub(crate) fn hints(&self, scope: &Scope) -> Hints {
        self.0.feed.hints(scope)
    }
}
