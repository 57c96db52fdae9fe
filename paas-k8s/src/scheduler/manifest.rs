//! From a workload to the objects that run it.

use std::collections::BTreeMap;
use std::time::Duration;

use paas_core::model::{
    Check, Command, Digest, Limits, Mount, Probe, RevisionNumber, Source, Template, Workload,
};
use paas_core::{Error, Result};
use serde_json::{Map, Value, json};

use super::SchedulerConfig;
use super::part::{Kind, Part};
use crate::apply::REPLICAS;
use crate::label;
use crate::policy::ACCOUNT;
use companion::selector;

mod companion;

pub(super) use companion::companion;

/// The digest of the workload that was applied last.
pub(super) const APPLIED: &str = "paas-sdk.dev/applied";
/// Which revision each template belongs to, newest last.
pub(super) const REVISIONS: &str = "paas-sdk.dev/revisions";
/// The names of the volumes that each instance has: those of a StatefulSet can't be changed.
pub(super) const VOLUMES: &str = "paas-sdk.dev/volumes";
/// The name of the object that holds the values of the secrets that pods read.
pub(super) const SECRETS: &str = "paas-sdk.dev/secrets";
/// The digest of the template that a pod was made from.
pub(super) const TEMPLATE: &str = "paas-sdk.dev/template";
/// The name of the container that runs the service.
pub(super) const CONTAINER: &str = "app";
/// How many templates' revisions are remembered: more than there are pods of.
const REMEMBERED: usize = 4;
/// The group that may write to volumes.
const VOLUME_GROUP: u32 = 65_532;
/// What a claim asks for that nobody has made before.
const CLAIM: &str = "1Mi";
/// How long a program that is asked for its liveness may take to start, in checks.
const STARTING: u32 = 300;

/// The kind of the object that runs a workload.
pub(super) fn kind(workload: &Workload) -> Kind {
    if workload.is_task() {
        Kind::Job
    } else if workload.template.mounts.is_empty() {
        Kind::Deployment
    } else {
        Kind::StatefulSet
    }
}

/// What a workload is rendered with.
pub(super) struct Context<'a> {
    pub(super) platform: &'a str,
    pub(super) config: &'a SchedulerConfig,
    /// The object that holds the values of its secrets.
    pub(super) secret: Option<&'a str>,
    /// What runs it already.
    pub(super) known: Option<&'a Part>,
}

/// The object that runs a workload.
pub(super) fn owner(workload: &Workload, context: &Context<'_>) -> Result<Value> {
    let labels = label::of_workload(context.platform, &workload.key);
    let name = kind(workload).name(&workload.key);
    let selector = json!({ "matchLabels": selector(&workload.key) });
    let pod = pod(workload, &labels, context)?;
    let mut spec = Map::new();
    let mut set = |key: &str, value: Value| spec.insert(key.to_owned(), value);
    set("template", pod);
    match kind(workload) {
        Kind::Deployment => {
            set("selector", selector);
            set("revisionHistoryLimit", json!(2));
            set(
                "strategy",
                json!({
                    "type": "RollingUpdate",
                    "rollingUpdate": { "maxSurge": "25%", "maxUnavailable": 0 },
                }),
            );
        }
        Kind::StatefulSet => {
            set("selector", selector);
            set("serviceName", json!(name));
            set("podManagementPolicy", json!("Parallel"));
            set("revisionHistoryLimit", json!(2));
            set("updateStrategy", json!({ "type": "RollingUpdate" }));
            set(
                "persistentVolumeClaimRetentionPolicy",
                json!({ "whenDeleted": "Retain", "whenScaled": "Retain" }),
            );
            set("volumeClaimTemplates", claims(workload, &labels));
        }
        _ => {
            set("backoffLimit", json!(0));
            set("podReplacementPolicy", json!("Failed"));
        }
    }
    if let Some(replicas) = replicas(workload) {
        set("replicas", json!(replicas));
    }
    let metadata = json!({
        "name": name,
        "namespace": namespace(workload, context.platform),
        "labels": labels,
        "annotations": annotations(workload, context),
    });
    let resource = kind(workload).resource();
    Ok(
        json!({ "apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata, "spec": spec }),
    )
}

pub(super) fn volumes(workload: &Workload) -> String {
    workload.template.mounts.iter().map(|mount| mount.name.as_str()).collect::<Vec<_>>().join(" ")
}

fn namespace(workload: &Workload, platform: &str) -> String {
    label::namespace(platform, &workload.key.tenant, &workload.key.environment)
}

fn annotations(workload: &Workload, context: &Context<'_>) -> BTreeMap<&'static str, String> {
    let mut notes = BTreeMap::from([
        (APPLIED, workload.digest().to_string()),
        (REVISIONS, revisions(workload, context.known).to_string()),
        (VOLUMES, volumes(workload)),
        ("paas-sdk.dev/app-name", workload.labels.app.to_string()),
        ("paas-sdk.dev/service-name", workload.labels.service.to_string()),
    ]);
    notes.extend(context.secret.map(|name| (SECRETS, name.to_owned())));
    notes.extend(replicas(workload).map(|count| (REPLICAS, count.to_string())));
    notes
}

/// Left out, the count belongs to somebody else.
fn replicas(workload: &Workload) -> Option<u32> {
    workload.replicas.filter(|_| kind(workload) != Kind::Job)
}

/// Pods tell their template only: the revision is a label of it, and a new number alone must not replace them.
fn revisions(workload: &Workload, known: Option<&Part>) -> Value {
    let own = workload.template.digest();
    let mut all: Vec<(Digest, RevisionNumber)> =
        known.map(|known| known.revisions.clone()).unwrap_or_default();
    all.retain(|(digest, _)| *digest != own);
    all.push((own, workload.revision));
    let forgotten = all.len().saturating_sub(REMEMBERED);
    json!(all[forgotten..])
}

fn pod(workload: &Workload, labels: &BTreeMap<String, String>, context: &Context<'_>) -> Result<Value> {
    let template = &workload.template;
    let drain = if template.port.is_some() { seconds(context.config.drain) } else { 0 };
    let grace = seconds(template.grace) + drain;
    let mut security = json!({ "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } });
    if !template.mounts.is_empty() {
        security["fsGroup"] = json!(VOLUME_GROUP);
    }
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "serviceAccountName": ACCOUNT,
        "securityContext": security,
        "terminationGracePeriodSeconds": grace,
        "restartPolicy": if kind(workload) == Kind::Job { "Never" } else { "Always" },
        "containers": [container(workload, context)?],
    });
    if !context.config.pull_secrets.is_empty() {
        let names = context.config.pull_secrets.iter().map(|name| json!({ "name": name }));
        spec["imagePullSecrets"] = names.collect();
    }
    if kind(workload) != Kind::Job {
        spec["topologySpreadConstraints"] = json!([{
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": { "matchLabels": selector(&workload.key) },
        }]);
    }
    let annotations = json!({ TEMPLATE: template.digest() });
    Ok(json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": spec }))
}

/// The first image among the sources: `admit` has seen that there is one.
fn image(template: &Template) -> Result<&str> {
    let image = template.sources.iter().find_map(|source| match source {
        Source::Image(image) => Some(image.as_str()),
        _ => None,
    });
    image.ok_or_else(|| Error::unsupported("run what is no image"))
}

fn container(workload: &Workload, context: &Context<'_>) -> Result<Value> {
    let template = &workload.template;
    let mut container = json!({
        "name": CONTAINER,
        "image": image(template)?,
        "env": env(template),
        // The last lines of what ended with an error come with its status.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": { "drop": ["ALL"] },
        },
        "resources": resources(template.limits),
    });
    let mut set = |key: &str, value: Value| container[key] = value;
    if let Some(command) = &template.command {
        set("command", json!(arguments(command)?));
    }
    if let Some(secret) = context.secret {
        set("envFrom", json!([{ "secretRef": { "name": secret } }]));
    }
    if let Some(port) = template.port {
        set("ports", json!([{ "name": "main", "containerPort": port, "protocol": "TCP" }]));
        // Who routes to it is told while it still serves.
        let drain = seconds(context.config.drain);
        if drain > 0 {
            set("lifecycle", json!({ "preStop": { "sleep": { "seconds": drain } } }));
        }
    }
    let readiness = template.ready.as_ref().map(|ready| probe(ready, template.port)).transpose()?;
    let connects = template.port.map(|port| json!({ "tcpSocket": { "port": port }, "periodSeconds": 1 }));
    if let Some(readiness) = readiness.or(connects) {
        set("readinessProbe", readiness);
    }
    if let Some(live) = &template.live {
        let live = probe(live, template.port)?;
        let mut startup = live.clone();
        startup["failureThreshold"] = json!(STARTING);
        set("livenessProbe", live);
        set("startupProbe", startup);
    }
    if !template.mounts.is_empty() {
        set(
            "volumeMounts",
            template
                .mounts
                .iter()
                .map(|mount| json!({ "name": mount.name, "mountPath": mount_path(mount) }))
                .collect(),
        );
    }
    Ok(container)
}

fn mount_path(mount: &Mount) -> String {
    mount.path.clone().unwrap_or_else(|| format!("/data/{}", mount.name))
}

fn env(template: &Template) -> Value {
    let mut env = template.env.clone();
    if let Some(port) = template.port {
        env.insert("PORT".into(), port.to_string());
    }
    for mount in &template.mounts {
        let name = mount.name.as_str().to_ascii_uppercase().replace('-', "_");
        env.insert(format!("VOLUME_{name}"), mount_path(mount));
    }
    let own =
        json!({ "name": "PAAS_INSTANCE_ID", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } });
    let values = env.iter().map(|(name, value)| json!({ "name": name, "value": literal(value) }));
    values.chain([own]).collect()
}

/// Text as the kubelet gives it on unchanged: to it, `$(NAME)` stands for a variable and `$$` for a dollar sign.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

/// A command line whose variables the kubelet fills in: those from secrets are not known here.
fn arguments(command: &Command) -> Result<Vec<String>> {
    // No argument has these characters in a name, so that text which only looks like a reference stays text.
    const BEGIN: char = '\u{1}';
    const END: char = '\u{2}';
    let marked = command.expand_with(|name| Some(format!("{BEGIN}{name}{END}")))?;
    let written = |argument: String| literal(&argument).replace(BEGIN, "$(").replace(END, ")");
    Ok(marked.into_iter().map(written).collect())
}

fn resources(limits: Limits) -> Value {
    let mut amounts = Map::new();
    if let Some(cpu) = limits.cpu {
        amounts.insert("cpu".into(), json!(format!("{}m", cpu.millis)));
    }
    if let Some(memory) = limits.memory {
        amounts.insert("memory".into(), json!(memory.0.to_string()));
    }
    json!({ "limits": amounts.clone(), "requests": amounts })
}

/// Whole seconds are all that there are, and less than one is one.
fn seconds(duration: Duration) -> u128 {
    duration.as_millis().div_ceil(1_000)
}

fn probe(probe: &Probe, port: Option<u16>) -> Result<Value> {
    let port =
        || port.ok_or_else(|| Error::invalid("a service without a port cannot be asked over the network"));
    let (word, check) = match &probe.check {
        Check::Http(path) => ("httpGet", json!({ "path": path, "port": port()? })),
        Check::Tcp => ("tcpSocket", json!({ "port": port()? })),
        Check::Command(command) => ("exec", json!({ "command": arguments(command)? })),
    };
    Ok(json!({
        word: check,
        "periodSeconds": seconds(probe.every),
        "timeoutSeconds": seconds(probe.timeout),
        "failureThreshold": probe.failures,
    }))
}

/// The claims that each instance has one of each of. They were made before, of the size that was asked for; what stands
/// here can never be changed, so it says as little as it may.
fn claims(workload: &Workload, labels: &BTreeMap<String, String>) -> Value {
    let claim = |mount: &Mount| {
        json!({
            "metadata": { "name": mount.name, "labels": labels },
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": CLAIM } },
            },
        })
    };
    workload.template.mounts.iter().map(claim).collect()
}

#[cfg(test)]
mod tests;
