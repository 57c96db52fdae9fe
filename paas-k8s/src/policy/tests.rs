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
        ("/securityContext/runAsNonRoot", json!(false), "it may run as root"),
        ("/securityContext/runAsUser", json!(0), "it runs as root"),
        (
            "/securityContext/seccompProfile",
            json!({ "type": "Unconfined" }),
            "its system calls are not confined",
        ),
        (
            "/securityContext/appArmorProfile",
            json!({ "type": "Unconfined" }),
            "it leaves AppArmor's confinement",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({ "type": "spc_t" }),
            "it takes SELinux options of its own",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({ "user": "system_u" }),
            "it takes SELinux options of its own",
        ),
        ("/securityContext/seLinuxOptions", json!({ "role": "r" }), "it takes SELinux options of its own"),
        ("/securityContext/windowsOptions", json!({ "hostProcess": true }), "it is a process of the node"),
        (
            "/securityContext/sysctls",
            json!([{ "name": "kernel.msgmax", "value": "1" }]),
            "it changes what is not its own of the kernel",
        ),
    ] {
        assert_eq!(says(changed(pointer, value)), [expected], "{pointer}");
    }
}

/// The manifest with this in its pod instead.
fn changed(pointer: &str, value: Value) -> Value {
    let mut object = deployment();
    set(object.pointer_mut("/spec/template/spec").unwrap(), pointer, value);
    object
}

/// Puts a value where a JSON pointer leads, with all that is missing on the way.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let place = pointer.split('/').skip(1).fold(object, |inner, step| match inner {
        Value::Array(items) => &mut items[step.parse::<usize>().unwrap()],
        inner => &mut inner[step],
    });
    *place = value;
}

/// What no container may ask for, by field of the restricted standard.
fn forbidden() -> Vec<(&'static str, Value, &'static str)> {
    let hook = |kind: &str, host: &str| json!({ kind: { "host": host, "port": 80 } });
    let mut all = vec![
        ("/securityContext/runAsNonRoot", json!(false), "it may run as root"),
        ("/securityContext/runAsUser", json!(0), "it runs as root"),
        ("/securityContext/privileged", json!(true), "it is privileged"),
        ("/securityContext/allowPrivilegeEscalation", json!(true), "it may gain privileges"),
        ("/securityContext/allowPrivilegeEscalation", Value::Null, "it may gain privileges"),
        ("/securityContext/capabilities/add", json!(["SYS_ADMIN"]), "it adds a capability"),
        ("/securityContext/capabilities/drop", json!(["NET_RAW"]), "it does not drop all capabilities"),
        (
            "/securityContext/seccompProfile",
            json!({ "type": "Unconfined" }),
            "its system calls are not confined",
        ),
        (
            "/securityContext/appArmorProfile",
            json!({ "type": "Unconfined" }),
            "it leaves AppArmor's confinement",
        ),
        (
            "/securityContext/seLinuxOptions",
            json!({ "type": "spc_t" }),
            "it takes SELinux options of its own",
        ),
        ("/securityContext/seLinuxOptions", json!({ "user": "u" }), "it takes SELinux options of its own"),
        ("/securityContext/seLinuxOptions", json!({ "role": "r" }), "it takes SELinux options of its own"),
        ("/securityContext/windowsOptions", json!({ "hostProcess": true }), "it is a process of the node"),
        ("/securityContext/procMount", json!("Unmasked"), "it sees more of /proc"),
        ("/ports", json!([{ "containerPort": 80, "hostPort": 80 }]), "it takes a port of the node"),
    ];
    let probed = "a probe or hook of it asks another host";
    for kind in ["httpGet", "tcpSocket"] {
        for probe in [
            "/livenessProbe",
            "/readinessProbe",
            "/startupProbe",
            "/lifecycle/postStart",
            "/lifecycle/preStop",
        ] {
            all.push((probe, hook(kind, "169.254.169.254"), probed));
        }
    }
    all
}

#[test]
fn what_no_container_may_ask_for_is_seen_in_each_kind_of_container() {
    let good = deployment().pointer("/spec/template/spec/containers/0").unwrap().clone();
    for kind in ["containers", "initContainers", "ephemeralContainers"] {
        for (pointer, value, expected) in forbidden() {
            let mut container = good.clone();
            container["name"] = json!("it");
            set(&mut container, pointer, value);
            let findings = check(&[changed(&format!("/{kind}"), json!([container]))]).unwrap();
            let found = |it: &&Finding| it.object == "Deployment/web container it";
            let own: Vec<_> = findings.iter().filter(found).map(|it| it.says).collect();
            assert_eq!(own, [expected], "{kind} {pointer}");
        }
        // And what the standard allows is passed over.
        for (pointer, value) in [
            ("/securityContext/capabilities/add", json!(["NET_BIND_SERVICE"])),
            ("/securityContext/seLinuxOptions", json!({ "type": "container_t", "level": "s0" })),
            ("/securityContext/appArmorProfile", json!({ "type": "RuntimeDefault" })),
            ("/livenessProbe", json!({ "httpGet": { "port": 80 } })),
        ] {
            let mut container = good.clone();
            set(&mut container, pointer, value);
            let findings = check(&[changed(&format!("/{kind}"), json!([container]))]).unwrap();
            assert!(
                findings.iter().all(|it| !it.object.contains("container")),
                "{kind} {pointer}: {findings:?}"
            );
        }
    }
}

#[test]
fn a_debugging_container_is_seen_and_so_is_a_profile_in_an_annotation() {
    let good = deployment().pointer("/spec/template/spec/containers/0").unwrap().clone();
    assert_eq!(says(changed("/ephemeralContainers", json!([good]))), ["it brings a debugging container"]);
    let mut object = deployment();
    let key = "container.apparmor.security.beta.kubernetes.io/app";
    object["spec"]["template"]["metadata"] = json!({ "annotations": { key: "unconfined" } });
    assert_eq!(says(object.clone()), ["it leaves AppArmor's confinement"]);
    for allowed in ["", "runtime/default", "localhost/own"] {
        object["spec"]["template"]["metadata"]["annotations"][key] = json!(allowed);
        assert_eq!(says(object.clone()), [""; 0], "{allowed}");
    }
    let mut safe = deployment();
    set(
        safe.pointer_mut("/spec/template/spec").unwrap(),
        "/securityContext/sysctls",
        json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]),
    );
    assert_eq!(says(safe), [""; 0]);
}

/// What is said of a network policy with this rule, in a direction.
fn said(direction: &str, rule: &Value) -> Vec<&'static str> {
    let types = if direction == "ingress" { "Ingress" } else { "Egress" };
    says(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": "it", "namespace": "n" },
        "spec": { "podSelector": {}, "policyTypes": [types], direction: [rule] },
    }))
}

#[test]
fn a_rule_for_everybody_is_seen_in_both_directions() {
    let block = |cidr: &str, except: &[&str]| json!({ "ipBlock": { "cidr": cidr, "except": except } });
    let ports = json!([{ "protocol": "TCP", "port": 80 }]);
    let everybody = [
        json!([]),
        json!([{ "namespaceSelector": {} }]),
        json!([{ "namespaceSelector": {}, "podSelector": { "matchLabels": { "k8s-app": "dns" } } }]),
        json!([{ "namespaceSelector": { "matchLabels": { "paas-sdk.dev/platform": "paas" } } }]),
        json!([{ "namespaceSelector": { "matchExpressions": [{ "key": "a", "operator": "Exists" }] } }]),
        json!([{ "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["kube-system"] },
        ] } }]),
        json!([block("0.0.0.0/0", &[])]),
        json!([block("::/0", &[])]),
        json!([block("0.0.0.0/0", &["192.0.2.1/32"])]),
        json!([block("0.0.0.0/0", &["10.96.0.10/32"])]),
        json!([block("::/0", &["fd00::/120"])]),
        json!([block("0.0.0.0/1", &[]), block("128.0.0.0/1", &[])]),
        json!([block("10.1.2.3/0", &[])]),
        json!([block("nothing", &[])]),
    ];
    for (direction, field) in [("ingress", "from"), ("egress", "to")] {
        for peers in &everybody {
            for rule in [json!({ field: peers }), json!({ field: peers, "ports": ports })] {
                assert_eq!(
                    said(direction, &rule),
                    ["it allows traffic with everybody"],
                    "{direction} {rule}"
                );
            }
        }
        for rule in [json!({}), json!({ "ports": ports })] {
            assert_eq!(said(direction, &rule), ["it allows traffic with everybody"], "{direction} {rule}");
        }
        let own = json!({ field: [{ "podSelector": {} }], "ports": ports });
        assert_eq!(said(direction, &own), ["it allows traffic with every app of the environment"]);
        let system = json!({ "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } });
        for ports in [json!([]), json!([{ "protocol": "TCP" }]), json!([{ "port": 1, "endPort": 65535 }])] {
            let rule = json!({ field: [{ "namespaceSelector": system }], "ports": ports });
            let expected = ["it allows every port with another namespace"];
            assert_eq!(said(direction, &rule), expected, "{direction} {rule}");
        }
        for narrow in [
            json!([{ "namespaceSelector": system }]),
            json!([{ "podSelector": { "matchLabels": { "app": "a" } } }]),
            json!([block("192.0.2.0/24", &[]), block("2001:db8::/32", &[])]),
        ] {
            let rule = json!({ field: narrow, "ports": ports });
            assert_eq!(said(direction, &rule), [""; 0], "{direction} {rule}");
        }
    }
}

#[test]
fn whoever_leaves_out_their_own_ranges_reaches_the_internet_and_is_not_reached_from_it() {
    let block = json!({ "ipBlock": { "cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"] } });
    assert_eq!(said("egress", &json!({ "to": [block] })), [""; 0]);
    assert_eq!(said("ingress", &json!({ "from": [block] })), ["it allows traffic with everybody"]);
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
