//! Asks the authoriser, and writes down what is done on its word.

use super::Inner;
use crate::model::{Action, AuditEntry, AuditId, AuditOutcome, Principal, Resource, Scope};
use crate::port::Decision;
use crate::{Error, ErrorKind, Result};

/// Permission for one action that changes something, with its open entry in the audit log.
pub(crate) struct Permit<'a> {
    inner: &'a Inner,
    scope: Scope,
    audit: AuditId,
}

impl Inner {
    /// Asks whether a principal may see something.
    pub(crate) async fn sees(&self, principal: &Principal, resource: Resource) -> Result<bool> {
        match self.allow(principal, Action::Read, resource).await {
            Err(error) if error.kind() == ErrorKind::Denied => Ok(false),
            outcome => outcome.map(|_| true),
        }
    }

    /// Asks whether a principal may do something that changes nothing.
    ///
    /// # Errors
    /// `Denied`; `Unavailable` where the authoriser cannot tell: then nothing is allowed either.
    pub(crate) async fn allow(
        &self,
        principal: &Principal,
        action: Action,
        resource: Resource,
    ) -> Result<Scope> {
        let reason = match self.authorizer.decide(principal, action, &resource).await {
            Ok(Decision::Allow) => return Ok(Scope::granted(principal.clone(), resource, &[action])),
            Ok(Decision::Deny(reason)) => reason,
            Err(error) if error.kind() == ErrorKind::Denied => error.to_string(),
            Err(cause) => {
                tracing::error!(%principal, ?action, %resource, ?cause, "the authoriser cannot tell");
                return Err(Error::unavailable("who may do what cannot be told just now; try again")
                    .with("action", format!("{action:?}"))
                    .with_source(cause));
            }
        };
        tracing::info!(%principal, ?action, %resource, reason, "denied");
        Err(Error::new(ErrorKind::Denied, "not allowed")
            .with("principal", principal)
            .with("action", format!("{action:?}")))
    }

    /// Asks whether a principal may do something, and opens an entry in the audit log. Nothing is done without both.
    pub(crate) async fn permit(
        &self,
        principal: &Principal,
        action: Action,
        resource: Resource,
        summary: String,
    ) -> Result<Permit<'_>> {
        let allowed = self.allow(principal, action, resource.clone()).await;
        let entry = AuditEntry::new(principal.clone(), action, resource.clone(), summary, self.clock.now());
        let own = self.own(resource);
        let audit = self.audit.begin(&own, entry).await?;
        match allowed {
            Ok(scope) => Ok(Permit { inner: self, scope, audit }),
            Err(error) => {
                self.audit.end(&own, &audit, AuditOutcome::Failed(error.to_string())).await?;
                Err(error)
            }
        }
    }
}

impl Permit<'_> {
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Closes the entry with how the action ended. The outcome stays what it is even where that cannot be written.
    pub(crate) async fn finish<T>(self, outcome: Result<T>) -> Result<T> {
        let end = match &outcome {
            Ok(_) => AuditOutcome::Done,
            Err(error) => AuditOutcome::Failed(error.to_string()),
        };
        if let Err(error) = self.inner.audit.end(&self.scope, &self.audit, end).await {
            tracing::error!(?error, "an audit entry stays open");
        }
        outcome
    }
}
