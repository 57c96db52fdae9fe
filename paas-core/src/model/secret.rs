//! Values that never appear in a log, an error, a plan or a revision.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::limit;
use crate::{Error, Result};

/// A secret value. `Debug` hides it, it has no `Display` and no serde, and its memory is cleared when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a value.
    ///
    /// # Errors
    /// `Invalid` when it is longer than [`limit::SECRET`] bytes.
    pub fn new(value: impl Into<Vec<u8>>) -> Result<Self> {
        let value = Zeroizing::new(value.into());
        if value.len() > limit::SECRET {
            return Err(Error::invalid("the secret is too long").with("longest", limit::SECRET));
        }
        Ok(Self(value))
    }

    /// The value itself: look twice at every caller.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// The version of a secret, from 1; each `put` makes the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretVersion(pub u64);

impl fmt::Display for SecretVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
