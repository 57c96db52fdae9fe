//! What the platform is composed of: this machine's backends, or a cluster's. All else is the same program.

use std::net::SocketAddr;
use std::sync::Arc;

use paas::Result;
use paas::local::{LocalConfig, LocalMachine};
use paas::logs::{EmbeddedLogStore, LogStoreConfig, Pipeline};
use paas::platform::PlatformBuilder;
use serde_json::{Value, json};

use crate::options::Options;

#[cfg(feature = "kubernetes")]
mod cluster;

/// The backends, opened.
#[derive(Debug)]
pub(crate) struct Backends {
    place: Place,
    logs: EmbeddedLogStore,
}

/// Where apps run.
#[derive(Debug)]
enum Place {
    Machine(LocalMachine),
    #[cfg(feature = "kubernetes")]
    Cluster(cluster::Cluster),
}

impl Backends {
    pub(crate) async fn open(options: &Options) -> Result<Self> {
        let place = Place::open(options).await?;
        let logs = EmbeddedLogStore::open(LogStoreConfig::new(options.data.join("logs"))).await?;
        Ok(Self { place, logs })
    }

    /// Starts to compose a platform of them.
    pub(crate) fn builder(&self) -> PlatformBuilder {
        let builder = match &self.place {
            Place::Machine(machine) => machine.builder(),
            #[cfg(feature = "kubernetes")]
            Place::Cluster(cluster) => cluster.builder(),
        };
        builder.log_store(Arc::new(self.logs.clone())).log_pipeline(Arc::new(Pipeline::default()))
    }

    /// What else runs for the platform, for whoever starts it.
    pub(crate) async fn describe(&self) -> Result<String> {
        match &self.place {
            Place::Machine(machine) => {
                let (keeper, edge) = machine.pids().await?;
                Ok(format!("keeper {keeper}, edge {edge}"))
            }
            #[cfg(feature = "kubernetes")]
            Place::Cluster(cluster) => Ok(cluster.describe()),
        }
    }

    /// The processes of the platform, by role.
    pub(crate) async fn pids(&self) -> Result<Value> {
        let mut pids = json!({ "platform": std::process::id() });
        match &self.place {
            Place::Machine(machine) => {
                let (keeper, edge) = machine.pids().await?;
                (pids["keeper"], pids["edge"]) = (json!(keeper), json!(edge));
            }
            #[cfg(feature = "kubernetes")]
            Place::Cluster(_) => {}
        }
        Ok(pids)
    }

    /// Where domains are served, where this machine does that.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Machine(machine) => Some(machine.public_address()),
            #[cfg(feature = "kubernetes")]
            Place::Cluster(_) => None,
        }
    }

    /// How a person reaches a domain.
    pub(crate) fn url(&self, domain: &str) -> String {
        match &self.place {
            Place::Machine(machine) => format!("http://{domain}:{}/", machine.public_address().port()),
            #[cfg(feature = "kubernetes")]
            Place::Cluster(cluster) => cluster.url(domain),
        }
    }

    /// What is left once the apps have stopped.
    pub(crate) fn remains(&self) -> Option<String> {
        match &self.place {
            Place::Machine(_) => None,
            #[cfg(feature = "kubernetes")]
            Place::Cluster(cluster) => Some(cluster.remains()),
        }
    }

    /// Lets go of them, with all that runs for the platform itself or without.
    pub(crate) async fn shutdown(&self, all: bool) -> Result<()> {
        match &self.place {
            Place::Machine(machine) => machine.shutdown(all).await,
            #[cfg(feature = "kubernetes")]
            Place::Cluster(_) => Ok(()),
        }
    }
}

impl Place {
    async fn open(options: &Options) -> Result<Self> {
        let Some(cluster) = &options.cluster else {
            let config = LocalConfig::new(&options.data).with_public(options.listen);
            return LocalMachine::open(config).await.map(Self::Machine);
        };
        #[cfg(feature = "kubernetes")]
        return cluster::Cluster::open(&options.data, cluster).await.map(Self::Cluster);
        #[cfg(not(feature = "kubernetes"))]
        Err(paas::Error::unsupported("run on a cluster").with("options", format!("{cluster:?}")))
    }
}
