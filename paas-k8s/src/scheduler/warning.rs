//! What the cluster warns of where the objects do not say it themselves: a probe's answer, a refusal to make pods.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::Event;
use kube::Api;
use kube::api::{ListParams, ObjectList, ObjectMeta, WatchEvent, WatchParams};
use paas_core::model::Timestamp;

use super::cache::Cache;
use super::pod::at;
use crate::error::brief;
use crate::follow::Shelf;
use crate::watch::Source;

/// What a pod's own status says better.
const TOLD: [&str; 3] = ["BackOff", "Failed", "FailedScheduling"];

/// Why an image may not be pulled, where the pod's own status tells only what the registry has answered.
const NO_SECRET: &str = "FailedToRetrieveImagePullSecret";

/// Who a warning is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A pod, by its uid.
    Pod(String),
    /// What owns pods, by its place.
    Owner { namespace: String, name: String },
}

/// A warning, as far as a person should know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Warning {
    pub(super) subject: Subject,
    pub(super) text: String,
    pub(super) at: Timestamp,
    /// Whether it says why an image may not be pulled. It comes wherever a secret is missing, needed or not.
    pub(super) is_about_pulling: bool,
}

impl Warning {
    /// What an event warns of, if it may concern workloads.
    pub(super) fn of(event: &Event) -> Option<Self> {
        let about = &event.involved_object;
        let reason = event.reason.as_deref()?;
        let name = || about.name.clone();
        let owner = |name| Some(Subject::Owner { namespace: about.namespace.clone()?, name });
        let subject = match about.kind.as_deref()? {
            "Pod" if !TOLD.contains(&reason) => Subject::Pod(about.uid.clone()?),
            "StatefulSet" | "Job" if reason == "FailedCreate" => owner(name()?)?,
            // A Deployment makes its pods through another object, whose name begins with its own.
            "ReplicaSet" if reason == "FailedCreate" => owner(name()?.rsplit_once('-')?.0.to_owned())?,
            _ => return None,
        };
        let message = event.message.as_deref().unwrap_or_default();
        let message = message.strip_prefix("Error creating: ").unwrap_or(message).trim();
        let text = if message.is_empty() { reason } else { message };
        Some(Self { subject, text: brief(text), at: time(event), is_about_pulling: reason == NO_SECRET })
    }
}

/// When it was last warned of.
fn time(event: &Event) -> Timestamp {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let precise = series.or(event.event_time.as_ref());
    let whole = event.last_timestamp.as_ref().or(event.first_timestamp.as_ref());
    let known = precise.map(|time| Timestamp(u64::try_from(time.0.as_millisecond()).unwrap_or(0)));
    known
        .max(whole.map(at))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(at))
        .unwrap_or_default()
}

/// All warnings of a cluster: events carry no labels.
pub(super) struct Warnings(pub(super) Api<Event>);

const WARNINGS: &str = "type=Warning";

#[async_trait]
impl Source for Warnings {
    type Object = Event;

    /// There may be many of them, small ones.
    const PAGE: u32 = 500;

    async fn list(&self, params: &ListParams) -> kube::Result<ObjectList<Event>> {
        self.0.list(&params.clone().fields(WARNINGS)).await
    }

    async fn watch(
        &self,
        params: &WatchParams,
        version: &str,
    ) -> kube::Result<BoxStream<'static, kube::Result<WatchEvent<Event>>>> {
        self.0.watch(&params.clone().fields(WARNINGS), version).await.map(StreamExt::boxed)
    }

    fn meta(event: &Event) -> &ObjectMeta {
        &event.metadata
    }
}

/// Gives the cache what concerns it. That an event is gone means only that it is old.
pub(super) struct Words(pub(super) Arc<Cache>);

impl Shelf<Event> for Words {
    fn put(&self, event: Event) {
        if let Some(warning) = Warning::of(&event) {
            self.0.warn(warning);
        }
    }

    fn remove(&self, _: &str, _: u64) {}

    fn keep(&self, _: &HashSet<String>, _: u64) {}

    fn reset(&self) {}
}

#[cfg(test)]
mod tests {
    use paas_core::model::limit;
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, name: &str, reason: &str, message: &str) -> Event {
        serde_json::from_value(json!({
            "metadata": { "name": "it", "namespace": "room" },
            "involvedObject": { "kind": kind, "name": name, "namespace": "room", "uid": "u-1" },
            "type": "Warning", "reason": reason, "message": message,
            "lastTimestamp": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    fn warning(kind: &str, name: &str, reason: &str, message: &str) -> Option<(Subject, String)> {
        Warning::of(&event(kind, name, reason, message)).map(|warning| (warning.subject, warning.text))
    }

    #[test]
    fn a_refusal_is_about_what_makes_pods() {
        let owner = |name: &str| Subject::Owner { namespace: "room".into(), name: name.into() };
        let said = r#"Error creating: pods "web-blue-7d-x1" is forbidden: exceeded quota: paas"#;
        let text = said.strip_prefix("Error creating: ").unwrap().to_owned();
        let refused = |kind, name| warning(kind, name, "FailedCreate", said);
        assert_eq!(refused("ReplicaSet", "web-blue-7d"), Some((owner("web-blue"), text.clone())));
        assert_eq!(refused("StatefulSet", "web-blue"), Some((owner("web-blue"), text.clone())));
        assert_eq!(refused("Job", "web-0a"), Some((owner("web-0a"), text)));
        assert_eq!(refused("ReplicaSet", "nodash"), None);
        assert_eq!(refused("DaemonSet", "web-blue"), None);
        assert_eq!(warning("StatefulSet", "web-blue", "FailedDelete", "no"), None);
    }

    #[test]
    fn a_probes_answer_is_about_its_pod() {
        let said = "Readiness probe failed: HTTP probe failed with statuscode: 503";
        let pod = Subject::Pod("u-1".into());
        assert_eq!(warning("Pod", "it", "Unhealthy", said), Some((pod.clone(), said.into())));
        assert_eq!(warning("Pod", "it", "FailedMount", " "), Some((pod, "FailedMount".into())));
        for told in TOLD {
            assert_eq!(warning("Pod", "it", told, said), None);
        }
    }

    #[test]
    fn the_time_is_the_latest_that_it_tells() {
        let times = |times: Value| {
            let mut event = serde_json::to_value(event("Pod", "it", "Unhealthy", "no")).unwrap();
            event.as_object_mut().unwrap().remove("lastTimestamp");
            times.as_object().unwrap().iter().for_each(|(name, time)| event[name] = time.clone());
            Warning::of(&serde_json::from_value(event).unwrap()).unwrap().at.0
        };
        let series = json!({ "count": 2, "lastObservedTime": "1970-01-01T00:00:03.250000Z" });
        assert_eq!(times(json!({ "eventTime": "1970-01-01T00:00:01.500000Z", "series": series })), 3_250);
        assert_eq!(times(json!({ "firstTimestamp": "1970-01-01T00:00:01Z" })), 1_000);
        assert_eq!(times(json!({})), 0);
    }

    #[test]
    fn what_it_says_is_kept_short_and_harmless() {
        let wild = format!("no\u{1b}[31m\n{}", "ä".repeat(5_000));
        let (_, text) = warning("Pod", "it", "Unhealthy", &wild).unwrap();
        assert!(text.starts_with("no [31m ä") && !text.contains(char::is_control), "{text:?}");
        assert_eq!(text.chars().count(), limit::MESSAGE);
    }
}
