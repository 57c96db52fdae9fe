//! Cases and suites.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use libtest_mimic::{Failed, Trial};
use paas_core::{Error, Result};
use tokio::runtime::{Builder, Runtime};

use crate::bench::{Bench, Fixture, Pace, Wrap};

/// A sentence of a port's contract, and its proof.
pub struct Case<F: ?Sized + Fixture> {
    pub(crate) name: &'static str,
    pub(crate) needs: fn(&F::Capabilities) -> bool,
    pub(crate) run: fn(Bench<F>) -> BoxFuture<'static, Result<()>>,
}

impl<F: ?Sized + Fixture> fmt::Debug for Case<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// The one list of a port's cases: `cases![Fixture: name, other needs one & another, …]`.
macro_rules! cases {
    ($fixture:ty: $($name:ident $(needs $($capability:ident)&+)?),* $(,)?) => {
        vec![$($crate::case::Case::<$fixture> {
            name: stringify!($name),
            needs: |_capabilities| true $($(&& _capabilities.$capability)+)?,
            run: |bench| Box::pin($name(bench)),
        }),*]
    };
}
pub(crate) use cases;

/// The functions through which a port's suite is reached: plain, behind a guard, and behind a decorator.
macro_rules! suites {
    ($port:literal, $trait:ident, $fixture:ident) => {
        /// The cases of the port for a backend; `make` gives each case a fixture of its own.
        #[must_use]
        pub fn suite<F: $fixture>(
            backend: &str,
            make: impl Fn() -> F + Send + Sync + 'static,
        ) -> $crate::Suite {
            $crate::Suite::new(
                $port,
                backend,
                &cases(),
                move || Arc::new(make()) as Arc<dyn $fixture>,
                |port| port,
            )
        }

        /// The same cases through the call pipeline, as `<backend>+guard`.
        #[must_use]
        pub fn guarded<F: $fixture>(
            backend: &str,
            make: impl Fn() -> F + Send + Sync + 'static,
        ) -> $crate::Suite {
            decorated(backend, "guard", make, |port| {
                Arc::new(paas_core::Guarded::new(paas_core::Guard::default(), port))
            })
        }

        /// The same cases through a decorator that changes nothing, as `<backend>+<decorator>`.
        #[must_use]
        pub fn decorated<F: $fixture>(
            backend: &str,
            decorator: &str,
            make: impl Fn() -> F + Send + Sync + 'static,
            wrap: impl Fn(Arc<dyn $trait>) -> Arc<dyn $trait> + Send + Sync + 'static,
        ) -> $crate::Suite {
            let name = format!("{backend}+{decorator}");
            $crate::Suite::new($port, &name, &cases(), move || Arc::new(make()) as Arc<dyn $fixture>, wrap)
        }
    };
}
pub(crate) use suites;

/// Every case of a port for one backend.
#[derive(Debug)]
pub struct Suite {
    port: &'static str,
    backend: String,
    planned: Vec<Planned>,
    /// The peer that it needs and that is not there.
    lacks: Option<&'static str>,
}

/// With this variable set to the names of peers, parted by commas, the suites that need them run.
const LIVE: &str = "PAAS_LIVE";

/// Whether a real peer, like `kubernetes`, was provided to this run, as the variable `PAAS_LIVE` tells.
#[must_use]
pub fn is_live(peer: &str) -> bool {
    std::env::var(LIVE).is_ok_and(|peers| peers.split(',').any(|name| name.trim() == peer))
}

/// What fails where a sentence does not hold.
pub type Proof = Box<dyn FnOnce() -> Result<()> + Send>;

struct Planned {
    name: &'static str,
    supported: bool,
    proof: Proof,
}

impl fmt::Debug for Planned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planned").field("name", &self.name).field("supported", &self.supported).finish()
    }
}

impl Suite {
    pub(crate) fn new<F: ?Sized + Fixture>(
        port: &'static str,
        backend: &str,
        cases: &[Case<F>],
        make: impl Fn() -> Arc<F> + Send + Sync + 'static,
        wrap: impl Fn(Arc<F::Port>) -> Arc<F::Port> + Send + Sync + 'static,
    ) -> Self {
        let capabilities = make().capabilities();
        let make = Arc::new(make);
        let wrap: Wrap<F::Port> = Arc::new(wrap);
        let plan = |case: &Case<F>| {
            let (make, wrap, run) = (Arc::clone(&make), Arc::clone(&wrap), case.run);
            let proof: Proof = Box::new(move || prove(&*make, wrap, run));
            Planned { name: case.name, supported: (case.needs)(&capabilities), proof }
        };
        Self { port, backend: backend.to_owned(), planned: cases.iter().map(plan).collect(), lacks: None }
    }

    /// Says that its cases need a real peer: where [`is_live`] denies it, they show as ignored with that reason.
    #[must_use]
    pub fn on(mut self, peer: &'static str) -> Self {
        self.lacks = (!is_live(peer)).then_some(peer);
        self
    }

    /// Whether its cases run: no peer is missing.
    pub(crate) fn runs(&self) -> bool {
        self.lacks.is_none()
    }

    /// The port's name, like `scheduler`.
    #[must_use]
    pub fn port(&self) -> &str {
        self.port
    }

    /// The backend's name, with `+` and the decorator's where there is one.
    #[must_use]
    pub fn backend(&self) -> &str {
        &self.backend
    }

    /// The names of its cases, and whether the backend declares what each needs.
    pub fn cases(&self) -> impl Iterator<Item = (&'static str, bool)> {
        self.planned.iter().map(|planned| (planned.name, planned.supported))
    }

    pub(crate) fn trials(self) -> impl Iterator<Item = Trial> {
        let Self { port, backend, planned, lacks } = self;
        planned.into_iter().map(move |Planned { name, supported, proof }| {
            let name = format!("{port}::{backend}::{name}");
            let trial = trial(name, proof);
            if supported {
                needing(lacks, trial)
            } else {
                trial.with_kind("unsupported").with_ignored_flag(true)
            }
        })
    }
}

/// A case that needs a peer which is not there is ignored, and says why.
pub(crate) fn needing(lacks: Option<&str>, trial: Trial) -> Trial {
    match lacks {
        Some(peer) => trial.with_kind(format!("needs {peer}")).with_ignored_flag(true),
        None => trial,
    }
}

pub(crate) fn trial(name: String, proof: Proof) -> Trial {
    Trial::test(name, move || proof().map_err(|e| Failed::from(format!("{e:?}"))))
}

/// Longest time a case may take, in the time of its pace.
const LONGEST: Duration = Duration::from_secs(300);

fn prove<F: ?Sized + Fixture>(
    make: &dyn Fn() -> Arc<F>,
    wrap: Wrap<F::Port>,
    run: fn(Bench<F>) -> BoxFuture<'static, Result<()>>,
) -> Result<()> {
    let pace = make().pace();
    within(pace, async {
        let bench = Bench::open(make(), wrap).await?;
        tokio::time::timeout(LONGEST, run(bench))
            .await
            .map_err(|_| Error::internal("the case does not end").with("seconds", LONGEST.as_secs()))?
    })
}

fn within(pace: Pace, case: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = match pace {
        Pace::Paused => Builder::new_current_thread().enable_all().start_paused(true).build(),
        Pace::Real => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
    };
    let runtime: Runtime = runtime.map_err(|e| Error::internal("no runtime").with_source(e))?;
    let outcome = runtime.block_on(case);
    // A stuck blocking call of a backend must not keep the other cases waiting.
    runtime.shutdown_timeout(Duration::from_secs(5));
    outcome
}
