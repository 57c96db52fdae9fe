//! Who did what, when, and how it ended.

use serde::{Deserialize, Serialize};

use super::id::{AuditEntryId, TenantId};
use super::principal::Principal;
use super::scope::{Action, Resource};
use super::time::Timestamp;

/// Identifies an entry of the audit log.
pub type AuditId = AuditEntryId;

/// What is about to be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Who.
    pub actor: Principal,
    /// What kind of thing.
    pub action: Action,
    /// To what.
    pub resource: Resource,
    /// In words, without any secret: `deploy shop revision 4`.
    pub summary: String,
    /// When.
    pub at: Timestamp,
}

impl AuditEntry {
    /// An entry.
    #[must_use]
    pub fn new(
        actor: Principal,
        action: Action,
        resource: Resource,
        summary: impl Into<String>,
        at: Timestamp,
    ) -> Self {
        Self { actor, action, resource, summary: summary.into(), at }
    }
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum AuditOutcome {
    /// Done.
    Done,
    /// Not done, and why.
    Failed(String),
}

/// An entry as it is kept. One without an outcome was cut off, or goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AuditRecord {
    /// Its id; ids sort by time.
    pub id: AuditId,
    /// What was to be done.
    pub entry: AuditEntry,
    /// How it ended.
    pub outcome: Option<AuditOutcome>,
}

impl AuditRecord {
    /// An entry that has just begun.
    #[must_use]
    pub fn new(id: AuditId, entry: AuditEntry) -> Self {
        Self { id, entry, outcome: None }
    }
}

/// Which entries to find, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditQuery {
    /// Only of this tenant.
    pub tenant: Option<TenantId>,
    /// Only those at or after this time.
    pub from: Option<Timestamp>,
    /// Only those before this time.
    pub to: Option<Timestamp>,
    /// At most this many; 0 means 100. No more than 1,000 come at once.
    pub limit: usize,
}

impl AuditQuery {
    /// Everything of a tenant.
    #[must_use]
    pub fn of_tenant(tenant: TenantId) -> Self {
        Self { tenant: Some(tenant), ..Self::default() }
    }

    /// How many to give.
    #[must_use]
    pub fn bounded_limit(&self) -> usize {
        if self.limit == 0 { 100 } else { self.limit.min(1_000) }
    }

    /// Whether a record is one of those asked for.
    #[must_use]
    pub fn matches(&self, record: &AuditRecord) -> bool {
        let at = record.entry.at;
        self.tenant.as_ref().is_none_or(|tenant| record.entry.resource.tenant() == Some(tenant))
            && self.from.is_none_or(|from| at >= from)
            && self.to.is_none_or(|to| at < to)
    }
}
