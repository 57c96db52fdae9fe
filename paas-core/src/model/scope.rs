//! What a call may touch. Code that holds no scope cannot call a port.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::{AppId, EnvironmentId, ServiceId, TenantId};
use super::principal::Principal;
use crate::{Error, ErrorKind, Result};

/// What an action is done to. Each contains those below it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// All of the platform.
    Platform,
    /// A tenant.
    Tenant(TenantId),
    /// An environment of a tenant.
    Environment(TenantId, EnvironmentId),
    /// An app.
    App(TenantId, EnvironmentId, AppId),
    /// A service.
    Service(TenantId, EnvironmentId, AppId, ServiceId),
}

impl Resource {
    /// The tenant it belongs to.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::Platform => None,
            Self::Tenant(tenant)
            | Self::Environment(tenant, _)
            | Self::App(tenant, ..)
            | Self::Service(tenant, ..) => Some(tenant),
        }
    }

    fn path(&self) -> [Option<&str>; 4] {
        match self {
            Self::Platform => [None; 4],
            Self::Tenant(t) => [Some(t.as_str()), None, None, None],
            Self::Environment(t, e) => [Some(t.as_str()), Some(e.as_str()), None, None],
            Self::App(t, e, a) => [Some(t.as_str()), Some(e.as_str()), Some(a.as_str()), None],
            Self::Service(t, e, a, s) => {
                [Some(t.as_str()), Some(e.as_str()), Some(a.as_str()), Some(s.as_str())]
            }
        }
    }

    /// Whether `other` is this one or lies within it.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.path().iter().zip(other.path()).all(|(own, other)| own.is_none() || *own == other)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path: Vec<&str> = self.path().into_iter().flatten().collect();
        if path.is_empty() { f.write_str("platform") } else { f.write_str(&path.join("/")) }
    }
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Action {
    /// See what there is and how it fares.
    Read,
    /// Release and roll back.
    Deploy,
    /// Scale, restart, start and stop.
    Operate,
    /// Remove apps, services and environments.
    Remove,
    /// Remove data: volumes.
    RemoveData,
    /// Read log lines.
    ReadLogs,
    /// Read the values of secrets.
    ReadSecrets,
    /// Set and remove secrets.
    WriteSecrets,
    /// Read the audit log.
    ReadAudit,
    /// Make and remove tenants and environments.
    Administer,
    /// Run commands in instances, which see all that the instance sees: its secrets and its data.
    Exec,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Read,
        Self::Deploy,
        Self::Operate,
        Self::Remove,
        Self::RemoveData,
        Self::ReadLogs,
        Self::ReadSecrets,
        Self::WriteSecrets,
        Self::ReadAudit,
        Self::Administer,
        Self::Exec,
    ];

    const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// The term of a leader: of two, the one with the higher epoch leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Permission to act on a resource. It has no public constructor: it comes from the platform once its
/// [`Authorizer`](crate::port::Authorizer) has agreed, from the engine, or in tests from the feature `testing`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    resource: Resource,
    actions: u32,
    actor: Principal,
    epoch: Option<Epoch>,
}

impl Scope {
    /// What an authoriser has agreed to.
    pub(crate) fn granted(actor: Principal, resource: Resource, actions: &[Action]) -> Self {
        Self {
            resource,
            actions: actions.iter().fold(0, |all, action| all | action.bit()),
            actor,
            epoch: None,
        }
    }

    /// The engine's own, in the term of a leader.
    pub(crate) fn engine(resource: Resource, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..Self::granted(Principal::Engine, resource, &Action::ALL) }
    }

    /// A scope that allows everything on a resource, for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn testing(resource: Resource) -> Self {
        Self::granted(Principal::Engine, resource, &Action::ALL)
    }

    /// A scope that allows some actions on a resource, for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn testing_only(resource: Resource, actions: &[Action]) -> Self {
        Self::granted(Principal::Engine, resource, actions)
    }

    /// The same scope in the term of a leader, for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn in_epoch(self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    /// What it allows to touch.
    #[must_use]
    pub fn resource(&self) -> &Resource {
        &self.resource
    }

    /// Who acts.
    #[must_use]
    pub fn actor(&self) -> &Principal {
        &self.actor
    }

    /// The term of the leader that acts. A backend remembers the highest it has seen in any call, reads included,
    /// and refuses a write of a lower one with `Conflict`.
    #[must_use]
    pub fn epoch(&self) -> Option<Epoch> {
        self.epoch
    }

    /// One of the actions it allows, for calls that any of them permits.
    pub(crate) fn any_action(&self) -> Action {
        Action::ALL.into_iter().find(|action| self.actions & action.bit() != 0).unwrap_or(Action::Administer)
    }

    /// Whether it allows the action on the resource.
    #[must_use]
    pub fn covers(&self, action: Action, resource: &Resource) -> bool {
        self.actions & action.bit() != 0 && self.resource.contains(resource)
    }

    /// Refuses what it does not cover.
    ///
    /// # Errors
    /// `Denied`.
    pub fn check(&self, action: Action, resource: &Resource) -> Result<()> {
        if self.covers(action, resource) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Denied, "the scope does not cover this")
            .with("action", format!("{action:?}"))
            .with("resource", resource)
            .with("scope", &self.resource))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_contains_itself_and_what_lies_below() {
        let t = |name: &str| TenantId::new(name).unwrap();
        let e = EnvironmentId::new("e").unwrap();
        let environment = Resource::Environment(t("a"), e.clone());
        let app = Resource::App(t("a"), e, AppId::new("x").unwrap());
        assert!(Resource::Platform.contains(&app));
        assert!(environment.contains(&app) && environment.contains(&environment));
        assert!(!app.contains(&environment));
        assert!(!Resource::Tenant(t("b")).contains(&app));
    }

    #[test]
    fn a_scope_allows_only_its_actions() {
        let tenant = Resource::Tenant(TenantId::new("a").unwrap());
        let scope = Scope::testing_only(tenant.clone(), &[Action::Read]);
        assert!(scope.check(Action::Read, &tenant).is_ok());
        assert_eq!(scope.check(Action::Deploy, &tenant).unwrap_err().kind(), ErrorKind::Denied);
        assert!(scope.check(Action::Read, &Resource::Platform).is_err());
    }
}
