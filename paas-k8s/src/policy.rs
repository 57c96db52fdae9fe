//! Whether objects keep tenants apart as they should: a pure look at manifests, for tests.
//!
//! Admission in the cluster decides what runs; this says the same before anything is sent, and of a cluster whose
//! admission is switched off. What is looked at: namespaces with what must be in them (the `restricted` pod security
//! standard, no traffic unless allowed, quota, limits, accounts without tokens), whom network policies let in and out, and
//! whatever has a pod template.
//!
//! Of pods, it is the [Pod Security Standards](https://kubernetes.io/docs/concepts/security/pod-security-standards/),
//! profile *restricted*, as Kubernetes 1.34 checks them (`k8s.io/pod-security-admission` v0.34.4, `policy/check_*.go`), field
//! by field, of all three kinds of containers. What the standard allows to Windows and to pods in a user namespace of their
//! own is not allowed here; tokens, accounts and limits of containers are the platform's own rules.

use std::fmt;

use k8s_openapi::api::core::v1::PodSpec;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use paas_core::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

mod address;
mod network;
mod pod;
mod room;
#[cfg(test)]
pub(crate) mod tests;

/// The service account that instances run as. It may do nothing.
pub(crate) const ACCOUNT: &str = "paas-app";
/// The label that holds a namespace to a pod security standard.
pub(crate) const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
/// The label that says which release's idea of the standard.
pub(crate) const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";

/// Something that lets tenants come too close to each other or to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Finding {
    /// Which object, like `Deployment/web` or `Deployment/web container api`.
    pub object: String,
    /// What is wrong with it.
    pub says: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.object, self.says)
    }
}

/// Where an object of each kind that runs pods has their template.
const TEMPLATES: [(&str, &str); 7] = [
    ("Pod", "/spec"),
    ("Deployment", "/spec/template/spec"),
    ("StatefulSet", "/spec/template/spec"),
    ("ReplicaSet", "/spec/template/spec"),
    ("DaemonSet", "/spec/template/spec"),
    ("Job", "/spec/template/spec"),
    ("CronJob", "/spec/jobTemplate/spec/template/spec"),
];

/// Looks at objects as they are sent to the API server. Each namespace among them is expected to come with everything
/// that must be in it; kinds that nobody needs to look at are passed over.
///
/// # Errors
/// `Invalid` where an object cannot be read as what it says it is.
pub fn check(objects: &[Value]) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for object in objects.iter().filter(|object| kind(object) == "Namespace") {
        room::check(object, objects, &mut findings)?;
    }
    for object in objects.iter().filter(|object| kind(object) == "NetworkPolicy") {
        let title = title(object);
        network::check(&title, &read::<NetworkPolicy>(object, &title)?, &mut findings);
    }
    for object in objects {
        let Some((_, place)) = TEMPLATES.iter().find(|(kind_of, _)| *kind_of == kind(object)) else {
            continue;
        };
        let title = title(object);
        match object.pointer(place) {
            Some(spec) => {
                let profiles = annotations(object, place);
                pod::check(&title, &read::<PodSpec>(spec, &title)?, profiles, &mut findings);
            }
            None => findings.push(Finding { object: title, says: "it has no pod template" }),
        }
    }
    Ok(findings)
}

/// The annotations of a pod whose specification is in this place.
fn annotations<'a>(object: &'a Value, place: &str) -> impl Iterator<Item = (&'a str, &'a str)> {
    let beside = format!("{}metadata/annotations", place.trim_end_matches("spec"));
    let all = object.pointer(&beside).and_then(Value::as_object).into_iter().flatten();
    all.map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn kind(object: &Value) -> &str {
    text(object, "/kind")
}

fn title(object: &Value) -> String {
    format!("{}/{}", kind(object), text(object, "/metadata/name"))
}

fn read<T: DeserializeOwned>(object: &Value, title: &str) -> Result<T> {
    T::deserialize(object)
        .map_err(|cause| Error::invalid("the object cannot be read").with("object", title).with_source(cause))
}
