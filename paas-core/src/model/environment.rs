//! Stages of a tenant's apps: the same app file in `staging` is another app of the same name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::{EnvironmentId, TenantId};
use super::name::{EnvironmentName, ServiceName};
use super::release::Release;
use super::service::{Domain, Limits, Scalar, ServiceSpec};

/// An environment of a tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Environment {
    /// Its id, never reused.
    pub id: EnvironmentId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What people call it.
    pub name: EnvironmentName,
}

impl Environment {
    /// An environment.
    #[must_use]
    pub fn new(id: EnvironmentId, tenant: TenantId, name: EnvironmentName) -> Self {
        Self { id, tenant, name }
    }
}

/// What differs in one environment.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EnvironmentOverlay {
    /// What differs, by service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<ServiceName, ServiceOverlay>,
}

/// What differs for one service. What is given replaces the base; `env` is merged by variable and `limits` by kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ServiceOverlay {
    /// How many instances a new service starts with.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::form::maybe_replicas"
    )]
    #[schemars(range(max = 1_000))]
    pub replicas: Option<u32>,
    /// Variables that are added or replaced.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, Scalar>,
    /// How much an instance may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// The public names it is reached under.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::form::maybe_one_or_many"
    )]
    #[schemars(schema_with = "super::service::domains")]
    pub domain: Option<Vec<Domain>>,
    /// How a new revision takes over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

impl ServiceOverlay {
    /// Lays the difference over a service.
    pub(crate) fn apply(&self, service: &mut ServiceSpec) {
        let Self { replicas, env, limits, domain, release } = self.clone();
        service.replicas = replicas.unwrap_or(service.replicas);
        service.env.extend(env);
        if let Some(limits) = limits {
            service.limits.cpu = limits.cpu.or(service.limits.cpu);
            service.limits.memory = limits.memory.or(service.limits.memory);
        }
        service.domain = domain.unwrap_or_else(|| std::mem::take(&mut service.domain));
        service.release = release.or(service.release.take());
    }
}

impl schemars::JsonSchema for Domain {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Domain".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "description": "a public name like shop.example.com/api" })
    }
}
