//! What a case works with.

use std::fmt::{self, Debug};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use paas_core::{Error, ErrorKind, Result};
use tokio::time::Instant;

use crate::World;

/// How time passes in a fixture's cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// Waiting costs nothing: tokio's clock jumps to the next timer.
    Paused,
    /// As on the wall. Needed as soon as sockets, files or processes are involved.
    Real,
}

/// A backend and what cases need around it. Each case gets a fixture of its own, made within its runtime.
pub trait Fixture: Send + Sync + 'static {
    /// The port, like `dyn Scheduler`.
    type Port: ?Sized + Send + Sync + 'static;
    /// What a backend of the port can declare; `()` where there is nothing.
    type Capabilities: PartialEq + Debug + Send + 'static;

    /// What the backend declares. Listing cases asks this and nothing else, so it must not dial.
    fn capabilities(&self) -> Self::Capabilities;

    /// Opens the backend.
    fn open(&self) -> BoxFuture<'_, Result<Arc<Self::Port>>>;

    /// Opens the same data again, as after a restart. Only fixtures that declare it to be durable are asked.
    fn reopen(&self) -> BoxFuture<'_, Result<Arc<Self::Port>>> {
        self.open()
    }

    /// Takes away what a case has left where others would be in its way. Called once, however the case ended.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// How time passes.
    fn pace(&self) -> Pace {
        Pace::Paused
    }

    /// How long the backend may take to show what it was told.
    fn deadline(&self) -> Duration {
        Duration::from_secs(10)
    }
}

/// Puts something around a port: a guard, faults that do not strike, a company's own decorator.
pub(crate) type Wrap<P> = Arc<dyn Fn(Arc<P>) -> Arc<P> + Send + Sync>;

/// An opened backend, the fixture it came from, and names that nobody else uses.
pub struct Bench<F: ?Sized + Fixture> {
    /// The backend under test.
    pub port: Arc<F::Port>,
    /// What stands around it.
    pub fixture: Arc<F>,
    /// Names and scopes of this case alone.
    pub world: World,
    wrap: Wrap<F::Port>,
}

impl<F: ?Sized + Fixture> fmt::Debug for Bench<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bench").field("world", &self.world).finish_non_exhaustive()
    }
}

impl<F: ?Sized + Fixture> Bench<F> {
    pub(crate) async fn open(fixture: Arc<F>, wrap: Wrap<F::Port>) -> Result<Self> {
        let port = wrap(fixture.open().await?);
        Ok(Self { port, fixture, world: World::new(), wrap })
    }

    /// Gives up the backend and opens its data again.
    ///
    /// # Errors
    /// Those of the fixture.
    pub async fn reopened(self) -> Result<Self> {
        let Self { port, fixture, world, wrap } = self;
        drop(port);
        let port = wrap(fixture.reopen().await?);
        Ok(Self { port, fixture, world, wrap })
    }

    /// Asks again and again until there is an answer: the only way in which a case waits.
    ///
    /// # Errors
    /// Those of `ask`, and `Timeout` naming `what` after the fixture's deadline.
    pub async fn eventually<T, A, Fut>(&self, what: &str, ask: A) -> Result<T>
    where
        A: Fn() -> Fut,
        Fut: Future<Output = Result<Option<T>>>,
    {
        let until = Instant::now() + self.fixture.deadline();
        loop {
            if let Some(answer) = ask().await? {
                return Ok(answer);
            }
            if Instant::now() >= until {
                return Err(Error::new(ErrorKind::Timeout, "it never came to this").with("what", what));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What a future gives within the fixture's deadline.
    ///
    /// # Errors
    /// `Timeout` naming `what`.
    pub async fn soon<T>(&self, what: &str, answer: impl Future<Output = T>) -> Result<T> {
        tokio::time::timeout(self.fixture.deadline(), answer)
            .await
            .map_err(|_| Error::new(ErrorKind::Timeout, "it never came to this").with("what", what))
    }
}

/// Asserts that a call was refused in one way.
#[track_caller]
pub(crate) fn refused<T: Debug>(outcome: Result<T>, kind: ErrorKind) {
    match outcome {
        Ok(value) => panic!("expected {kind}, but it was accepted: {value:?}"),
        Err(error) => assert_eq!(error.kind(), kind, "{error:?}"),
    }
}
