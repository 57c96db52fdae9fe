//! Who calls.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::id::TenantId;

/// Who a call is made for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Principal {
    /// A person.
    User {
        /// The name they signed in with.
        name: String,
        /// The tenant they work in.
        tenant: TenantId,
        /// The groups they belong to.
        groups: Vec<String>,
    },
    /// A program with a token of its own.
    Robot {
        /// Its name.
        name: String,
        /// The tenant it works in.
        tenant: TenantId,
    },
    /// Somebody of the platform team, who belongs to no tenant.
    Operator {
        /// The name they signed in with.
        name: String,
    },
    /// The engine itself.
    Engine,
}

impl Principal {
    /// A person without groups.
    #[must_use]
    pub fn user(name: impl Into<String>, tenant: TenantId) -> Self {
        Self::User { name: name.into(), tenant, groups: Vec::new() }
    }

    /// Somebody of the platform team.
    #[must_use]
    pub fn operator(name: impl Into<String>) -> Self {
        Self::Operator { name: name.into() }
    }

    /// The tenant it works in; operators and the engine work in all.
    #[must_use]
    pub fn tenant(&self) -> Option<&TenantId> {
        match self {
            Self::User { tenant, .. } | Self::Robot { tenant, .. } => Some(tenant),
            Self::Operator { .. } | Self::Engine => None,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { name, .. } => write!(f, "user {name}"),
            Self::Robot { name, .. } => write!(f, "robot {name}"),
            Self::Operator { name } => write!(f, "operator {name}"),
            Self::Engine => f.write_str("engine"),
        }
    }
}
