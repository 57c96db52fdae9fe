//! A Kubernetes cluster: instances are pods, and a Gateway brings requests to them.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::ground::{Bounds, Ground, Known};
use super::{Outcome, STEP_TIME, Tour, Trouble, millis, so};
use crate::kubectl::{self, kubectl};
use crate::load::{Service, Target};
use crate::options::ClusterOptions;
use crate::report::Apart;

/// How soon what somebody else has deleted should be there again, and how late it is wrong.
const MENDED: Duration = Duration::from_secs(2);
const LATEST: Duration = Duration::from_secs(10);

/// A platform of our own on the cluster of the kubeconfig.
#[derive(Debug)]
pub(super) struct Cluster {
    context: String,
    platform: String,
    gateway: String,
    address: String,
    images: Option<String>,
}

impl Cluster {
    pub(super) async fn new(options: ClusterOptions) -> Outcome<Self> {
        let gateway = kubectl::gateway(options.gateway.as_deref()).await?;
        let address = match options.address {
            Some(address) => address,
            None => kubectl::address(&gateway).await?,
        };
        let context = kubectl(&["config", "current-context"]).await?.trim().to_owned();
        // Another tour may be on its way there, or have died.
        let platform = format!("tour-{}", std::process::id());
        Ok(Self { context, platform, gateway, address, images: options.images })
    }

    fn domain(&self) -> String {
        format!("{}.localhost", self.platform)
    }

    fn label(&self) -> String {
        format!("paas-sdk.dev/platform={}", self.platform)
    }

    /// Objects of ours, of one kind, in all namespaces.
    async fn list(&self, kind: &str, more: &str) -> Outcome<Vec<Value>> {
        let label = format!("{}{more}", self.label());
        let listed = kubectl(&["get", kind, "--all-namespaces", "-l", &label, "-o", "json"]).await?;
        let listed: Value = serde_json::from_str(&listed).map_err(|error| error.to_string())?;
        Ok(listed["items"].as_array().cloned().unwrap_or_default())
    }

    /// The only object of a kind that has these labels beside our own.
    async fn only(&self, kind: &str, more: &str) -> Outcome<Value> {
        let mut all = self.list(kind, more).await?;
        match (all.pop(), all.is_empty()) {
            (Some(object), true) => Ok(object),
            _ => Err(format!("there is not one of the {kind} with the labels {}{more}", self.label())),
        }
    }

    /// Selects what belongs to the slot of a service that calls go to.
    async fn serving(&self, service: &Known) -> Outcome<String> {
        let own = of(service);
        let services = self.list("services", &own).await?;
        let slot = services.iter().find_map(|it| it["metadata"]["annotations"]["paas-sdk.dev/main"].as_str());
        // A word of JSON, quotes and all.
        let slot = slot.ok_or_else(|| format!("no Service of {} says where it leads", service.name))?;
        Ok(format!("{own},paas-sdk.dev/slot={}", slot.trim_matches('"')))
    }
}

/// Selects what belongs to a service.
fn of(service: &Known) -> String {
    format!(",paas-sdk.dev/service={}", service.id)
}

/// The namespace and the name of an object, as one word.
fn place(object: &Value) -> String {
    let word = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("{}/{}", word("namespace"), word("name"))
}

fn split(place: &str) -> Outcome<(&str, &str)> {
    place.split_once('/').ok_or_else(|| format!("{place} is no name of an object"))
}

/// Deletes an object as a person would.
async fn delete(kind: &str, place: &str, more: &[&str]) -> Outcome {
    let (namespace, name) = split(place)?;
    kubectl(&[&["delete", kind, "-n", namespace, name, "--wait=false"], more].concat()).await.map(drop)
}

#[async_trait(?Send)]
impl Ground for Cluster {
    fn bounds(&self) -> Bounds {
        Bounds {
            // Only domains are weighted: calls between services follow the slot with the greater weight.
            canary: Service::Web,
            counts_errors: false,
            victims: &["web", "api"],
            lost: Trouble::None,
            step: 2_000,
            total: 50_000,
            measured: 4_000,
            tour: Duration::from_secs(300),
            // Longer than the shop uses a connection.
            quiet: Duration::from_millis(2_500),
            ready: Duration::from_secs(2),
            route: Duration::from_millis(100),
        }
    }

    fn describe(&self) -> String {
        format!("a platform of our own, {}, starts on the cluster {}", self.platform, self.context)
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments =
            vec!["--kubernetes", "--keep", "--platform", &self.platform, "--gateway", &self.gateway];
        let domain = self.domain();
        arguments.extend(["--address", &self.address, "--domain", &domain]);
        arguments.extend(self.images.iter().flat_map(|prefix| ["--images", prefix]));
        arguments.into_iter().map(str::to_owned).collect()
    }

    fn target(&self, _: Option<&str>) -> Outcome<Target> {
        let unknown =
            |why: &dyn std::fmt::Display| format!("{} is not where a Gateway answers: {why}", self.address);
        let mut found = self.address.to_socket_addrs().map_err(|error| unknown(&error))?;
        let address = found.next().ok_or_else(|| unknown(&"the name has no address"))?;
        let pause = Duration::from_millis(50);
        Ok(Target { address, host: self.domain(), canary: Service::Web, pause })
    }

    async fn instances(&self, service: &Known) -> Outcome<BTreeSet<String>> {
        let pods = self.list("pods", &format!("{},paas-sdk.dev/slot", of(service))).await?;
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        Ok(pods.iter().filter(stays).map(place).collect())
    }

    async fn kill(&self, instance: &str) -> Outcome {
        delete("pod", instance, &[]).await
    }

    async fn leftovers(&self) -> Outcome<BTreeSet<String>> {
        let mut left: BTreeSet<String> = self.list("pods", "").await?.iter().map(place).collect();
        left.extend(self.list("namespaces", "").await?.iter().map(place));
        Ok(left)
    }

    async fn clear(&self) -> Outcome {
        let namespaces = self.list("namespaces", "").await?;
        kubectl(&["delete", "namespaces", "-l", &self.label(), "--wait=false"]).await?;
        for namespace in &namespaces {
            let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
            // Nobody asks for anything any more: there is nothing to wait for.
            kubectl(&["delete", "pods", "-n", name, "--all", "--force", "--grace-period=0", "--wait=false"])
                .await?;
        }
        so("the end of all namespaces", STEP_TIME, async || Ok(self.leftovers().await?.is_empty())).await
    }

    async fn picture(&self) -> Vec<String> {
        const EVENTS: [&str; 3] = [
            "--field-selector=type=Warning",
            "--sort-by=.lastTimestamp",
            "-o=custom-columns=AT:.lastTimestamp,ABOUT:.involvedObject.name,REASON:.reason,MESSAGE:.message",
        ];
        let mut lines = Vec::new();
        let namespaces = self.list("namespaces", "").await.unwrap_or_default();
        for namespace in namespaces.iter().filter_map(|it| it["metadata"]["name"].as_str()) {
            for what in [&["deployments,statefulsets,jobs,pods"][..], &[&["events"], &EVENTS[..]].concat()] {
                let seen = kubectl(&[&["get", "-n", namespace], what].concat()).await;
                let seen = seen.unwrap_or_else(|error| error);
                let all: Vec<&str> = seen.lines().collect();
                lines.extend(all[all.len().saturating_sub(25)..].iter().map(|line| (*line).to_owned()));
            }
        }
        lines
    }
}

/// The steps that only a cluster has.
impl Tour<'_> {
    /// Kills the platform in the middle of a rolling release: the cluster goes on with it.
    pub(super) async fn kill_platform_amid_release(&mut self) -> Outcome {
        let began = Instant::now();
        let web = self.known("web").await?;
        let before = self.ground.instances(&web).await?;
        self.change("web", "6.0.0", Some(json!("rolling")))?;
        self.load.set_rules(|rules| {
            rules.web.insert("6.0.0".to_owned());
        });
        let operation = self.operate(&self.deploy()).await?;
        so("the first new pod", STEP_TIME, async || {
            let now = self.ground.instances(&web).await?;
            Ok(now.difference(&before).next().is_some())
        })
        .await?;
        self.platform.kill().await?;
        let killed = Instant::now();
        if self.only(Service::Web, "6.0.0", killed).await?.is_zero() {
            self.report.wrong("the release was over before the platform was killed".to_owned());
        }
        let rolled = killed.elapsed();
        let now = self.ground.instances(&web).await?;
        if !now.is_disjoint(&before) {
            self.report.wrong("old pods are left of a release that the cluster was to finish".to_owned());
        }
        self.start_again().await?;
        self.finished(&operation).await?;
        self.settled().await?;
        if self.ground.instances(&web).await? != now {
            self.report.wrong("a new platform exchanged pods instead of adopting them".to_owned());
        }
        self.enough(began, self.bounds.step).await?;
        let notes = format!("amid a rolling release of web, over {} later without it", millis(rolled));
        self.note("kill -9 of the platform", began, &notes);
        Ok(())
    }

    /// Somebody deletes what the platform has made.
    pub(super) async fn deleted_by_somebody(&mut self, cluster: &Cluster) -> Outcome {
        let began = Instant::now();
        let (web, api) = (self.known("web").await?, self.known("api").await?);
        let pods = cluster.instances(&api).await?;
        let (web_serves, api_serves) = (cluster.serving(&web).await?, cluster.serving(&api).await?);
        let again = self.put_back(cluster, "deployments", &api_serves, &["--cascade=orphan"]).await?;
        self.settled().await?;
        if cluster.instances(&api).await? != pods {
            self.report.wrong("a deployment that was put back has exchanged its pods".to_owned());
        }
        let policy = self.put_back(cluster, "networkpolicies", &web_serves, &[]).await?;
        self.figure_of_mending("deployment, deleted to there again", again);
        self.figure_of_mending("network policy, deleted to there again", policy);
        self.enough(began, self.bounds.step).await?;
        self.note("deletion of objects", began, "a deployment and a network policy are put back");

        let began = Instant::now();
        let since = self.watch();
        self.amid(Trouble::Unrouted, async |tour| {
            tour.put_back(cluster, "httproutes", &of(&web), &[]).await?;
            tour.healed(began).await
        })
        .await?;
        let tally = self.load.take();
        let (gap, broken) = (tally.gap(since), tally.apart_of(Apart::Gap));
        self.figure_of_mending("route, deleted to answers again", gap);
        self.finish_step(
            "deletion of the route",
            began,
            tally,
            &format!("gap {}, {broken} apart", millis(gap)),
        );
        Ok(())
    }

    /// Deletes the only object of a kind that has these labels; gives how long it takes until there is another.
    async fn put_back(
        &mut self,
        cluster: &Cluster,
        kind: &str,
        labels: &str,
        more: &[&str],
    ) -> Outcome<Duration> {
        let before = cluster.only(kind, labels).await?;
        self.load.transition();
        let deleted = Instant::now();
        delete(kind, &place(&before), more).await?;
        so("what was deleted", LATEST, async || {
            let now = cluster.list(kind, labels).await?;
            Ok(now.iter().any(|now| now["metadata"]["uid"] != before["metadata"]["uid"]))
        })
        .await?;
        Ok(deleted.elapsed())
    }

    fn figure_of_mending(&mut self, name: &'static str, took: Duration) {
        self.report.figure(name, millis(took), "<= 2000 ms", took <= MENDED);
        if took > LATEST {
            self.report.wrong(format!("{name}: only after {}", millis(took)));
        }
    }
}
