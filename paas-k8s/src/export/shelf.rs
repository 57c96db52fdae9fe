//! What has been applied and not removed.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// The kinds in the order in which they are applied: what others refer to or are held by comes first.
const ORDER: [&str; 13] = [
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "ServiceAccount",
    "PersistentVolumeClaim",
    "PodDisruptionBudget",
    "Service",
    "Job",
    "StatefulSet",
    "Deployment",
    "HTTPRoute",
    "Ingress",
];

/// A Secret that pods refer to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Secret {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) keys: Vec<String>,
}

/// By rank, namespace, kind and name.
type Place = (usize, String, String, String);

#[derive(Debug, Default)]
struct Held {
    objects: BTreeMap<Place, Value>,
    /// By the workload's object that needs them.
    secrets: BTreeMap<Place, Secret>,
}

/// Objects by where they are.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Held>);

impl Shelf {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an object where it belongs, in the place of what was there.
    pub(super) fn put(&self, object: Value) {
        self.held().objects.insert(place(&object), object);
    }

    /// Puts the object that runs a workload, and remembers the Secret that it refers to.
    pub(super) fn put_owner(&self, object: Value, secret: Option<Secret>) {
        let mut held = self.held();
        let place = place(&object);
        match secret {
            Some(secret) => held.secrets.insert(place.clone(), secret),
            None => held.secrets.remove(&place),
        };
        held.objects.insert(place, object);
    }

    /// Removes the objects that are so.
    pub(super) fn remove(&self, is_so: impl Fn(&Value) -> bool) {
        let mut held = self.held();
        held.objects.retain(|_, object| !is_so(object));
        let Held { objects, secrets } = &mut *held;
        secrets.retain(|place, _| objects.contains_key(place));
    }

    pub(super) fn objects(&self) -> Vec<Value> {
        self.held().objects.values().cloned().collect()
    }

    /// Each Secret once.
    pub(super) fn secrets(&self) -> Vec<Secret> {
        let mut secrets: Vec<Secret> = self.held().secrets.values().cloned().collect();
        secrets.sort();
        secrets.dedup();
        secrets
    }
}

fn place(object: &Value) -> Place {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&object["kind"]);
    let rank = ORDER.iter().position(|known| *known == kind).unwrap_or(ORDER.len());
    (rank, text(&object["metadata"]["namespace"]), kind, text(&object["metadata"]["name"]))
}

/// Whether an object carries a label of this value.
pub(super) fn has(object: &Value, label: &str, value: &str) -> bool {
    object["metadata"]["labels"][label] == value
}

/// Whether an object carries a label.
pub(super) fn carries(object: &Value, label: &str) -> bool {
    !object["metadata"]["labels"][label].is_null()
}
