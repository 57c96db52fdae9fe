//! The platform's side: an async handle to the keeper of a directory.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream;
use paas_core::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::follow::Follower;
use super::link::{Failure, Link, Reply};
use super::model::{KeeperEvent, ProcessSpec, ProcessState, millis};
use super::record::{SpoolItem, SpoolOffset};
use super::wire::{Answer, Ask};

/// How a keeper is started, and how long its client waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct KeeperOptions {
    /// The most memory that output may take (32 MiB). The oldest is dropped beyond that.
    pub spool_bytes: u64,
    /// Memory is taken and freed in pieces of this size (4 MiB).
    pub segment_bytes: u64,
    /// How much of each process's last output is kept in any case (8 KiB).
    pub tail_bytes: usize,
    /// How long a call waits for its answer (10 s); a stop waits for the grace on top of that.
    #[serde(with = "millis")]
    pub deadline: Duration,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        Self {
            spool_bytes: 32 * 1024 * 1024,
            segment_bytes: 4 * 1024 * 1024,
            tail_bytes: 8 * 1024,
            deadline: Duration::from_secs(10),
        }
    }
}

impl KeeperOptions {
    /// Sets the bound of the spool.
    #[must_use]
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }

    /// Sets the size of a segment.
    #[must_use]
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Sets how long a call waits.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

/// A handle to the keeper of a data directory. Cloning is cheap; all clones share one connection.
///
/// When the keeper dies, the handle starts another one and tells so by [`KeeperEvent::Reset`]; calls under way are
/// repeated within their deadline, which is safe because each of them is idempotent. Dropping the last handle closes
/// the connection and leaves the keeper and its processes alone.
#[derive(Debug, Clone)]
pub struct Keeper {
    link: Arc<Link>,
}

impl Keeper {
    /// Connects to the keeper of `dir`, starting one if none runs.
    ///
    /// The keeper is this very program, run again with [`ROLE_ENV`](super::ROLE_ENV) set, so `main` must begin with
    /// [`run_if_asked`](super::run_if_asked).
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if another process holds the directory (named with its pid), or if the keeper that runs
    /// speaks another protocol; [`ErrorKind::Timeout`] if it does not answer.
    pub async fn open(dir: &Path, options: KeeperOptions) -> Result<Self> {
        Ok(Self { link: Link::open(dir, options).await? })
    }

    /// The keeper's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.link.pid()
    }

    /// Has the keeper keep this process. `Ok` when it runs, or already did.
    ///
    /// Idempotent by (id, generation): the same again does nothing, also for a task that has ended; a higher generation
    /// first stops the old one. The intent is on disk before anything starts, and stays even if the start fails: a
    /// service is tried again with back-off ([`Phase::Failed`](super::Phase::Failed)).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a wrong spec; [`ErrorKind::NotFound`] or [`ErrorKind::Denied`] for a missing or
    /// unusable executable or directory; [`ErrorKind::Conflict`] if a newer generation is kept, this one was stopped, or
    /// this one is kept with other content; [`ErrorKind::Throttled`] beyond 4096 processes.
    pub async fn spawn(&self, spec: &ProcessSpec) -> Result<()> {
        let patience = spec.grace + Duration::from_secs(15);
        self.call(&Ask::Spawn { spec: spec.clone() }, patience).await.map(drop)
    }

    /// Stops a process for good: TERM to its group, KILL after `grace`. `Ok` when nothing of it is left, also of what
    /// left its group; a process that is not kept is fine.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if something survives KILL.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<()> {
        let patience = grace + Duration::from_secs(15);
        self.call(&Ask::Stop { process: id.to_owned(), grace }, patience).await.map(drop)
    }

    /// Forgets a process that has ended, with all that is stored of it; one that is not kept is fine.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] if something of it is left.
    pub async fn forget(&self, id: &str) -> Result<()> {
        self.ask(Ask::Forget { process: id.to_owned() }).await.map(drop)
    }

    /// All processes, by id, in one call.
    ///
    /// # Errors
    /// Only if the keeper can't be reached.
    pub async fn list(&self) -> Result<Vec<ProcessState>> {
        match self.ask(Ask::List).await?.answer {
            Answer::States { states } => Ok(states),
            _ => Err(unexpected()),
        }
    }

    /// One process.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not kept.
    pub async fn status(&self, id: &str) -> Result<ProcessState> {
        match self.ask(Ask::Status { process: id.to_owned() }).await?.answer {
            Answer::States { mut states } => states.pop().ok_or_else(unexpected),
            _ => Err(unexpected()),
        }
    }

    /// The last output of a process, both streams as they came, at most [`KeeperOptions::tail_bytes`]; also of runs that
    /// ended, and also if the spool has moved on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not kept.
    pub async fn tail(&self, id: &str) -> Result<Vec<u8>> {
        self.ask(Ask::Tail { process: id.to_owned() }).await.map(|reply| reply.body)
    }

    /// What happens from now on. [`KeeperEvent::Reset`] says that events may have been missed: list again.
    pub fn events(&self) -> impl Stream<Item = KeeperEvent> + Send + Unpin + use<> {
        Box::pin(stream::unfold(self.link.events(), |mut events| async move {
            match events.recv().await {
                Ok(event) => Some((event, events)),
                Err(RecvError::Lagged(_)) => Some((KeeperEvent::Reset, events)),
                Err(RecvError::Closed) => None,
            }
        }))
    }

    /// Has the keeper listen on `addr` under a name. Port 0 takes a free port and keeps it for that name for ever, also
    /// for keepers to come. Returns the address.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`], naming the address, if it is in use, or if the name has another address.
    pub async fn listen(&self, name: &str, addr: SocketAddr) -> Result<SocketAddr> {
        match self.ask(Ask::Listen { name: name.to_owned(), addr }).await?.answer {
            Answer::Address { addr } => Ok(addr),
            _ => Err(unexpected()),
        }
    }

    /// A duplicate of a listening socket, non-blocking. While nobody accepts, connections queue.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown name; [`ErrorKind::Conflict`] after a restart of the keeper while somebody
    /// else still holds the socket and has not [given](Self::give) it back.
    pub async fn take(&self, name: &str) -> Result<TcpListener> {
        let mut reply = self.ask(Ask::Take { name: name.to_owned() }).await?;
        reply.descriptors.pop().map(TcpListener::from).ok_or_else(unexpected)
    }

    /// Gives a duplicate of a listening socket to a new keeper, after [`KeeperEvent::Reset`].
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for an unknown name; [`ErrorKind::Invalid`] if it isn't the socket of that name.
    pub async fn give(&self, name: &str, socket: impl AsFd) -> Result<()> {
        let socket = socket.as_fd().try_clone_to_owned().map_err(|error| {
            Error::new(ErrorKind::Unavailable, "cannot duplicate the socket").with_source(error)
        })?;
        let ask = Ask::Give { name: name.to_owned() };
        self.call_with(&ask, self.link.deadline(), Some(Arc::new(socket))).await.map(drop)
    }

    /// Closes the keeper's socket of that name and forgets its port; an unknown name is fine.
    ///
    /// # Errors
    /// Only if that can't be stored.
    pub async fn unlisten(&self, name: &str) -> Result<()> {
        self.ask(Ask::Unlisten { name: name.to_owned() }).await.map(drop)
    }

    /// All output, from `from` on, or from what was last [committed](Self::commit).
    ///
    /// A follower holds the spool's memory itself: when the keeper is killed, it reads the old spool to its very end
    /// and goes on with the next keeper's, and has lost and doubled nothing. What it can't get it says as
    /// [`SpoolItem::Gap`]. It ends after [`shutdown`](Self::shutdown).
    pub fn spool(
        &self,
        from: Option<SpoolOffset>,
    ) -> impl Stream<Item = Result<SpoolItem>> + Send + Unpin + use<> {
        Box::pin(stream::unfold(Follower::new(self.clone(), from), |mut follower| async move {
            follower.next().await.map(|item| (item, follower))
        }))
    }

    /// Lets the keeper free what lies before `offset`. An offset of an earlier keeper is fine.
    ///
    /// # Errors
    /// Only if the keeper can't be reached.
    pub async fn commit(&self, offset: SpoolOffset) -> Result<()> {
        self.ask(Ask::Commit { offset }).await.map(drop)
    }

    /// Ends the keeper: with `stop_all` after stopping every process for good, each with its own grace; else they go on,
    /// and the next keeper finds them. The handle is of no use afterwards.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if something survives.
    pub async fn shutdown(&self, stop_all: bool) -> Result<()> {
        let patience = if stop_all { Duration::from_secs(3600) } else { self.link.deadline() };
        self.link.close_after_next_loss(true);
        let ended = self.call(&Ask::Shutdown { stop_all }, patience).await;
        match ended {
            // Gone before its answer came through: that is what was asked for.
            Err(error) if error.context("keeper") == Some("closed") => Ok(()),
            Err(error) => {
                self.link.close_after_next_loss(false);
                Err(error)
            }
            Ok(_) => Ok(()),
        }
    }

    pub(crate) async fn ask(&self, ask: Ask) -> Result<Reply> {
        self.call(&ask, self.link.deadline()).await
    }

    async fn call(&self, ask: &Ask, patience: Duration) -> Result<Reply> {
        self.call_with(ask, patience, None).await
    }

    async fn call_with(
        &self,
        ask: &Ask,
        patience: Duration,
        descriptor: Option<Arc<OwnedFd>>,
    ) -> Result<Reply> {
        let deadline = Instant::now() + patience;
        loop {
            match self.link.call(ask.clone(), descriptor.clone(), deadline).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Lost) => {}
                Err(Failure::Refused(error)) => return Err(error),
            }
        }
    }
}

fn unexpected() -> Error {
    Error::internal("the keeper's answer does not fit the question")
}
