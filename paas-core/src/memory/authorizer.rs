//! Rules as a list: what none allows is denied.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::lock;
use crate::Result;
use crate::model::{Action, Principal, Resource, TenantId};
use crate::port::{Authorizer, Decision};

/// Decides by rules that allow; there are none that forbid.
#[derive(Clone, Debug, Default)]
pub struct MemoryAuthorizer {
    rules: Arc<Mutex<Vec<Rule>>>,
}

#[derive(Debug)]
struct Rule {
    who: Who,
    actions: Vec<Action>,
    resource: Resource,
}

#[derive(Debug)]
enum Who {
    Anybody,
    One(Principal),
    Group(TenantId, String),
}

impl Who {
    fn is(&self, principal: &Principal) -> bool {
        match (self, principal) {
            (Self::Anybody, _) => true,
            (Self::One(own), _) => same(own, principal),
            (Self::Group(own, group), Principal::User { tenant, groups, .. }) => {
                own == tenant && groups.contains(group)
            }
            (Self::Group(..), _) => false,
        }
    }
}

/// A person is the same in whatever groups.
fn same(a: &Principal, b: &Principal) -> bool {
    match (a, b) {
        (Principal::User { name: a, tenant: x, .. }, Principal::User { name: b, tenant: y, .. }) => {
            (a, x) == (b, y)
        }
        _ => a == b,
    }
}

impl MemoryAuthorizer {
    /// Denies everything until a rule allows it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows everybody everything everywhere: for tests and for a machine with one person only.
    #[must_use]
    pub fn allow_all() -> Self {
        let authorizer = Self::new();
        authorizer.add(Who::Anybody, &Action::ALL, Resource::Platform);
        authorizer
    }

    /// Allows a principal these actions on a resource and everything below it.
    pub fn allow(&self, principal: &Principal, actions: &[Action], resource: Resource) {
        self.add(Who::One(principal.clone()), actions, resource);
    }

    /// Allows the people of a tenant's group these actions on a resource and everything below it.
    pub fn allow_group(
        &self,
        tenant: &TenantId,
        group: impl Into<String>,
        actions: &[Action],
        resource: Resource,
    ) {
        self.add(Who::Group(tenant.clone(), group.into()), actions, resource);
    }

    /// Takes back everything that was allowed to a principal by name.
    pub fn revoke(&self, principal: &Principal) {
        lock(&self.rules).retain(|rule| !matches!(&rule.who, Who::One(own) if same(own, principal)));
    }

    fn add(&self, who: Who, actions: &[Action], resource: Resource) {
        lock(&self.rules).push(Rule { who, actions: actions.to_vec(), resource });
    }
}

#[async_trait]
impl Authorizer for MemoryAuthorizer {
    async fn decide(&self, principal: &Principal, action: Action, resource: &Resource) -> Result<Decision> {
        let allows = |rule: &Rule| {
            rule.who.is(principal) && rule.actions.contains(&action) && rule.resource.contains(resource)
        };
        if lock(&self.rules).iter().any(allows) {
            return Ok(Decision::Allow);
        }
        Ok(Decision::Deny(format!("no rule allows {principal} {action:?} on {resource}")))
    }
}
