//! What others hold of a spec that the platform decides, and how it goes.
//!
//! The API server notes who holds which fields of an object, as trees of keys (`f:` names a field, `k:` an item of a list
//! by its key, `v:` one by its value). A field that somebody else holds, and we do not, was changed or added. One that
//! both hold has the same value for both.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{FieldsV1, ManagedFieldsEntry};
use kube::api::ObjectMeta;
use paas_core::{Error, Result};
use serde_json::{Map, Value, json};

use crate::label;

/// How many instances the platform asks for, on an object whose count nobody else decides.
pub(crate) const REPLICAS: &str = "paas-sdk.dev/replicas";

/// The root of what is held of a spec.
const SPEC: &str = "f:spec";

/// Who else has changed the spec, or added to it. The cluster's own controllers hold the status and annotations; an
/// autoscaler goes through a sub-resource, as does who scales by hand where the count is not theirs.
pub(crate) fn changed_by(meta: &ObjectMeta) -> Option<String> {
    let ours = ours(meta);
    let mut others = theirs(meta).filter(|(_, fields)| is_beyond(fields, &ours));
    others.next().map(|(manager, _)| manager.to_owned())
}

/// Who holds the values of a Secret, which are immutable: whoever has made it.
pub(crate) fn filled_by(meta: &ObjectMeta) -> Option<&str> {
    let mut all = meta.managed_fields.iter().flatten();
    let holds = |entry: &&ManagedFieldsEntry| {
        entry.fields_v1.as_ref().is_some_and(|fields| fields.0.get("f:data").is_some())
    };
    all.find(holds)?.manager.as_deref()
}

/// What makes a spec ours alone, as a merge patch of the object; `None` where it is. All that others have added goes, and so
/// do their claims on the spec: where what they have set is a default, the cluster puts it there again at once, and it would
/// stay theirs for ever.
///
/// # Errors
/// None that a real object causes.
pub(crate) fn settlement(meta: &ObjectMeta, spec: &Value) -> Result<Option<Value>> {
    if changed_by(meta).is_none() {
        return Ok(None);
    }
    let mut patch = json!({ "metadata": { "resourceVersion": meta.resource_version, "managedFields": unclaimed(meta)? } });
    if let Some(spec) = removal(meta, spec) {
        patch["spec"] = spec;
    }
    Ok(Some(patch))
}

/// Who holds what, but for what others hold of the spec.
fn unclaimed(meta: &ObjectMeta) -> Result<Value> {
    let mut entries = meta.managed_fields.clone().unwrap_or_default();
    let is_counted = is_counted(meta);
    for entry in entries.iter_mut().filter(|entry| is_theirs(entry, is_counted)) {
        if let Some(fields) = entry.fields_v1.as_mut().and_then(|fields| fields.0.as_object_mut()) {
            fields.remove(SPEC);
        }
    }
    let is_empty = |fields: &FieldsV1| fields.0.as_object().is_some_and(Map::is_empty);
    entries.retain(|entry| !entry.fields_v1.as_ref().is_some_and(is_empty));
    serde_json::to_value(entries)
        .map_err(|cause| Error::internal("what holds an object cannot be written as JSON").with_source(cause))
}

/// What takes away from a spec all that others have added to it, as a merge patch; `None` where that is nothing.
fn removal(meta: &ObjectMeta, spec: &Value) -> Option<Value> {
    let ours = ours(meta);
    let mut own = spec.clone();
    theirs(meta).for_each(|(_, fields)| strip(&mut own, fields, &ours));
    difference(spec, &own)
}

fn spec(entry: &ManagedFieldsEntry) -> Option<&Value> {
    entry.fields_v1.as_ref()?.0.get(SPEC)
}

fn is_direct(entry: &ManagedFieldsEntry) -> bool {
    entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn ours(meta: &ObjectMeta) -> Vec<&Value> {
    let own =
        |entry: &&ManagedFieldsEntry| is_direct(entry) && entry.manager.as_deref() == Some(label::MANAGER);
    meta.managed_fields.iter().flatten().filter(own).filter_map(spec).collect()
}

/// Whether nobody else decides the count of instances.
fn is_counted(meta: &ObjectMeta) -> bool {
    meta.annotations.as_ref().is_some_and(|notes| notes.contains_key(REPLICAS))
}

fn is_theirs(entry: &ManagedFieldsEntry, is_counted: bool) -> bool {
    let scales = is_counted && entry.subresource.as_deref() == Some("scale");
    scales || is_direct(entry) && entry.manager.as_deref() != Some(label::MANAGER)
}

fn theirs(meta: &ObjectMeta) -> impl Iterator<Item = (&str, &Value)> {
    let is_counted = is_counted(meta);
    let all = meta.managed_fields.iter().flatten().filter(move |entry| is_theirs(entry, is_counted));
    all.filter_map(|entry| Some((entry.manager.as_deref().unwrap_or_default(), spec(entry)?)))
}

/// The keys of a tree, each with what is below it here, and below it in those that have it as well.
fn keys<'a>(
    theirs: &'a Value,
    ours: &'a [&'a Value],
) -> impl Iterator<Item = (&'a String, &'a Value, Vec<&'a Value>)> {
    let below = theirs.as_object().into_iter().flatten().filter(|(key, _)| *key != ".");
    below.map(|(key, inner)| (key, inner, ours.iter().filter_map(|own| own.get(key)).collect()))
}

fn is_beyond(theirs: &Value, ours: &[&Value]) -> bool {
    keys(theirs, ours).any(|(_, inner, own)| own.is_empty() || is_beyond(inner, &own))
}

fn strip(value: &mut Value, theirs: &Value, ours: &[&Value]) {
    for (key, inner, own) in keys(theirs, ours) {
        if own.is_empty() {
            remove(value, key);
        } else if let Some(child) = child(value, key) {
            strip(child, inner, &own);
        }
    }
}

fn child<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    if let Some(name) = key.strip_prefix("f:") {
        return value.get_mut(name);
    }
    let at = position(value.as_array()?, key)?;
    value.get_mut(at)
}

fn remove(value: &mut Value, key: &str) {
    if let (Some(name), Some(fields)) = (key.strip_prefix("f:"), value.as_object_mut()) {
        fields.remove(name);
    } else if let Some(items) = value.as_array_mut()
        && let Some(at) = position(items, key)
    {
        items.remove(at);
    }
}

/// Where in a list the item of a key is.
fn position(items: &[Value], key: &str) -> Option<usize> {
    let (kind, text) = key.split_once(':')?;
    let wanted: Value = serde_json::from_str(text).ok()?;
    match kind {
        "k" => {
            let wanted = wanted.as_object()?;
            items.iter().position(|item| wanted.iter().all(|(name, value)| item.get(name) == Some(value)))
        }
        "v" => items.iter().position(|item| *item == wanted),
        "i" => usize::try_from(wanted.as_u64()?).ok().filter(|at| *at < items.len()),
        _ => None,
    }
}

/// What makes one value of another, as RFC 7396 has it.
fn difference(before: &Value, after: &Value) -> Option<Value> {
    let (Value::Object(old), Value::Object(new)) = (before, after) else {
        return (before != after).then(|| after.clone());
    };
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = new.iter().filter_map(|(key, value)| {
        let change = old.get(key).map_or_else(|| Some(value.clone()), |old| difference(old, value));
        change.map(|change| (key.clone(), change))
    });
    let patch: Map<String, Value> = gone.chain(changed).collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn meta(entries: &[(&str, &str, Value)], counted: bool) -> ObjectMeta {
        let entry = |(manager, subresource, spec): &(&str, &str, Value)| json!({ "manager": manager, "subresource": subresource, "fieldsV1": { "f:spec": spec } });
        let notes = if counted { json!({ REPLICAS: "3" }) } else { json!({}) };
        let entries: Vec<Value> = entries.iter().map(entry).collect();
        serde_json::from_value(json!({ "managedFields": entries, "annotations": notes })).unwrap()
    }

    fn container(fields: &Value) -> Value {
        json!({ "f:template": { "f:containers": { r#"k:{"name":"app"}"#: fields } } })
    }

    #[test]
    fn what_is_held_by_both_was_not_changed() {
        let ours = (label::MANAGER, "", container(&json!({ ".": {}, "f:image": {} })));
        let same = ("other", "", container(&json!({ "f:image": {} })));
        assert_eq!(changed_by(&meta(&[ours.clone(), same], false)), None);
        let more = ("other", "", container(&json!({ "f:image": {}, "f:tty": {} })));
        assert_eq!(changed_by(&meta(&[ours, more], false)).as_deref(), Some("other"));
    }

    #[test]
    fn a_count_is_ours_only_where_we_ask_for_one() {
        let scaled = ("kubectl", "scale", json!({ "f:replicas": {} }));
        let status = ("kubelet", "status", json!({ "f:replicas": {} }));
        assert_eq!(changed_by(&meta(&[scaled.clone(), status.clone()], false)), None);
        assert_eq!(changed_by(&meta(&[scaled, status], true)).as_deref(), Some("kubectl"));
    }

    #[test]
    fn what_was_added_goes_and_all_else_stays() {
        let ours = (label::MANAGER, "", container(&json!({ "f:image": {}, "f:args": {} })));
        let theirs = json!({
            "f:paused": {},
            "f:template": {
                "f:labels": { "f:extra": {} },
                "f:containers": {
                    r#"k:{"name":"app"}"#: { "f:image": {}, "f:tty": {} },
                    r#"k:{"name":"spy"}"#: { ".": {}, "f:image": {} },
                },
                "f:finalizers": { r#"v:"keep""#: {} },
            },
        });
        let spec = json!({
            "paused": true,
            "replicas": 3,
            "template": {
                "labels": { "extra": "1", "own": "2" },
                "containers": [{ "name": "spy", "image": "x" }, { "name": "app", "image": "y", "tty": true }],
                "finalizers": ["keep", "other"],
            },
        });
        let patch = removal(&meta(&[ours.clone(), ("other", "", theirs)], false), &spec).unwrap();
        let own = json!([{ "name": "app", "image": "y" }]);
        // We hold none of the labels and finalizers: all that somebody else has there goes.
        assert_eq!(
            patch,
            json!({ "paused": null, "template": { "labels": null, "finalizers": null, "containers": own } })
        );
        assert_eq!(removal(&meta(&[ours], false), &spec), None);
    }

    #[test]
    fn what_others_hold_of_the_spec_is_theirs_no_more() {
        let ours = (label::MANAGER, "", container(&json!({ "f:image": {} })));
        let theirs = ("kubectl", "", container(&json!({ "f:image": {}, "f:tty": {} })));
        let status = ("kubelet", "status", json!({ "f:replicas": {} }));
        let mut meta = meta(&[ours.clone(), theirs, status.clone()], false);
        meta.managed_fields.as_mut().unwrap().push(
            serde_json::from_value(json!({
                "manager": "kubectl", "operation": "Update",
                "fieldsV1": { "f:metadata": { "f:labels": {} }, "f:spec": { "f:paused": {} } },
            }))
            .unwrap(),
        );
        // Neither is a value of theirs there: one was a default, which the cluster sets again.
        let patch = settlement(&meta, &json!({})).unwrap().unwrap();
        assert_eq!(patch.get("spec"), None);
        meta.managed_fields = serde_json::from_value(patch["metadata"]["managedFields"].clone()).unwrap();
        let left: Vec<_> = meta.managed_fields.iter().flatten().collect();
        assert_eq!(
            left.iter().map(|entry| entry.manager.as_deref().unwrap()).collect::<Vec<_>>(),
            [label::MANAGER, "kubelet", "kubectl"]
        );
        assert_eq!(left[2].fields_v1.as_ref().unwrap().0, json!({ "f:metadata": { "f:labels": {} } }));
        assert_eq!((changed_by(&meta), settlement(&meta, &json!({})).unwrap()), (None, None));
    }

    /// What a merge patch makes of a value.
    fn merge(target: &mut Value, patch: &Value) {
        let Value::Object(changes) = patch else {
            *target = patch.clone();
            return;
        };
        if !target.is_object() {
            *target = json!({});
        }
        let fields = target.as_object_mut().unwrap();
        for (name, change) in changes {
            if change.is_null() {
                fields.remove(name);
            } else {
                merge(fields.entry(name).or_insert(Value::Null), change);
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![any::<bool>().prop_map(Value::from), (0..4u8).prop_map(Value::from)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                proptest::collection::btree_map("[a-d]", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_difference_makes_one_of_the_other(before in values(), after in values()) {
            let mut made = before.clone();
            if let Some(patch) = difference(&before, &after) {
                merge(&mut made, &patch);
            }
            prop_assert_eq!(made, after);
        }
    }
}
