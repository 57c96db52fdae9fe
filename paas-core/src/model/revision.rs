//! Everything of an app that must come back together.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::app::AppSpec;
use super::name::{SecretName, ServiceName};
use super::secret::SecretVersion;
use crate::{Error, Result};

/// The number of a revision within its app, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RevisionNumber(pub u64);

impl fmt::Display for RevisionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A BLAKE3 digest of a value's JSON, shortened to 16 bytes, in hexadecimal.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(Box<str>);

impl Digest {
    /// The digest of a value. Equal values have equal digests: every map in the model is sorted.
    #[must_use]
    pub fn of(value: &impl Serialize) -> Self {
        let mut hasher = blake3::Hasher::new();
        // Writing to a hasher cannot fail, and the model's types have only text keys; a value that JSON could not
        // hold would still get a digest of its beginning and never equal another by accident of this line.
        if let Err(error) = serde_json::to_writer(&mut hasher, value) {
            hasher.update(error.to_string().as_bytes());
        }
        Self(hasher.finalize().to_hex()[..32].into())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A revision of an app: immutable. Not in it are the replica counts that people set, data, and live addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Revision {
    /// The app with its environment's overlay applied.
    pub spec: AppSpec,
    /// The versions of secrets, pinned when the revision was made.
    pub secrets: BTreeMap<SecretName, SecretVersion>,
}

impl Revision {
    /// A revision.
    #[must_use]
    pub fn new(spec: AppSpec, secrets: BTreeMap<SecretName, SecretVersion>) -> Self {
        Self { spec, secrets }
    }

    /// Its digest, which is also the key it is stored under.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self)
    }

    /// What changed since `older`, one line each, in the order of the services: `api: env.VERSION: "1" -> "2"`.
    ///
    /// # Errors
    /// `Internal` where a revision cannot be written as JSON.
    pub fn diff(&self, older: &Self) -> Result<Vec<String>> {
        let tree = |revision: &Self| -> Result<BTreeMap<ServiceName, BTreeMap<String, String>>> {
            let mut services = BTreeMap::new();
            for (name, service) in &revision.spec.services {
                let value = serde_json::to_value(service).map_err(|cause| {
                    Error::internal("a service cannot be written as JSON").with_source(cause)
                })?;
                let mut leaves = BTreeMap::new();
                flatten("", &value, &mut leaves);
                for secret in &service.secrets {
                    let version = revision.secrets.get(secret).map_or(0, |version| version.0);
                    leaves.insert(format!("secrets.{secret}"), format!("version {version}"));
                }
                services.insert(name.clone(), leaves);
            }
            Ok(services)
        };
        let (old, new) = (tree(older)?, tree(self)?);
        let mut lines = Vec::new();
        for name in old.keys().chain(new.keys().filter(|name| !old.contains_key(*name))) {
            match (old.get(name), new.get(name)) {
                (Some(_), None) => lines.push(format!("{name}: removed")),
                (None, Some(_)) => lines.push(format!("{name}: added")),
                (Some(old), Some(new)) => diff_leaves(name, old, new, &mut lines),
                (None, None) => {}
            }
        }
        Ok(lines)
    }
}

fn diff_leaves(
    name: &ServiceName,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    lines: &mut Vec<String>,
) {
    for key in old.keys().chain(new.keys().filter(|key| !old.contains_key(*key))) {
        let (before, after) = (old.get(key), new.get(key));
        if before != after {
            let text = |value: Option<&String>| value.map_or("none", String::as_str).to_owned();
            lines.push(format!("{name}: {key}: {} -> {}", text(before), text(after)));
        }
    }
}

fn flatten(prefix: &str, value: &serde_json::Value, leaves: &mut BTreeMap<String, String>) {
    match value {
        serde_json::Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&path, value, leaves);
            }
        }
        leaf => {
            leaves.insert(prefix.to_owned(), leaf.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ServiceSpec;

    #[test]
    fn a_diff_names_what_changed() {
        let revision = |version: &str| {
            let mut web = ServiceSpec::run(["web"]).unwrap();
            web.env.insert("VERSION".into(), version.into());
            Revision::new(AppSpec::new("shop").unwrap().with_service("web", &web).unwrap(), BTreeMap::new())
        };
        assert_eq!(revision("2").diff(&revision("1")).unwrap(), [r#"web: env.VERSION: "1" -> "2""#]);
        assert_ne!(revision("2").digest(), revision("1").digest());
        assert_eq!(revision("2").digest(), revision("2").digest());
    }
}
