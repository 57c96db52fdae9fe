//! What a state store holds.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::id::TenantId;
use super::name::excerpt;
use super::scope::Resource;
use crate::{Error, Result};

/// The kind of a record: a short word, like `app`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKind(&'static str);

impl RecordKind {
    /// A kind. Lower-case letters only; checked when it is compiled into a constant.
    ///
    /// # Panics
    /// Where the word has anything but 1 to 20 lower-case letters.
    #[must_use]
    pub const fn new(word: &'static str) -> Self {
        let bytes = word.as_bytes();
        assert!(!bytes.is_empty() && bytes.len() <= 20, "a record kind has 1 to 20 letters");
        let mut at = 0;
        while at < bytes.len() {
            assert!(bytes[at].is_ascii_lowercase(), "a record kind is lower-case letters");
            at += 1;
        }
        Self(word)
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Names a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// What it is.
    pub kind: RecordKind,
    /// Whose it is; `None` for what belongs to the platform.
    pub tenant: Option<TenantId>,
    /// Which one: 1 to 200 bytes of letters, digits and `-._/*`.
    pub id: Box<str>,
}

impl Key {
    /// A key.
    ///
    /// # Errors
    /// `Invalid` where the id is empty, too long, or has other characters.
    pub fn new(kind: RecordKind, tenant: Option<TenantId>, id: impl AsRef<str>) -> Result<Self> {
        let id = id.as_ref();
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._/*".contains(&b);
        if id.is_empty() || id.len() > 200 || !id.bytes().all(fits) {
            return Err(
                Error::invalid("a record's id is 1 to 200 letters, digits and -._/*").with("id", excerpt(id))
            );
        }
        Ok(Self { kind, tenant, id: id.into() })
    }

    /// What must be covered to touch it.
    #[must_use]
    pub fn resource(&self) -> Resource {
        self.tenant.clone().map_or(Resource::Platform, Resource::Tenant)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenant = self.tenant.as_ref().map_or("-", TenantId::as_str);
        write!(f, "{}/{tenant}/{}", self.kind.0, self.id)
    }
}

/// The version of a record: equal versions mean equal values; of one key, each write gives a greater one, and none comes
/// twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Version(pub u64);

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub key: Key,
    /// Its value; at most [`super::limit::STATE_VALUE`] bytes.
    pub value: Bytes,
    /// Its version.
    pub version: Version,
}

/// What a watcher of records is told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordChange {
    /// A record was written.
    Put(Record),
    /// A record was deleted.
    Deleted(Key),
    /// Changes may have been missed: list again.
    Reset,
}
