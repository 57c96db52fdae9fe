use paas_core::model::{EnvironmentId, TenantId, limit};
use serde_json::{Value, json};

use super::*;

/// A pod of a Deployment with this status.
fn pod(status: &Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": "s-1-blue-abc-x1", "namespace": label::namespace("paas", &TenantId::new("t-1").unwrap(), &EnvironmentId::new("e-1").unwrap()), "uid": "0123456789", "resourceVersion": "5",
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {
                label::PLATFORM: "paas", label::TENANT: "t-1", label::ENVIRONMENT: "e-1", label::APP: "a-1", label::SERVICE: "s-1",
                label::SLOT: "blue",
            },
            "annotations": { TEMPLATE: "digest" },
        },
        "spec": { "containers": [{ "name": CONTAINER, "ports": [{ "containerPort": 8080 }] }] },
        "status": status,
    }))
    .unwrap()
}

fn status(state: &Value, ready: &str, since: &str) -> Value {
    json!({
        "phase": "Running",
        "podIP": "10.0.0.7",
        "conditions": [{ "type": "Ready", "status": ready, "lastTransitionTime": since }],
        "containerStatuses": [{
            "name": CONTAINER, "image": "", "imageID": "", "ready": ready == "True", "restartCount": 2,
            "state": state,
            "lastState": { "terminated": {
                "exitCode": 7, "finishedAt": "2026-01-01T00:00:01Z", "reason": "Error", "message": "one\ntwo\n",
            } },
        }],
    })
}

fn seen(status: &Value) -> InstanceStatus {
    Instance::of(&pod(status)).unwrap().status
}

const BEFORE: &str = "2026-01-01T00:00:00Z";
const AFTER: &str = "2026-01-01T00:01:00Z";

fn running() -> Value {
    json!({ "running": { "startedAt": "2026-01-01T00:00:05Z" } })
}

#[test]
fn a_ready_pod_is_a_ready_instance_with_its_endpoint_and_its_past() {
    let instance = seen(&status(&running(), "True", AFTER));
    assert_eq!((instance.state, instance.restarts), (InstanceState::Ready, 2));
    assert_eq!(instance.endpoint.map(|it| it.address.to_string()).as_deref(), Some("10.0.0.7:8080"));
    assert_eq!(instance.started, Timestamp(1_767_225_600_000));
    let exit = instance.last_exit.unwrap();
    assert_eq!((exit.code, exit.reason), (Some(7), None));
    assert_eq!(exit.last_lines, ["one", "two"]);
}

#[test]
fn one_that_was_ready_is_told_from_one_that_never_was() {
    assert_eq!(seen(&status(&running(), "False", BEFORE)).state, InstanceState::Starting);
    assert_eq!(seen(&status(&running(), "False", AFTER)).state, InstanceState::Unready);
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let waiting = |reason: &str, message: &str| {
        let instance =
            seen(&status(&json!({ "waiting": { "reason": reason, "message": message } }), "False", BEFORE));
        (instance.state, instance.message)
    };
    assert_eq!(waiting("ContainerCreating", ""), (InstanceState::Starting, None));
    assert_eq!(waiting("CrashLoopBackOff", "back-off 10s"), (InstanceState::BackingOff, None));
    let (state, message) = waiting("ImagePullBackOff", "no such image");
    assert_eq!(
        (state, message.as_deref()),
        (InstanceState::BackingOff, Some("ImagePullBackOff: no such image"))
    );
    let pending = json!({
        "phase": "Pending",
        "conditions": [{ "type": "PodScheduled", "status": "False", "message": "0/1 nodes are available" }],
    });
    let instance = seen(&pending);
    assert_eq!(instance.message.as_deref(), Some("no node takes it: 0/1 nodes are available"));
    assert_eq!((instance.state, instance.endpoint), (InstanceState::Starting, None));
}

#[test]
fn what_the_cluster_says_is_kept_short_and_harmless() {
    let wild = format!("no \u{1b}[31m\r\n{}", "ä".repeat(5_000));
    let is_plain = |text: Option<String>| {
        let text = text.unwrap();
        assert!(text.contains("no  [31m"), "{text:?}");
        assert!(text.chars().count() <= limit::MESSAGE && !text.contains(char::is_control), "{text:?}");
    };
    is_plain(seen(&json!({ "phase": "Pending", "reason": "Evicted\n", "message": wild })).message);
    let waits = json!({ "waiting": { "reason": "ImagePullBackOff", "message": wild } });
    is_plain(seen(&status(&waits, "False", BEFORE)).message);
    let unscheduled = json!({ "type": "PodScheduled", "status": "False", "message": wild });
    is_plain(seen(&json!({ "phase": "Pending", "conditions": [unscheduled] })).message);
    let mut ended = status(&running(), "True", AFTER);
    let last = &mut ended["containerStatuses"][0]["lastState"]["terminated"];
    (last["reason"], last["message"]) = (json!("StartError"), json!(wild));
    is_plain(seen(&ended).last_exit.unwrap().reason);
}

#[test]
fn running_out_of_memory_is_said_in_words() {
    let mut status = status(&running(), "True", AFTER);
    status["containerStatuses"][0]["lastState"]["terminated"]["reason"] = json!("OOMKilled");
    assert!(seen(&status).last_exit.unwrap().reason.unwrap().contains("memory"));
}

#[test]
fn a_pod_whose_place_was_taken_is_no_instance() {
    assert_eq!(Instance::of(&pod(&json!({ "phase": "Failed", "reason": "Evicted" }))), None);
    assert_eq!(Instance::of(&Pod::default()), None);
}

#[test]
fn the_pods_that_follow_each_other_under_one_name_are_told_apart() {
    let mut pod = pod(&json!({ "phase": "Pending" }));
    let labels = pod.metadata.labels.as_mut().unwrap();
    labels.insert("apps.kubernetes.io/pod-index".into(), "3".into());
    let instance = Instance::of(&pod).unwrap();
    assert_eq!((instance.index, instance.status.ordinal), (Some(3), 3));
    assert_eq!(instance.status.id.as_str(), "s-1-blue-abc-x1-01234567");
}

#[test]
fn a_task_that_was_told_to_end_has_not_succeeded() {
    let ended = |asked: Option<&str>| {
        let exit = json!({ "terminated": { "exitCode": 0, "finishedAt": AFTER } });
        let mut pod = pod(&status(&exit, "False", AFTER));
        let labels = pod.metadata.labels.as_mut().unwrap();
        labels.remove(label::SLOT);
        labels.insert(label::TASK.into(), "o-1".into());
        pod.metadata.deletion_timestamp = asked.map(|at| serde_json::from_value(json!(at)).unwrap());
        pod.metadata.deletion_grace_period_seconds = Some(30);
        Instance::of(&pod).unwrap().status.last_exit.unwrap()
    };
    assert!(ended(None).is_success());
    // It is asked 30 seconds before this.
    assert!(!ended(Some("2026-01-01T00:01:30Z")).is_success());
    assert!(!ended(Some("2026-01-01T00:01:10Z")).is_success());
    assert!(ended(Some("2026-01-01T00:01:31Z")).is_success());
}
