//! Who owns apps: nothing of one tenant is seen by another.

use serde::{Deserialize, Serialize};

use super::environment::Environment;
use super::id::TenantId;
use super::name::TenantName;
use super::time::Timestamp;
use crate::{Error, Result};

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

    /// Whether all of these environments are its own.
    ///
    /// # Errors
    /// `Invalid` where one is not.
    pub fn check_own(&self, environments: &[Environment]) -> Result<()> {
        match environments.iter().find(|environment| environment.tenant != self.id) {
            None => Ok(()),
            Some(foreign) => Err(Error::invalid("the environment is another tenant's")
                .with("tenant", &self.id)
                .with("environment", &foreign.id)),
        }
    }
}
