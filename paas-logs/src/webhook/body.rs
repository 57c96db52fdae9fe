//! What a call says.

use bytes::Bytes;
use paas_core::model::{
    AlertLine, AppName, EnvironmentName, InstanceId, Notification, ServiceName, TenantName, Timestamp,
    quantity,
};
use paas_core::{Error, Result};
use serde::Serialize;

/// What a call is about; there is nothing else yet.
const RAISED: &str = "alert.raised";

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'static str,
    timestamp: Timestamp,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    id: &'a str,
    tenant: &'a TenantName,
    environment: &'a EnvironmentName,
    app: &'a AppName,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a ServiceName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<&'a InstanceId>,
    notify: &'a str,
    query: &'a str,
    count: u32,
    #[serde(with = "quantity::duration")]
    within: std::time::Duration,
    held_back: u64,
    lines: &'a [AlertLine],
}

/// A notification in JSON.
pub(super) fn of(notification: &Notification) -> Result<Bytes> {
    let alert = &notification.alert;
    let data = Data {
        id: &alert.id,
        tenant: &notification.tenant,
        environment: &notification.environment,
        app: &notification.app,
        service: notification.service.as_ref(),
        instance: notification.instance.as_ref(),
        notify: &alert.notify,
        query: &alert.query,
        count: alert.count,
        within: alert.within,
        held_back: alert.held_back,
        lines: &alert.lines,
    };
    let body = Body { r#type: RAISED, timestamp: alert.at, data };
    let written = serde_json::to_vec(&body).map(Bytes::from);
    written.map_err(|cause| Error::internal("an alert cannot be written as JSON").with_source(cause))
}
