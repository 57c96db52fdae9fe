//! What somebody is told.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::id::{AppId, EnvironmentId, InstanceId, ServiceId, TenantId};
use super::name::{AppName, EnvironmentName, ServiceName, TenantName};
use super::quantity::duration;
use super::scope::Resource;
use super::time::Timestamp;

/// Which lines are counted together, and by which rule: as long as that stays as it is, so does this.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AlertKey {
    /// Whose app it is.
    pub tenant: TenantId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// The app.
    pub app: AppId,
    /// The service, unless lines of all are counted together.
    pub service: Option<ServiceId>,
    /// The instance, where lines of each are counted for themselves.
    pub instance: Option<InstanceId>,
    /// A digest of the rule.
    pub rule: String,
}

/// An alert as it is raised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Alert {
    /// The same for the same line, whoever counts it again.
    pub id: String,
    /// When the line was written that made it one.
    pub at: Timestamp,
    /// Who is told.
    pub notify: String,
    /// The query.
    pub query: String,
    /// How many lines matched.
    pub count: u32,
    /// In which length of time.
    #[serde(with = "duration")]
    pub within: Duration,
    /// How many more lines matched since the last alert of the rule, while nobody was told.
    pub held_back: u64,
    /// Some of the lines, the last of which made it an alert.
    pub lines: Vec<AlertLine>,
}

/// A line that an alert is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AlertLine {
    /// When it was written.
    pub time: Timestamp,
    /// By which instance.
    pub instance: InstanceId,
    /// Lines of the same output before it.
    pub before: Vec<String>,
    /// The line, cut where it is long.
    pub line: String,
}

/// What somebody is told: an alert, and what it is about in the words of people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Notification {
    /// Whose app it is.
    pub tenant: TenantName,
    /// Its environment.
    pub environment: EnvironmentName,
    /// The app.
    pub app: AppName,
    /// The service, unless lines of all are counted together.
    pub service: Option<ServiceName>,
    /// The instance, where lines of each are counted for themselves.
    pub instance: Option<InstanceId>,
    /// The alert.
    pub alert: Alert,
}

impl AlertKey {
    /// Lines of an app by a rule.
    #[must_use]
    pub fn new(tenant: TenantId, environment: EnvironmentId, app: AppId, rule: String) -> Self {
        Self { tenant, environment, app, service: None, instance: None, rule }
    }

    /// What the lines are of.
    #[must_use]
    pub fn resource(&self) -> Resource {
        let (tenant, environment, app) = (self.tenant.clone(), self.environment.clone(), self.app.clone());
        match &self.service {
            Some(service) => Resource::Service(tenant, environment, app, service.clone()),
            None => Resource::App(tenant, environment, app),
        }
    }
}

impl Alert {
    /// An alert of one line.
    #[must_use]
    pub fn new(id: String, at: Timestamp, notify: String, query: String) -> Self {
        let (count, within, held_back, lines) = (1, Duration::ZERO, 0, Vec::new());
        Self { id, at, notify, query, count, within, held_back, lines }
    }
}

impl Notification {
    /// An alert of an app.
    #[must_use]
    pub fn new(tenant: TenantName, environment: EnvironmentName, app: AppName, alert: Alert) -> Self {
        Self { tenant, environment, app, service: None, instance: None, alert }
    }
}

impl AlertLine {
    /// A line without those before it.
    #[must_use]
    pub fn new(time: Timestamp, instance: InstanceId, line: String) -> Self {
        Self { time, instance, before: Vec::new(), line }
    }
}
