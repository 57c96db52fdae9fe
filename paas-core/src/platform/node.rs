//! The nodes that instances run on, for those who run the platform.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Platform;
use crate::model::{Action, Blocked, Drain, Node, NodeName, Principal, Resource, Scope};
use crate::port::Cluster;
use crate::{Error, ErrorKind, Result};

/// How long to wait before a node is asked again how empty it is, where the cluster does not say.
const PAUSE: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// Of how much that is left on a node an error tells.
const TOLD: usize = 5;

impl Platform {
    fn cluster(&self, op: &'static str) -> Result<&Arc<dyn Cluster>> {
        self.0.cluster.as_ref().ok_or_else(|| Error::unsupported(op))
    }

    /// All nodes by name, with what they have and what of it is taken.
    ///
    /// # Errors
    /// `Denied` unless the principal may read the whole platform; `Unsupported` where there is no [`Cluster`] backend.
    pub async fn nodes(&self, principal: &Principal) -> Result<Vec<Node>> {
        let scope = self.0.allow(principal, Action::Read, Resource::Platform).await?;
        self.cluster("nodes")?.nodes(&scope).await
    }

    /// Says that a node takes no new instances; those there stay. Idempotent.
    ///
    /// # Errors
    /// `NotFound` where there is no such node; `Denied` unless the principal may operate the whole platform;
    /// `Unsupported` where there is no [`Cluster`] backend.
    pub async fn cordon(&self, principal: &Principal, node: &NodeName) -> Result<()> {
        let summary = format!("cordon node {node}");
        let permit = self.0.permit(principal, Action::Operate, Resource::Platform, summary).await?;
        let cordon = async { self.cluster("cordon")?.cordon(permit.scope(), node).await };
        let outcome = cordon.await;
        permit.finish(outcome).await
    }

    /// Says that a node takes new instances again. Idempotent.
    ///
    /// # Errors
    /// As [`Platform::cordon`].
    pub async fn uncordon(&self, principal: &Principal, node: &NodeName) -> Result<()> {
        let summary = format!("uncordon node {node}");
        let permit = self.0.permit(principal, Action::Operate, Resource::Platform, summary).await?;
        let uncordon = async { self.cluster("uncordon")?.uncordon(permit.scope(), node).await };
        let outcome = uncordon.await;
        permit.finish(outcome).await
    }

    /// Empties a node: cordons it, and lets what runs there move elsewhere as [`Cluster::drain`] tells, within `deadline`.
    /// `progress` is told after every step how far it is. `Ok` means that nothing is left there but what belongs to the
    /// node; it stays cordoned until [`Platform::uncordon`].
    ///
    /// Whoever drops the future, or meets the deadline, stops asking and nothing else: another call goes on from there.
    ///
    /// # Errors
    /// `Timeout` with what is left, `Conflict` with what somebody has to look after first, where nothing else is left;
    /// else as [`Platform::cordon`].
    pub async fn drain(
        &self,
        principal: &Principal,
        node: &NodeName,
        deadline: Duration,
        progress: impl FnMut(&Drain) + Send,
    ) -> Result<Drain> {
        let summary = format!("drain node {node}");
        let permit = self.0.permit(principal, Action::Operate, Resource::Platform, summary).await?;
        let outcome = match self.cluster("drain") {
            Ok(cluster) => drain(&**cluster, permit.scope(), node, deadline, progress).await,
            Err(error) => Err(error),
        };
        permit.finish(outcome).await
    }
}

async fn drain(
    cluster: &dyn Cluster,
    scope: &Scope,
    node: &NodeName,
    deadline: Duration,
    mut progress: impl FnMut(&Drain) + Send,
) -> Result<Drain> {
    let began = Instant::now();
    loop {
        let (left, pause) = match cluster.drain(scope, node).await {
            Ok(drain) => {
                progress(&drain);
                if drain.is_done() {
                    return Ok(drain);
                }
                if drain.is_stuck() {
                    let error = Error::conflict(
                        "what is left on the node can't leave: look after it, then call again",
                    );
                    return Err(error.with("node", node).with("left", told(&drain.blocked)));
                }
                (late(&drain), drain.again.unwrap_or(PAUSE))
            }
            // A cluster that is away for a moment is no reason to stop.
            Err(error) if error.is_retryable() => {
                let pause = error.retry_after().unwrap_or(PAUSE);
                (error, pause)
            }
            Err(error) => return Err(error),
        };
        let remaining = deadline.saturating_sub(began.elapsed());
        if remaining.is_zero() {
            return Err(left);
        }
        tokio::time::sleep(pause.clamp(SHORTEST, LONGEST).min(remaining)).await;
    }
}

fn late(drain: &Drain) -> Error {
    let leaving: Vec<&str> = drain.leaving.iter().take(TOLD).map(|occupant| &*occupant.name).collect();
    Error::new(ErrorKind::Timeout, "the node is not empty yet: call again to go on")
        .with("node", &drain.node)
        .with("leaving", format!("{} ({})", drain.leaving.len(), leaving.join(", ")))
        .with("blocked", told(&drain.blocked))
}

fn told(blocked: &[Blocked]) -> String {
    let first: Vec<String> = blocked.iter().take(TOLD).map(ToString::to_string).collect();
    format!("{} ({})", blocked.len(), first.join("; "))
}
