//! Names are for people and may be reused; ids (see [`super::id`]) are what keys are made of.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::limit;
use crate::{Error, Result};

/// Checks a DNS label of at most [`limit::NAME`] bytes: lower-case letters, digits and inner dashes, letter first.
fn label(kind: &'static str, text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let fits = !bytes.is_empty() && bytes.len() <= limit::NAME;
    let first = bytes.first().is_some_and(u8::is_ascii_lowercase);
    let last = bytes.last().is_some_and(|b| *b != b'-');
    let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
    if fits && first && last && inner {
        return Ok(());
    }
    Err(Error::invalid("a name is lower-case letters, digits and inner dashes, a letter first")
        .with("kind", kind)
        .with("name", excerpt(text))
        .with("longest", limit::NAME))
}

/// Checks the name of an environment variable, which a secret is handed to a service as.
fn variable(kind: &'static str, text: &str) -> Result<()> {
    let bytes = text.as_bytes();
    let fits = !bytes.is_empty() && bytes.len() <= limit::NAME;
    let first = bytes.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_');
    if fits && first && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_') {
        return Ok(());
    }
    Err(Error::invalid("this name is letters, digits and underscores, no digit first")
        .with("kind", kind)
        .with("name", excerpt(text))
        .with("longest", limit::NAME))
}

/// The beginning of an untrusted text, with control characters escaped, fit for an error message.
pub(crate) fn excerpt(text: &str) -> String {
    const SHOWN: usize = 60;
    let mut out: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(SHOWN).is_some() {
        out.push('…');
    }
    out
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident = $kind:literal by $check:ident $pattern:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Box<str>);

        impl $name {
            /// Checks and takes a name.
            ///
            /// # Errors
            /// `Invalid` where it breaks the rules that the error states.
            pub fn new(text: impl AsRef<str>) -> Result<Self> {
                $check($kind, text.as_ref())?;
                Ok(Self(text.as_ref().into()))
            }

            /// The name as text.
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

        impl TryFrom<&str> for $name {
            type Error = Error;
            fn try_from(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern, "maxLength": limit::NAME })
            }
        }
    )*};
}

names! {
    /// What people call a tenant.
    TenantName = "tenant" by label "^[a-z]([a-z0-9-]*[a-z0-9])?$";
    /// What people call an environment of a tenant; every tenant starts with `production`.
    EnvironmentName = "environment" by label "^[a-z]([a-z0-9-]*[a-z0-9])?$";
    /// What people call an app within an environment.
    AppName = "app" by label "^[a-z]([a-z0-9-]*[a-z0-9])?$";
    /// What people call a service within an app.
    ServiceName = "service" by label "^[a-z]([a-z0-9-]*[a-z0-9])?$";
    /// What people call a volume of a service.
    VolumeName = "volume" by label "^[a-z]([a-z0-9-]*[a-z0-9])?$";
    /// Those who share the work on a log queue's lines, like all that store them.
    LogGroup = "log group" by label "^[a-z]([a-z0-9-]*[a-z0-9])?$";
    /// The name of a secret, which is also the environment variable that carries it.
    SecretName = "secret" by variable "^[A-Za-z_][A-Za-z0-9_]*$";
}

impl EnvironmentName {
    /// The environment every tenant starts with.
    #[must_use]
    pub fn production() -> Self {
        Self("production".into())
    }
}

impl ServiceName {
    /// The name as a prefix of environment variables: upper case, dashes as underscores.
    ///
    /// ```
    /// # use paas_core::model::ServiceName;
    /// assert_eq!(ServiceName::new("order-db")?.variable_prefix(), "ORDER_DB");
    /// # Ok::<(), paas_core::Error>(())
    /// ```
    #[must_use]
    pub fn variable_prefix(&self) -> String {
        self.0.to_ascii_uppercase().replace('-', "_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_checked_at_its_edges() {
        for good in ["a", "web", "a-1", &"x".repeat(limit::NAME)] {
            assert!(ServiceName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "1a", "-a", "a-", "a_b", "a.b", "ä", &"x".repeat(limit::NAME + 1)] {
            assert!(ServiceName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_error_never_carries_control_characters() {
        let error = ServiceName::new("a\u{1b}[31m\n").unwrap_err();
        assert!(!error.to_string().chars().any(char::is_control));
    }
}
