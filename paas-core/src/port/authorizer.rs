//! Decides who may do what.

use async_trait::async_trait;

use super::Backend;
use crate::Result;
use crate::guard::Guarded;
use crate::model::{Action, Principal, Resource};

/// What an authoriser decided.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// It may be done.
    Allow,
    /// It may not be done, for this reason, which only the audit log sees.
    Deny(String),
}

/// Decides. It hands out no scope itself: the platform makes one of an `Allow`. An error allows nothing either: callers get
/// `Unavailable`, or, where it is `Denied`, what a `Deny` gets them.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Authorizer: Backend {
    /// Whether the principal may do the action to the resource. Idempotent; changes nothing. What no rule allows is
    /// denied.
    ///
    /// # Errors
    /// `Unavailable` where it cannot decide now.
    async fn decide(&self, principal: &Principal, action: Action, resource: &Resource) -> Result<Decision>;
}

/// The one port without a scope: this is where scopes come from. An attempt has a deadline; it is never retried.
#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<A: Authorizer + ?Sized> Authorizer for Guarded<A> {
    async fn decide(&self, principal: &Principal, action: Action, resource: &Resource) -> Result<Decision> {
        let scope = crate::model::Scope::granted(principal.clone(), resource.clone(), &[action]);
        let call = crate::guard::Call {
            action,
            ..crate::guard::call!(self, scope, "authorizer", "decide", Read, resource.clone())
        };
        self.guard.run(call, || self.inner.decide(principal, action, resource)).await
    }
}
