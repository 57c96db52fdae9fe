//! How objects are named and marked, always from immutable ids.

use std::collections::BTreeMap;

use paas_core::model::{EnvironmentId, TenantId};
use paas_core::{Error, Result};

/// The one field manager of everything that is applied.
pub(crate) const MANAGER: &str = "paas";

/// Who made it: the platform's name.
pub(crate) const PLATFORM: &str = "paas-sdk.dev/platform";
/// Whose it is.
pub(crate) const TENANT: &str = "paas-sdk.dev/tenant";
/// Of which environment.
pub(crate) const ENVIRONMENT: &str = "paas-sdk.dev/environment";
/// Of which service.
pub(crate) const SERVICE: &str = "paas-sdk.dev/service";
/// What people call the tenant: an annotation, as it may change.
pub(crate) const TENANT_NAME: &str = "paas-sdk.dev/tenant-name";
/// What people call the environment: an annotation.
pub(crate) const ENVIRONMENT_NAME: &str = "paas-sdk.dev/environment-name";
/// The kind of a record.
pub(crate) const KIND: &str = "paas-sdk.dev/kind";

/// The labels of everything that belongs to a platform.
pub(crate) fn ours(platform: &str) -> BTreeMap<String, String> {
    [("app.kubernetes.io/managed-by", MANAGER), (PLATFORM, platform)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// The labels of everything that belongs to a tenant's environment.
pub(crate) fn of_environment(
    platform: &str,
    tenant: &TenantId,
    environment: &EnvironmentId,
) -> BTreeMap<String, String> {
    let mut labels = ours(platform);
    labels.insert(TENANT.into(), tenant.to_string());
    labels.insert(ENVIRONMENT.into(), environment.to_string());
    labels
}

/// Selects what of a platform belongs to a tenant.
pub(crate) fn of_tenant(platform: &str, tenant: &TenantId) -> String {
    format!("{PLATFORM}={platform},{TENANT}={tenant}")
}

/// The namespace of a tenant's environment: readable by the environment's id, told apart by the digest.
pub(crate) fn namespace(platform: &str, tenant: &TenantId, environment: &EnvironmentId) -> String {
    let short: String = environment.as_str().chars().take(40).collect();
    let digest = digest(&format!("{platform}/{tenant}/{environment}"), 10);
    format!("{}-{digest}", short.trim_end_matches('-'))
}

/// A short digest that tells names apart.
pub(crate) fn digest(text: &str, length: usize) -> String {
    blake3::hash(text.as_bytes()).to_hex()[..length].to_owned()
}

/// A word that may name a namespace and be a label's value.
pub(crate) fn check_dns_label(what: &'static str, word: &str) -> Result<()> {
    let bytes = word.as_bytes();
    let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
    let edges = [bytes.first(), bytes.last()].iter().all(|b| b.is_some_and(u8::is_ascii_alphanumeric));
    if bytes.len() <= 63 && edges && bytes.iter().all(inner) {
        return Ok(());
    }
    let shown: String = word.chars().take(80).collect();
    Err(Error::invalid("a name on a cluster is 1 to 63 lower-case letters, digits and inner dashes")
        .with("what", what)
        .with("found", shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_one_tenants_environment_alone() {
        let of = |tenant: &str, environment: &str| {
            let name =
                namespace("paas", &TenantId::new(tenant).unwrap(), &EnvironmentId::new(environment).unwrap());
            check_dns_label("namespace", &name).unwrap();
            name
        };
        assert_ne!(of("t-1-e-2", "e-3"), of("t-1", "e-2-e-3"));
        assert_ne!(of("t-1", "e-1"), of("t-2", "e-1"));
        let long = format!("{}-{}", "e".repeat(39), "f".repeat(20));
        assert!(of("t-1", &long).len() <= 63);
    }

    #[test]
    fn a_word_that_kubernetes_would_refuse_is_refused_here() {
        for word in ["paas", "a", "a-1"] {
            check_dns_label("platform", word).unwrap();
        }
        for word in ["", "-a", "a-", "A", "a.b", "ä", &"a".repeat(64)] {
            assert!(check_dns_label("platform", word).unwrap_err().to_string().contains("lower-case"));
        }
    }
}
