//! Who owns apps: nothing of one tenant is seen by another.

use serde::{Deserialize, Serialize};

use super::id::TenantId;
use super::name::TenantName;
use super::time::Timestamp;

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Tenant {
    /// Its id, never reused.
    pub id: TenantId,
    /// What people call it.
    pub name: TenantName,
    /// When it was made.
    pub created: Timestamp,
}

impl Tenant {
    /// A tenant.
    #[must_use]
    pub fn new(id: TenantId, name: TenantName, created: Timestamp) -> Self {
        Self { id, name, created }
    }
}
