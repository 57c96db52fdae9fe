//! Immutable ids, never reused: every key, directory, namespace and permission is made from them.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::name::excerpt;
use super::time::{Clock, Timestamp};
use crate::{Error, Result};

/// Longest id, in bytes: it fits a DNS label.
const LONGEST: usize = 63;

fn check(kind: &'static str, text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let fits = !bytes.is_empty() && bytes.len() <= LONGEST;
    let edges = [bytes.first(), bytes.last()].iter().all(|b| b.is_some_and(|b| *b != b'-'));
    if fits && edges && bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-') {
        return Ok(());
    }
    Err(Error::invalid("an id is lower-case letters, digits and inner dashes")
        .with("kind", kind)
        .with("id", excerpt(text)))
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident = $prefix:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and takes an id: 1 to 63 bytes of lower-case letters, digits and inner dashes.
            ///
            /// # Errors
            /// `Invalid` for anything else.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                check(stringify!($name), text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// Makes an id that no other call has made or will make.
            #[must_use]
            pub fn generate(source: &IdSource) -> Self {
                Self(format!(concat!($prefix, "-{}"), source.next()).into())
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

ids! {
    /// Identifies a tenant.
    TenantId = "t";
    /// Identifies an environment.
    EnvironmentId = "e";
    /// Identifies an app in one environment.
    AppId = "a";
    /// Identifies a service.
    ServiceId = "s";
    /// Identifies an instance; schedulers choose it.
    InstanceId = "i";
    /// Identifies an operation.
    OperationId = "o";
    /// Identifies a volume.
    VolumeId = "v";
    /// Identifies an entry of the audit log.
    AuditEntryId = "u";
    /// Identifies what allows somebody to send log lines in.
    LogCredentialId = "l";
}

/// Makes the unique part of ids: 45 bits of milliseconds and 55 random bits, in 20 characters that sort by time.
#[derive(Clone, Debug)]
pub struct IdSource {
    clock: Clock,
    seeded: Option<Arc<Mutex<u64>>>,
}

impl IdSource {
    /// Ids from the operating system's randomness.
    #[must_use]
    pub fn random(clock: Clock) -> Self {
        Self { clock, seeded: None }
    }

    /// Ids that a seed repeats, for simulations.
    #[must_use]
    pub fn seeded(clock: Clock, seed: u64) -> Self {
        Self { clock, seeded: Some(Arc::new(Mutex::new(seed))) }
    }

    fn bits(&self) -> u64 {
        match &self.seeded {
            Some(state) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                splitmix64(&mut state)
            }
            // The operating system's randomness fails only before it was first seeded, at boot; then time and a
            // counter of addresses would repeat, so there is nothing better to do than to wait for it.
            None => loop {
                if let Ok(bits) = getrandom::u64() {
                    break bits;
                }
            },
        }
    }

    /// The next unique part.
    #[must_use]
    pub fn next(&self) -> String {
        let Timestamp(millis) = self.clock.now();
        let mut value = (u128::from(millis & ((1 << 45) - 1)) << 55) | u128::from(self.bits() >> 9);
        let mut out = [0u8; 20];
        for slot in out.iter_mut().rev() {
            // Crockford's alphabet: no i, l, o, u, which are misread.
            *slot = b"0123456789abcdefghjkmnpqrstvwxyz"[(value & 31) as usize];
            value >>= 5;
        }
        out.iter().map(|b| char::from(*b)).collect()
    }
}

/// One step of splitmix64 (Steele, Lea, Flood 2014): a small generator whose state is one word.
fn splitmix64(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_unique_and_valid() {
        let source = IdSource::random(Clock::system());
        let ids: std::collections::BTreeSet<_> = (0..1_000).map(|_| AppId::generate(&source)).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| AppId::new(id.as_str()).is_ok() && id.as_str().len() == 22));
    }

    #[test]
    fn a_seed_repeats_its_ids() {
        let clock = Clock::fixed(Timestamp(7));
        let ids = |seed| AppId::generate(&IdSource::seeded(clock.clone(), seed));
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
    }
}
