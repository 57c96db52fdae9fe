//! What a secret's objects are, without a cluster.

use serde_json::{Value, json};

use super::*;

fn place(name: &str) -> Place {
    Place::new("paas", &TenantId::new("t-1").unwrap(), &SecretName::new(name).unwrap())
}

#[test]
fn each_version_is_an_immutable_object_of_a_name_that_kubernetes_takes() {
    let place = place("_Key_");
    let value = Secret::new("correct-horse").unwrap();
    let body = value::body(place.version_meta(u64::MAX), [("value".to_owned(), &value)]).unwrap();
    let object: Value = serde_json::from_slice(&body).unwrap();
    let name = object["metadata"]["name"].as_str().unwrap();
    assert!(name.len() <= 253 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
    assert_eq!(object["immutable"], json!(true));
    assert_eq!(object["metadata"]["annotations"][NAME], "_Key_");
    assert_eq!(object["metadata"]["labels"][label::TENANT], "t-1");
    assert!(object["metadata"]["labels"][SECRET].as_str().unwrap().len() <= 63);
    assert!(value::value(std::str::from_utf8(&body).unwrap()).unwrap() == value);
    assert!(value::value(r#"{"data":{"value":""}}"#).unwrap() == Secret::new("").unwrap());
}

#[test]
fn names_of_different_secrets_never_meet() {
    let other = Place::new("paas", &TenantId::new("t-2").unwrap(), &SecretName::new("A").unwrap());
    let digests = [place("A"), place("a"), place("A_1"), other].map(|place| place.digest);
    assert_eq!(digests.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
}

#[test]
fn what_cannot_be_read_is_not_repeated() {
    let cut = r#"{"data":{"value":"Y29ycmVjdC1ob3JzZQ==","#;
    for text in [cut, r#"{"data":{"value":"correct-horse!"}}"#, r#"{"data":{"value":17}}"#, "{}"] {
        let error = value::value(text).unwrap_err();
        let shown = format!("{error} {error:?}");
        for part in ["correct", "Y29y", "17"] {
            assert!(!shown.contains(part), "{shown}");
        }
    }
}

#[test]
fn the_newest_version_of_each_name_is_listed() {
    let object = |name: &str, version: u64| -> PartialObjectMeta<Object> {
        let object = json!({ "metadata": place(name).version_meta(version) });
        serde_json::from_value(object).unwrap()
    };
    let mut strange = object("C", 1);
    strange.metadata.annotations = None;
    let listed = newest(&[object("B", 2), object("A", 9), object("A", 10), object("B", 1), strange]);
    let listed: Vec<(&str, u64)> = listed.iter().map(|(name, version)| (name.as_str(), version.0)).collect();
    assert_eq!(listed, [("A", 10), ("B", 2)]);
}
