//! All backends of one cluster, for whoever takes them as they are.

use std::sync::Arc;

use paas_core::Result;
use paas_core::engine::EngineConfig;
use paas_core::platform::{Platform, PlatformBuilder};

use crate::{
    Connection, GatewayRouter, KubeCluster, KubeLogSource, KubeScheduler, KubeSecretStore, KubeStateStore,
    KubeTenancy, KubeVolumes, LogsConfig, RouterConfig, SchedulerConfig, TenancyConfig, VolumesConfig,
};

/// What the kubelet sets for every container.
const IN_A_POD: &str = "KUBERNETES_SERVICE_HOST";
/// The name of the pod, unless it shares the network of its node.
const POD: &str = "HOSTNAME";

/// What a company decides about the backends on its cluster.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct BackendsConfig {
    /// About pods.
    pub scheduler: SchedulerConfig,
    /// About reading output.
    pub logs: LogsConfig,
    /// About how services are published.
    pub router: RouterConfig,
    /// About how much a tenant may use.
    pub tenancy: TenancyConfig,
    /// About storage.
    pub volumes: VolumesConfig,
}

/// The backends of a cluster, opened.
#[derive(Clone, Debug)]
pub struct KubeBackends {
    scheduler: Arc<KubeScheduler>,
    logs: Arc<KubeLogSource>,
    router: Arc<GatewayRouter>,
    tenancy: Arc<KubeTenancy>,
    volumes: Arc<KubeVolumes>,
    cluster: Arc<KubeCluster>,
    state: Arc<KubeStateStore>,
    secrets: Arc<KubeSecretStore>,
}

impl KubeBackends {
    /// Opens all of them.
    ///
    /// # Errors
    /// Those of [`KubeScheduler::open`] and [`GatewayRouter::open`].
    pub async fn open(connection: &Connection, config: BackendsConfig) -> Result<Self> {
        let secrets = Arc::new(KubeSecretStore::new(connection.clone()));
        let scheduler = KubeScheduler::open(connection.clone(), secrets.clone(), config.scheduler).await?;
        Ok(Self {
            logs: Arc::new(KubeLogSource::with_config(&scheduler, &config.logs)),
            scheduler: Arc::new(scheduler),
            router: Arc::new(GatewayRouter::open(connection.clone(), config.router).await?),
            tenancy: Arc::new(KubeTenancy::new(connection.clone()).with_config(config.tenancy)),
            volumes: Arc::new(KubeVolumes::new(connection.clone()).with_config(config.volumes)),
            cluster: Arc::new(KubeCluster::new(connection.clone())),
            state: Arc::new(KubeStateStore::new(connection.clone())),
            secrets,
        })
    }

    /// Starts to compose a platform of them, whose engine is that of [`KubeBackends::engine`]. A cluster keeps no audit log and
    /// decides nothing about users: `audit` and `authorizer` are still to be set.
    #[must_use]
    pub fn builder(&self) -> PlatformBuilder {
        Platform::builder()
            .engine(Self::engine())
            .scheduler(self.scheduler.clone())
            .exec(self.scheduler.clone())
            .logs(self.logs.clone())
            .router(self.router.clone())
            .tenancy(self.tenancy.clone())
            .volumes(self.volumes.clone())
            .cluster(self.cluster.clone())
            .state(self.state.clone())
            .secrets(self.secrets.clone())
    }

    /// How an engine works unless said otherwise. In a pod, the replica has the pod's name: it stays over restarts of the
    /// container, and no other pod has it. Replicas in pods that share the network of their node have the node's name, so
    /// they are to be named by whoever composes them.
    #[must_use]
    pub fn engine() -> EngineConfig {
        engine(|name| std::env::var(name).ok())
    }
}

/// The defaults, as this environment tells them.
fn engine(variable: impl Fn(&str) -> Option<String>) -> EngineConfig {
    let mut config = EngineConfig::default();
    let pod = variable(IN_A_POD).and_then(|_| variable(POD)).filter(|name| !name.is_empty());
    if let Some(pod) = pod {
        config.replica = pod;
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_in_pods_have_the_names_of_their_pods() {
        let replica = |known: &[(&str, &str)]| {
            let known: Vec<(String, String)> =
                known.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
            engine(|name| known.iter().find(|own| own.0 == name).map(|own| own.1.clone())).replica
        };
        let server = ("KUBERNETES_SERVICE_HOST", "10.96.0.1");
        assert_eq!(replica(&[server, ("HOSTNAME", "platform-1")]), "platform-1");
        let elsewhere = EngineConfig::default().replica;
        assert_eq!(replica(&[("HOSTNAME", "laptop")]), elsewhere, "outside, a machine has one");
        assert_eq!(replica(&[server, ("HOSTNAME", "")]), elsewhere);
        assert_eq!(replica(&[server]), elsewhere);
    }
}
