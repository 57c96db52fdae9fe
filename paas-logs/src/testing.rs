//! What tests of this crate share.

use paas_core::model::{InstanceId, LogOrigin, LogRules, LogStream, Resource, RevisionNumber};

/// The output of an instance of one service.
pub(crate) fn origin_of(instance: &str) -> LogOrigin {
    let ids =
        ("t-1".parse().unwrap(), "e-1".parse().unwrap(), "a-1".parse().unwrap(), "s-1".parse().unwrap());
    let service = Resource::Service(ids.0, ids.1, ids.2, ids.3);
    let instance = InstanceId::new(instance).unwrap();
    LogOrigin::new(&service, RevisionNumber(1), instance, LogStream::Stdout).unwrap()
}

pub(crate) fn origin() -> LogOrigin {
    origin_of("i-1")
}

/// Rules as JSON.
pub(crate) fn rules(json: &str) -> LogRules {
    serde_json::from_str(json).unwrap()
}
