//! Tells whose output a process's is.

use std::sync::{Arc, Weak};

use paas_core::model::{InstanceId, LogOrigin, LogStream};

use super::Inner;

/// A look into the instance table.
#[derive(Debug, Clone)]
pub(crate) struct Origins(Weak<Inner>);

impl Origins {
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self(Arc::downgrade(inner))
    }

    /// The origin of what an instance writes; `None` for a process that is none, or is forgotten.
    pub(crate) fn of(&self, process: &str, stream: LogStream) -> Option<LogOrigin> {
        let id = InstanceId::new(process).ok()?;
        let inner = self.0.upgrade()?;
        let mut pool = inner.pool();
        let note = &pool.instance(&id)?.note;
        LogOrigin::new(&note.key.resource(), note.revision, id, stream)
    }
}
