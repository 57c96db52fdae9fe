//! All backends of one cluster, for whoever takes them as they are.

use std::sync::Arc;

use paas_core::Result;
use paas_core::platform::{Platform, PlatformBuilder};

use crate::{
    Connection, GatewayRouter, KubeCluster, KubeLogSource, KubeScheduler, KubeSecretStore, KubeStateStore,
    KubeTenancy, KubeVolumes, LogsConfig, RouterConfig, SchedulerConfig, TenancyConfig, VolumesConfig,
};

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

    /// Starts to compose a platform of them. A cluster keeps no audit log and decides nothing about users: `audit` and
    /// `authorizer` are still to be set.
    #[must_use]
    pub fn builder(&self) -> PlatformBuilder {
        Platform::builder()
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
}
