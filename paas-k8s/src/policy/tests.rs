//! Pods that do what they must not.

use serde_json::{Value, json};

use super::*;

/// Drops what a JSON pointer leads to; tells whether there was anything.
pub(crate) fn drop_field(object: &mut Value, pointer: &str) -> bool {
    let Some((parent, last)) = pointer.rsplit_once('/') else { return false };
    let last = last.replace("~1", "/");
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.remove(&last).is_some(),
        Some(Value::Array(items)) => {
            let place = last.parse().ok().filter(|place| *place < items.len());
            place.map(|place: usize| items.remove(place)).is_some()
        }
        _ => false,
    }
}

/// A deployment that does everything right.
fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "web", "namespace": "n" },
        "spec": { "template": { "spec": {
            "serviceAccountName": "paas-app",
            "automountServiceAccountToken": false,
            "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
            "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
            "containers": [{
                "name": "app",
                "image": "shop",
                "ports": [{ "containerPort": 8080 }],
                "resources": { "limits": { "cpu": "1", "memory": "64Mi" } },
                "securityContext": {
                    "allowPrivilegeEscalation": false,
                    "capabilities": { "drop": ["ALL"] },
                },
            }],
        } } },
    })
}

fn says(object: Value) -> Vec<&'static str> {
    check(&[object]).unwrap().into_iter().map(|finding| finding.says).collect()
}

#[test]
fn each_guard_of_a_pod_is_missed_where_it_is_dropped() {
    assert_eq!(says(deployment()), [""; 0]);
    for (pointer, expected) in [
        ("/serviceAccountName", "it runs as another account than that of apps"),
        ("/automountServiceAccountToken", "it does not say that it wants no token of the API server"),
        ("/securityContext/runAsNonRoot", "it may run as root"),
        ("/securityContext/seccompProfile", "its system calls are not confined"),
        ("/containers/0", "it has no container"),
        ("/containers/0/resources/limits/cpu", "its processor time is not limited"),
        ("/containers/0/resources/limits/memory", "its memory is not limited"),
        ("/containers/0/securityContext/allowPrivilegeEscalation", "it may gain privileges"),
        ("/containers/0/securityContext/capabilities", "it does not drop all capabilities"),
        ("/containers/0/securityContext/capabilities/drop/0", "it does not drop all capabilities"),
        ("/volumes/0/persistentVolumeClaim", "it mounts a kind of volume that is not allowed"),
    ] {
        let mut object = deployment();
        assert!(drop_field(&mut object, &format!("/spec/template/spec{pointer}")), "{pointer}");
        assert_eq!(says(object), [expected], "{pointer}");
    }
    let mut empty = deployment();
    assert!(drop_field(&mut empty, "/spec/template"));
    assert_eq!(says(empty), ["it has no pod template"]);
}

#[test]
fn what_a_pod_must_not_ask_for_is_seen() {
    for (pointer, value, expected) in [
        ("/hostNetwork", json!(true), "it shares the node's network"),
        ("/hostPID", json!(true), "it sees the node's processes"),
        ("/hostIPC", json!(true), "it shares the node's memory segments"),
        ("/volumes/0/hostPath", json!({ "path": "/" }), "it mounts a directory of the node"),
        (
            "/volumes/0/projected",
            json!({ "sources": [{ "serviceAccountToken": { "path": "token" } }] }),
            "it mounts a token of the API server",
        ),
        (
            "/automountServiceAccountToken",
            json!(true),
            "it does not say that it wants no token of the API server",
        ),
        ("/serviceAccountName", json!("admin"), "it runs as another account than that of apps"),
        ("/ephemeralContainers", json!([{ "name": "debug" }]), "it brings a debugging container"),
        ("/containers/0/securityContext/runAsNonRoot", json!(false), "it may run as root"),
        ("/securityContext/runAsUser", json!(0), "it runs as root"),
        ("/containers/0/securityContext/runAsUser", json!(0), "it runs as root"),
        ("/containers/0/securityContext/privileged", json!(true), "it is privileged"),
        ("/containers/0/securityContext/capabilities/add", json!(["SYS_ADMIN"]), "it adds a capability"),
        (
            "/containers/0/securityContext/seccompProfile",
            json!({ "type": "Unconfined" }),
            "its system calls are not confined",
        ),
        ("/containers/0/securityContext/procMount", json!("Unmasked"), "it sees more of /proc"),
        ("/containers/0/ports/0/hostPort", json!(80), "it takes a port of the node"),
    ] {
        let mut object = deployment();
        let (parent, last) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(&format!("/spec/template/spec{parent}")).unwrap()[last] = value;
        assert_eq!(says(object), [expected], "{pointer}");
    }
}

#[test]
fn containers_that_run_first_are_looked_at_and_every_kind_that_runs_pods() {
    let mut object = deployment();
    let spec = object.pointer_mut("/spec/template/spec").unwrap();
    spec["initContainers"] = json!([{ "name": "first" }]);
    let findings = check(&[object]).unwrap();
    assert!(
        findings.iter().all(|finding| finding.object == "Deployment/web container first"),
        "{findings:?}"
    );
    assert_eq!(findings[0].to_string(), "Deployment/web container first: it may gain privileges");

    let mut spec = deployment().pointer("/spec/template/spec").unwrap().clone();
    spec["hostNetwork"] = json!(true);
    for (kind, place) in TEMPLATES {
        let steps = place.rsplit('/').filter(|step| !step.is_empty());
        let mut object = steps.fold(spec.clone(), |inner, step| json!({ step: inner }));
        object["kind"] = json!(kind);
        assert_eq!(says(object), ["it shares the node's network"], "{kind}");
    }
}

#[test]
fn an_object_that_cannot_be_read_is_refused() {
    let broken = json!({ "kind": "Pod", "metadata": { "name": "p" }, "spec": { "containers": 1 } });
    assert_eq!(check(&[broken]).unwrap_err().context("object"), Some("Pod/p"));
}
