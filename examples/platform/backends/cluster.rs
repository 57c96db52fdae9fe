//! A cluster's backends, and what a cluster does not bring: an audit log and an authoriser.

use std::path::Path;
use std::sync::Arc;

use paas::kubernetes::{BackendsConfig, Connection, ConnectionConfig, KubeBackends};
use paas::local::{DataDir, FileAuditLog};
use paas::memory::MemoryAuthorizer;
use paas::model::{Clock, IdSource};
use paas::platform::PlatformBuilder;
use paas::{Error, Result};

use crate::kubectl;
use crate::options::ClusterOptions;

/// The platform's name on the cluster, unless it is given another.
const NAME: &str = "shop";

#[derive(Debug)]
pub(crate) struct Cluster {
    backends: KubeBackends,
    audit: Arc<FileAuditLog>,
    platform: String,
    gateway: String,
    /// Where the Gateway answers, if that is known.
    address: Option<String>,
}

impl Cluster {
    pub(super) async fn open(data: &Path, options: &ClusterOptions) -> Result<Self> {
        let platform = options.platform.clone().unwrap_or_else(|| NAME.to_owned());
        let unknown = |why: String| {
            Error::invalid("which Gateway is to publish domains is not known").with("reason", why)
        };
        let gateway = kubectl::gateway(options.gateway.as_deref()).await.map_err(unknown)?;
        let address = match &options.address {
            Some(address) => Some(address.clone()),
            None => kubectl::address(&gateway).await.ok(),
        };
        let connection = Connection::connect(ConnectionConfig::default().platform(&platform)).await?;
        let mut config = BackendsConfig::default();
        if let Some((namespace, name)) = gateway.split_once('/') {
            config.router = config.router.gateway(namespace, name);
        }
        let backends = KubeBackends::open(&connection, config).await?;
        let audit =
            FileAuditLog::open(&DataDir::open(data).await?, IdSource::random(Clock::system())).await?;
        Ok(Self { backends, audit: Arc::new(audit), platform, gateway, address })
    }

    /// As on one machine: whoever reaches the process may do everything.
    pub(super) fn builder(&self) -> PlatformBuilder {
        let builder = self.backends.builder().audit(self.audit.clone());
        builder.authorizer(Arc::new(MemoryAuthorizer::allow_all()))
    }

    pub(super) fn describe(&self) -> String {
        format!("on the cluster as {}, domains at the Gateway {}", self.platform, self.gateway)
    }

    pub(super) fn url(&self, domain: &str) -> String {
        match &self.address {
            Some(address) => format!("http://{domain}/ (curl -H 'Host: {domain}' http://{address}/)"),
            None => format!("http://{domain}/, by way of the Gateway {}", self.gateway),
        }
    }

    pub(super) fn remains(&self) -> String {
        let label = format!("paas-sdk.dev/platform={}", self.platform);
        format!("its records and data stay; `kubectl delete namespace -l {label}` removes all of it")
    }
}
