//! How objects are named and marked, always from immutable ids.

use std::collections::BTreeMap;

use kube::api::ObjectMeta;
use paas_core::model::{AppId, EnvironmentId, OperationId, Role, ServiceId, Slot, TenantId, WorkloadKey};
use paas_core::{Error, Result};

/// The one field manager of everything that is applied.
pub(crate) const MANAGER: &str = "paas";

/// Who made it: the platform's name.
pub(crate) const PLATFORM: &str = "paas-sdk.dev/platform";
/// Whose it is.
pub(crate) const TENANT: &str = "paas-sdk.dev/tenant";
/// Of which environment.
pub(crate) const ENVIRONMENT: &str = "paas-sdk.dev/environment";
/// Of which app.
pub(crate) const APP: &str = "paas-sdk.dev/app";
/// Of which service.
pub(crate) const SERVICE: &str = "paas-sdk.dev/service";
/// In which slot, for what serves.
pub(crate) const SLOT: &str = "paas-sdk.dev/slot";
/// Of which operation, for what runs once.
pub(crate) const TASK: &str = "paas-sdk.dev/task";
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

/// The namespace of a tenant's environment, of a platform of this name: readable by the environment's id, told apart by
/// the digest. A DNS label.
#[must_use]
pub fn namespace(platform: &str, tenant: &TenantId, environment: &EnvironmentId) -> String {
    let short: String = environment.as_str().chars().take(40).collect();
    let digest = digest(&format!("{platform}/{tenant}/{environment}"), 10);
    format!("{}-{digest}", short.trim_end_matches('-'))
}

/// The labels of what belongs to a workload.
pub(crate) fn of_workload(platform: &str, key: &WorkloadKey) -> BTreeMap<String, String> {
    let mut labels = ours(platform);
    let mut mark = |label: &str, value: String| labels.insert(label.to_owned(), value);
    mark(TENANT, key.tenant.to_string());
    mark(ENVIRONMENT, key.environment.to_string());
    mark(APP, key.app.to_string());
    mark(SERVICE, key.service.to_string());
    match &key.role {
        Role::Task(operation) => mark(TASK, operation.to_string()),
        role => mark(SLOT, role.to_string()),
    };
    labels
}

/// The workload that an object belongs to, if it is marked with one.
pub(crate) fn workload(labels: &BTreeMap<String, String>) -> Option<WorkloadKey> {
    let get = |label: &str| labels.get(label).map(String::as_str);
    let role = match (get(SLOT), get(TASK)) {
        (Some("blue"), None) => Role::Slot(Slot::Blue),
        (Some("green"), None) => Role::Slot(Slot::Green),
        (None, Some(operation)) => Role::Task(OperationId::new(operation).ok()?),
        _ => return None,
    };
    Some(WorkloadKey::new(
        TenantId::new(get(TENANT)?).ok()?,
        EnvironmentId::new(get(ENVIRONMENT)?).ok()?,
        AppId::new(get(APP)?).ok()?,
        ServiceId::new(get(SERVICE)?).ok()?,
        role,
    ))
}

/// Whether an object is where what it is marked with belongs: whoever copies it elsewhere copies its labels, too.
pub(crate) fn is_in_its_place(meta: &ObjectMeta) -> bool {
    let id = |label: &str| meta.labels.as_ref()?.get(label);
    let (Some(platform), Some(tenant), Some(environment)) = (id(PLATFORM), id(TENANT), id(ENVIRONMENT))
    else {
        return false;
    };
    let (Ok(tenant), Ok(environment)) = (TenantId::new(tenant), EnvironmentId::new(environment)) else {
        return false;
    };
    meta.namespace.as_deref() == Some(&*namespace(platform, &tenant, &environment))
}

/// The longest name of what owns pods: theirs have up to 17 characters more, and are hosts' names.
const LONGEST_OWNER: usize = 46;

/// The name of what owns a workload's pods.
pub(crate) fn owner(key: &WorkloadKey) -> String {
    match &key.role {
        Role::Task(operation) => short(format!("{}-{}", key.service, digest(operation.as_str(), 8))),
        role => short(format!("{}-{role}", key.service)),
    }
}

/// The name of what owns the pods of a service that has volumes, and so one slot at a time: claims follow from it, whichever
/// slot that is.
pub(crate) fn owner_of_volumes(service: &ServiceId) -> String {
    short(format!("{service}-{}", Slot::Blue))
}

fn short(name: String) -> String {
    if name.len() <= LONGEST_OWNER {
        return name;
    }
    let short: String = name.chars().take(LONGEST_OWNER - 9).collect();
    format!("{}-{}", short.trim_end_matches('-'), digest(&name, 8))
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
    fn labels_tell_the_workload_they_were_made_from() {
        let of = |service: &str, role| {
            WorkloadKey::new(
                TenantId::new("t-1").unwrap(),
                EnvironmentId::new("e-1").unwrap(),
                AppId::new("a-1").unwrap(),
                ServiceId::new(service).unwrap(),
                role,
            )
        };
        let task = Role::Task(OperationId::new("o-1").unwrap());
        for role in [Role::Slot(Slot::Blue), Role::Slot(Slot::Green), task] {
            let key = of("s-1", role);
            assert_eq!(workload(&of_workload("paas", &key)), Some(key));
        }
        assert_eq!(workload(&ours("paas")), None);
        let long = of(&"s".repeat(63), Role::Slot(Slot::Blue));
        assert!(owner(&long).len() <= LONGEST_OWNER);
        assert_ne!(owner(&long), owner(&of(&"s".repeat(62), Role::Slot(Slot::Blue))));
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
