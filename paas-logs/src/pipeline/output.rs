//! Outputs, and where they are read up to.

use std::collections::HashMap;

use paas_core::model::{InstanceId, LogOrigin, LogPosition, LogStream};

/// Where outputs are read up to.
pub(super) type Outputs = HashMap<(InstanceId, LogStream), LogPosition>;

/// Where outputs are stored up to.
pub(super) fn stored(ends: Vec<(LogOrigin, LogPosition)>) -> Outputs {
    ends.into_iter().map(|(origin, end)| ((origin.instance, origin.stream), end)).collect()
}

/// What a source is asked for, to go on there.
pub(super) fn after(ends: Outputs) -> Vec<(InstanceId, LogStream, LogPosition)> {
    ends.into_iter().map(|((instance, stream), end)| (instance, stream, end)).collect()
}
