//! Names of fields.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::model::limit;
use crate::model::name::excerpt;
use crate::{Error, Result};

/// The name of a field: letters, digits and `_ . - @ /`, a letter, `_` or `@` first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FieldName(Box<str>);

impl FieldName {
    /// Checks and takes a name.
    ///
    /// # Errors
    /// `Invalid` where it breaks the rule.
    pub fn new(text: &str) -> Result<Self> {
        let first =
            text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || b"_@".contains(&byte));
        let inner = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-@/".contains(&byte));
        if first && inner && text.len() <= limit::FIELD_NAME {
            return Ok(Self(text.into()));
        }
        Err(Error::invalid("a field's name is letters, digits and _ . - @ /, a letter, _ or @ first")
            .with("name", excerpt(text))
            .with("longest", limit::FIELD_NAME))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for FieldName {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::new(&text)
    }
}

impl From<FieldName> for String {
    fn from(name: FieldName) -> Self {
        name.0.into()
    }
}

impl schemars::JsonSchema for FieldName {
    fn schema_name() -> Cow<'static, str> {
        "FieldName".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": "^[A-Za-z_@][A-Za-z0-9_.@/-]*$",
            "maxLength": limit::FIELD_NAME,
        })
    }
}
