//! A platform that runs as pods of the cluster it works on, installed in the way that its documentation tells.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, Pod, PodTemplateSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::ResourceExt;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, LogParams};
use paas_k8s::Rbac;
use serde_json::json;

use super::client::{Target, request};
use super::export::kubectl;
use super::*;

pub(super) const CASES: &[(&str, Case)] = cases![a_platform_inside_the_cluster_runs_an_app];

/// What a person applies.
const MANIFEST: &str = include_str!("../../../examples/kubernetes/platform.yaml");
/// The example `kubernetes`, as the testbed packs it.
const IMAGE: &str = "testbed.local/platform:1";
/// What it is asked to deploy.
const APP: [&str; 2] = ["testbed.local/instance:1", "8080"];
const GATEWAY: &str = "default/testbed";
const EPOCH: &str = "paas-sdk.dev/epoch";

/// A platform on the cluster, seen by somebody who is no part of it.
struct Inside {
    name: String,
    client: Client,
    /// What its pods are made from.
    pod: PodTemplateSpec,
}

/// Who leads, and in which term.
#[derive(Clone, Debug, PartialEq)]
struct Term {
    holder: String,
    epoch: i32,
}

impl Inside {
    /// Applies the rights, then the Deployment, in a namespace as strict as an operator may make it; waits until all its
    /// pods run.
    async fn install() -> Result<Self> {
        let (name, mut config) = (unique_name(), BackendsConfig::default());
        config.router = config.router.gateway("default", "testbed");
        let mut access = Rbac::new(&ConnectionConfig::default().platform(&name), &config)?;
        let strict = ("pod-security.kubernetes.io/enforce".into(), "restricted".into());
        access.namespace.metadata.labels.get_or_insert_default().extend([strict]);
        kubectl(&["apply", "-f", "-"], &access.to_yaml()?).await;
        let mut platform: Deployment = serde_saphyr::from_str(MANIFEST).unwrap();
        platform.metadata.namespace = Some(name.clone());
        let spec = platform.spec.as_mut().unwrap();
        let variable = |name: &str, value: &str| EnvVar {
            name: name.into(),
            value: Some(value.into()),
            ..EnvVar::default()
        };
        let container = container(&mut spec.template);
        container.image = Some(IMAGE.into());
        container.env = Some(vec![variable("PAAS_PLATFORM", &name), variable("PAAS_GATEWAY", GATEWAY)]);
        let own = Self { pod: spec.template.clone(), client: client().await?, name };
        kubectl(&["apply", "-f", "-"], &json!(platform).to_string()).await;
        until("its replicas run", async || Ok((own.replicas().await?.len() == 2).then_some(()))).await?;
        Ok(own)
    }

    /// The names of its pods that run. None of their containers has ended and was started again.
    async fn replicas(&self) -> Result<Vec<String>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.name);
        let found = pods.list(&ListParams::default().labels("app=paas-platform")).await.map_err(broken)?;
        let mut running = Vec::new();
        for pod in found {
            let Some([container]) = pod.status.as_ref().and_then(|own| own.container_statuses.as_deref())
            else {
                continue;
            };
            assert_eq!(container.restart_count, 0, "{container:?}");
            if container.ready && pod.metadata.deletion_timestamp.is_none() {
                running.push(pod.name_any());
            }
        }
        Ok(running)
    }

    /// The term of a leader, who is another than in `last`.
    async fn led(&self, last: Option<&Term>) -> Result<(Term, Duration)> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), &self.name);
        until("a replica leads", async || {
            let spec = leases.list(&ListParams::default()).await.map_err(broken)?.items.pop();
            let Some(spec) = spec.and_then(|lease| lease.spec) else { return Ok(None) };
            let Some(holder) = spec.holder_identity else { return Ok(None) };
            let term = Term { holder, epoch: spec.lease_transitions.unwrap() };
            Ok(last.is_none_or(|last| last.holder != term.holder).then_some(term))
        })
        .await
    }

    /// Runs the program once more, in a pod that ends: what a person does at a desk, by the account of the platform.
    async fn ask(&self, step: &str, arguments: &[&str]) -> Result<()> {
        let mut pod = self.pod.clone();
        pod.metadata = None;
        container(&mut pod).args = Some(arguments.iter().map(ToString::to_string).collect());
        let spec = pod.spec.as_mut().unwrap();
        (spec.restart_policy, spec.topology_spread_constraints) = (Some("Never".into()), None);
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": step, "namespace": self.name },
            "spec": { "backoffLimit": 0, "template": pod },
        });
        kubectl(&["apply", "-f", "-"], &job.to_string()).await;
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &self.name);
        let (has_succeeded, _) = until(step, async || {
            let status = jobs.get(step).await.map_err(broken)?.status.unwrap_or_default();
            Ok((status.succeeded == Some(1)).then_some(true).or((status.failed == Some(1)).then_some(false)))
        })
        .await?;
        assert!(has_succeeded, "{step}: {}", self.said(step).await);
        Ok(())
    }

    /// What the pod of a Job wrote.
    async fn said(&self, step: &str) -> String {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.name);
        let its = ListParams::default().labels(&format!("job-name={step}"));
        let Some(pod) = pods.list(&its).await.unwrap().items.pop() else { return "it has no pod".into() };
        pods.logs(&pod.name_any(), &LogParams::default()).await.unwrap()
    }

    fn labels(&self) -> ListParams {
        ListParams::default().labels(&format!("paas-sdk.dev/platform={}", self.name))
    }

    /// The app's only Deployment.
    async fn app(&self) -> Result<Option<Deployment>> {
        let all: Api<Deployment> = Api::all(self.client.clone());
        let mut found = all.list(&self.labels()).await.map_err(broken)?.items;
        assert!(found.len() <= 1, "{found:?}");
        Ok(found.pop())
    }

    /// The app runs, is served, and was written in this term.
    async fn expect_app(&self, term: &Term) -> Result<()> {
        let app = self.app().await?.unwrap();
        assert_eq!(app.annotations()[EPOCH], term.epoch.to_string());
        assert_eq!(app.status.unwrap_or_default().ready_replicas, Some(2));
        let records: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.name);
        let apps = ListParams::default().labels("paas-sdk.dev/kind=app");
        assert_eq!(records.list(&apps).await.map_err(broken)?.items.len(), 1);
        let (ip, port) = address(&self.client, &self.labels()).await?;
        let target = Target { ip, port, host: "hello".into(), keeps: false };
        until("the app answers", async || Ok(request(&target).await.ok())).await?;
        Ok(())
    }

    /// The domain is served, by a route that was written in this term.
    async fn expect_domain(&self, host: &str, term: &Term) -> Result<()> {
        let kind =
            ApiResource::from_gvk(&GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"));
        let routes: Api<DynamicObject> = Api::all_with(self.client.clone(), &kind);
        let routes = routes.list(&self.labels()).await.map_err(broken)?.items;
        assert_eq!(routes.len(), 1);
        assert_eq!(routes[0].annotations()[EPOCH], term.epoch.to_string());
        let target = Target { ip: "172.30.0.1".into(), port: 80, host: host.into(), keeps: false };
        until("the domain answers", async || Ok(request(&target).await.ok())).await?;
        Ok(())
    }

    async fn end(self) -> Result<()> {
        let params = DeleteParams::default();
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        for namespace in namespaces.list(&self.labels()).await.map_err(broken)? {
            namespaces.delete(&namespace.name_any(), &params).await.map_err(broken)?;
        }
        let (bindings, roles) = (
            Api::<ClusterRoleBinding>::all(self.client.clone()),
            Api::<ClusterRole>::all(self.client.clone()),
        );
        bindings.delete_collection(&params, &self.labels()).await.map_err(broken)?;
        roles.delete_collection(&params, &self.labels()).await.map(drop).map_err(broken)
    }
}

fn container(pod: &mut PodTemplateSpec) -> &mut Container {
    let containers = &mut pod.spec.as_mut().unwrap().containers;
    assert_eq!(containers.len(), 1);
    &mut containers[0]
}

/// Sends a signal to the process that is the replica in this pod: the machine sees those of the cluster.
async fn signal(signal: &str, pod: &str) {
    let (platform, own) = (&b"PAAS_PLATFORM="[..], format!("HOSTNAME={pod}"));
    let is_it = |process: &std::fs::DirEntry| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        variables.clone().any(|it| it.starts_with(platform)) && variables.any(|it| it == own.as_bytes())
    };
    let processes: Vec<_> = std::fs::read_dir("/proc").unwrap().flatten().filter(is_it).collect();
    assert_eq!(processes.len(), 1, "{processes:?}");
    let sent = tokio::process::Command::new("kill").arg(signal).arg(processes[0].file_name()).status().await;
    assert!(sent.unwrap().success());
}

async fn a_platform_inside_the_cluster_runs_an_app() -> Result<()> {
    let inside = Inside::install().await?;
    let replicas = inside.replicas().await?;
    let (first, _) = inside.led(None).await?;
    assert!(replicas.contains(&first.holder), "{first:?} is none of {replicas:?}");
    inside.ask("deploy", &APP).await?;
    inside.expect_app(&first).await?;

    // Frozen, a leader says nothing, and does not know that its term ends.
    signal("-STOP", &first.holder).await;
    let (second, _) = inside.led(Some(&first)).await?;
    assert!(replicas.contains(&second.holder) && second.epoch > first.epoch, "{second:?} after {first:?}");
    let host = format!("{}.example.com", inside.name);
    inside.ask("publish", &[APP[0], APP[1], &host]).await?;
    inside.expect_domain(&host, &second).await?;
    signal("-CONT", &first.holder).await;

    // Asked to end, a leader lets the term go: nobody waits until it is over.
    let pods: Api<Pod> = Api::namespaced(inside.client.clone(), &inside.name);
    pods.delete(&second.holder, &DeleteParams::default()).await.map_err(broken)?;
    let (third, took) = inside.led(Some(&second)).await?;
    assert!(third.epoch > second.epoch, "{third:?} after {second:?}");
    assert!(took < EngineConfig::default().lease, "it took {took:?}");
    inside.ask("remove", &["--remove"]).await?;
    assert!(inside.app().await?.is_none());
    inside.replicas().await?;
    inside.end().await
}
