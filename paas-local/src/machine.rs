//! One machine: starts or re-joins what holds processes and sockets, and hands out a backend for every port.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use paas_core::memory::MemoryAuthorizer;
use paas_core::model::{Clock, IdSource};
use paas_core::port::Authorizer;
use paas_core::{Error, ErrorKind, Platform, PlatformBuilder, Result};
use serde::{Deserialize, Serialize};

use crate::edge::{Edge, PUBLIC};
use crate::keeper::{Keeper, KeeperOptions, Phase, ProcessSpec};
use crate::role::EDGE;
use crate::{
    DataDir, DirectoryTenancy, DirectoryVolumeStore, EncryptedSecretStore, FileAuditLog, LocalLogSource,
    LocalRouter, LocalScheduler, RedbStateStore, role,
};

/// How long the edge may take to answer for the first time.
const EDGE_START: Duration = Duration::from_secs(10);

/// How a machine is set up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LocalConfig {
    /// The directory that holds everything.
    pub dir: PathBuf,
    /// Where domains are served; port 0 takes a free one and keeps it.
    pub public: SocketAddr,
    /// How output of processes is bounded.
    #[serde(default)]
    pub keeper: KeeperOptions,
}

impl LocalConfig {
    /// Everything in `dir`, domains on 127.0.0.1:8080.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let public = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 8080));
        Self { dir: dir.into(), public, keeper: KeeperOptions::default() }
    }

    /// Serves domains elsewhere.
    #[must_use]
    pub fn with_public(mut self, public: SocketAddr) -> Self {
        self.public = public;
        self
    }
}

/// This machine, with a backend for every port.
///
/// Dropping it leaves the keeper, the edge and every app running: opened again, it goes on with them.
#[derive(Clone, Debug)]
pub struct LocalMachine {
    keeper: Keeper,
    edge: Edge,
    public: SocketAddr,
    scheduler: Arc<LocalScheduler>,
    router: Arc<LocalRouter>,
    volumes: Arc<DirectoryVolumeStore>,
    state: Arc<RedbStateStore>,
    secrets: Arc<EncryptedSecretStore>,
    audit: Arc<FileAuditLog>,
    tenancy: Arc<DirectoryTenancy>,
    logs: Arc<LocalLogSource>,
    _data: Arc<DataDir>,
}

impl LocalMachine {
    /// Opens the data directory, starts or re-joins the keeper and the edge, and finds the apps that run.
    ///
    /// # Errors
    /// `Conflict` where the public address is taken; else those of [`DataDir::open`], of the stores, and of starting
    /// the keeper.
    pub async fn open(config: LocalConfig) -> Result<Self> {
        let data = DataDir::open(&config.dir).await?;
        let keeper = Keeper::open(data.path(), config.keeper.clone()).await?;
        let outcome = Self::open_with(data, keeper.clone(), config.public).await;
        // A keeper that was started for nothing does not stay.
        if outcome.is_err() && keeper.list().await.is_ok_and(|held| held.is_empty()) {
            let _stays = keeper.shutdown(true).await;
        }
        outcome
    }

    async fn open_with(data: Arc<DataDir>, keeper: Keeper, public: SocketAddr) -> Result<Self> {
        let clock = Clock::system();
        let dir = data.path().to_owned();
        let (state, secrets, audit, volumes, tenancy) = tokio::try_join!(
            RedbStateStore::open(&data),
            EncryptedSecretStore::open(&data),
            FileAuditLog::open(&data, IdSource::random(clock.clone())),
            DirectoryVolumeStore::open(&data),
            DirectoryTenancy::open(&data),
        )?;
        let public = Self::listen(&keeper, public, &dir).await?;
        Self::start_edge(&keeper, &role::edge_process(&dir)?).await?;
        let edge = Edge::with_deadline(&dir, EDGE_START);
        let (secrets, volumes) = (Arc::new(secrets), Arc::new(volumes));
        let scheduler = LocalScheduler::open(
            keeper.clone(),
            secrets.clone(),
            volumes.clone(),
            dir.join("work"),
            clock.clone(),
        )
        .await?;
        edge.hello().await?;
        let router = LocalRouter::new(edge.clone(), keeper.clone(), clock);
        let logs = LocalLogSource::new(&keeper, scheduler.origins());
        Ok(Self {
            edge,
            public,
            router: Arc::new(router),
            volumes,
            state: Arc::new(state),
            secrets,
            audit: Arc::new(audit),
            tenancy: Arc::new(tenancy),
            logs: Arc::new(logs),
            scheduler: Arc::new(scheduler),
            keeper,
            _data: data,
        })
    }

    /// Starts the edge, or leaves the one that runs; one that was stopped with everything else is started anew.
    async fn start_edge(keeper: &Keeper, edge: &ProcessSpec) -> Result<()> {
        let stopped = keeper.list().await?.into_iter().any(|process| {
            process.id == edge.id
                && matches!(process.phase, Phase::Exited { asked: true, .. } | Phase::Stopping)
        });
        if stopped {
            Self::stop_edge(keeper).await?;
        }
        keeper.spawn(edge).await
    }

    /// Takes the public address.
    async fn listen(keeper: &Keeper, public: SocketAddr, dir: &Path) -> Result<SocketAddr> {
        let outcome = match keeper.listen(PUBLIC, public).await {
            Err(error) if error.kind() == ErrorKind::Conflict => {
                match error.context("held").and_then(|held| held.parse().ok()) {
                    Some(held) => Self::move_listener(keeper, held, public, dir).await,
                    // After a crash of the keeper the edge may hold it, and has not given it back yet.
                    None => {
                        Self::stop_edge(keeper).await?;
                        keeper.listen(PUBLIC, public).await
                    }
                }
            }
            outcome => outcome,
        };
        outcome
            .map_err(|error| error.with("what to do", "stop what listens there, or serve at another address"))
    }

    /// Another address than last time takes its place, which the edge learns by a restart; one that cannot be had leaves
    /// the edge serving at the old one.
    async fn move_listener(
        keeper: &Keeper,
        held: SocketAddr,
        public: SocketAddr,
        dir: &Path,
    ) -> Result<SocketAddr> {
        // The same port of another address cannot be tried while it is held.
        if held.port() != public.port() {
            let free = tokio::net::TcpListener::bind(public).await;
            free.map_err(|cause| {
                Error::conflict("cannot listen at the address")
                    .with("address", public)
                    .with("cause", &cause)
                    .with_source(cause)
            })?;
        }
        Self::stop_edge(keeper).await?;
        keeper.unlisten(PUBLIC).await?;
        let moved = keeper.listen(PUBLIC, public).await;
        if moved.is_err() {
            keeper.listen(PUBLIC, held).await?;
            Self::start_edge(keeper, &role::edge_process(dir)?).await?;
        }
        moved
    }

    async fn stop_edge(keeper: &Keeper) -> Result<()> {
        keeper.stop(EDGE, EDGE_START).await?;
        keeper.forget(EDGE).await
    }

    /// Starts to compose a platform of this machine's backends.
    ///
    /// Everybody who can reach the process may do everything, until another authoriser is set.
    #[must_use]
    pub fn builder(&self) -> PlatformBuilder {
        let authorizer: Arc<dyn Authorizer> = Arc::new(MemoryAuthorizer::allow_all());
        Platform::builder()
            .scheduler(self.scheduler.clone())
            .exec(self.scheduler.clone())
            .router(self.router.clone())
            .volumes(self.volumes.clone())
            .state(self.state.clone())
            .secrets(self.secrets.clone())
            .audit(self.audit.clone())
            .authorizer(authorizer)
            .tenancy(self.tenancy.clone())
            .logs(self.logs.clone())
    }

    /// Runs instances as processes.
    #[must_use]
    pub fn scheduler(&self) -> Arc<LocalScheduler> {
        self.scheduler.clone()
    }

    /// Brings requests to them.
    #[must_use]
    pub fn router(&self) -> Arc<LocalRouter> {
        self.router.clone()
    }

    /// Holds volumes as directories.
    #[must_use]
    pub fn volumes(&self) -> Arc<DirectoryVolumeStore> {
        self.volumes.clone()
    }

    /// Keeps records in redb.
    #[must_use]
    pub fn state(&self) -> Arc<RedbStateStore> {
        self.state.clone()
    }

    /// Keeps secrets encrypted.
    #[must_use]
    pub fn secrets(&self) -> Arc<EncryptedSecretStore> {
        self.secrets.clone()
    }

    /// Remembers who did what, in append-only files.
    #[must_use]
    pub fn audit(&self) -> Arc<FileAuditLog> {
        self.audit.clone()
    }

    /// Gives tenants directories of their own.
    #[must_use]
    pub fn tenancy(&self) -> Arc<DirectoryTenancy> {
        self.tenancy.clone()
    }

    /// Gives the output of instances.
    #[must_use]
    pub fn logs(&self) -> Arc<LocalLogSource> {
        self.logs.clone()
    }

    /// Where domains are served.
    #[must_use]
    pub fn public_address(&self) -> SocketAddr {
        self.public
    }

    /// The process ids of the keeper and the edge, for those who watch them.
    ///
    /// # Errors
    /// `Unavailable` without an edge.
    pub async fn pids(&self) -> Result<(u32, u32)> {
        Ok((self.keeper.pid(), self.edge.hello().await?.pid))
    }

    /// Stops the keeper and the edge with everything that runs on them (`stop_all`), or leaves them be: then they go on
    /// without a platform, and the next one finds them.
    ///
    /// # Errors
    /// `Timeout` where something cannot be stopped.
    pub async fn shutdown(&self, stop_all: bool) -> Result<()> {
        if stop_all { self.keeper.shutdown(true).await } else { Ok(()) }
    }
}
