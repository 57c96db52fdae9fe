//! A pipeline that others send lines to.

use std::net::SocketAddr;
use std::sync::Arc;

use paas_core::port::LogPorts;
use paas_core::{Error, Result};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::sink::Sinks;
use super::{FIRST_PAUSE, LONGEST_PAUSE, Pipeline};
use crate::intake::{Intake, IntakeConfig, Quarantine, Shared};

/// Where it listens, and what came that went nowhere.
#[derive(Debug)]
pub(super) struct Served {
    config: Option<IntakeConfig>,
    quarantine: Arc<Quarantine>,
    address: watch::Sender<Option<SocketAddr>>,
}

impl Default for Served {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Served {
    pub(super) fn new(config: Option<IntakeConfig>) -> Self {
        Self { config, quarantine: Arc::default(), address: watch::Sender::new(None) }
    }

    pub(super) fn check(&self) -> Result<()> {
        self.config.as_ref().map_or(Ok(()), IntakeConfig::check)
    }

    pub(super) fn quarantine(&self) -> Arc<Quarantine> {
        Arc::clone(&self.quarantine)
    }

    /// Listens as soon as that is possible, and as long as nobody drops it.
    pub(super) async fn serve(&self, shared: Shared, ports: LogPorts) {
        let parts = (self.config.clone(), ports.store.clone(), Sinks::of(&ports));
        let (Some(config), Some(store), Some(sinks)) = parts else {
            return std::future::pending().await;
        };
        let listener = listen(config.listen).await;
        self.address.send_replace(listener.local_addr().ok());
        match Intake::new(config, shared, ports, store, sinks).serve(listener).await {}
    }
}

async fn listen(address: SocketAddr) -> TcpListener {
    let mut pause = FIRST_PAUSE;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(cause) => {
                let error = Error::unavailable("the intake cannot listen")
                    .with("address", address)
                    .with_source(cause);
                tracing::error!(?error, "nobody can send lines for now; free the address, or choose another");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
}

impl Pipeline {
    /// Where the intake listens, as soon as it does; `None` where there is none.
    pub async fn intake_address(&self) -> Option<SocketAddr> {
        self.served.config.as_ref()?;
        let mut address = self.served.address.subscribe();
        address.wait_for(Option::is_some).await.ok().and_then(|address| *address)
    }
}
